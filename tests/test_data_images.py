"""Reading and writing images: every odd file is converted or named."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from vemcompress.data import images
from vemcompress.data.images import ImageError, read_image, save_png, to_square
from vemcompress.data.listing import list_images
from vemcompress.data.unfinished import finished
from vemcompress.errors import InputError, OutputError


def halves(height=6, width=8):
    """Red above, blue below."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, :, 0] = 255
    array[height // 2 :, :, 2] = 255
    return array


def test_list_is_in_natural_order_in_any_case_without_hidden_or_other_files(tmp_path):
    for name in ("10.JPG", "2.jpg", "a.TiFF", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["2.jpg", "10.JPG", "a.TiFF"]


def test_absent_and_empty_folders_say_so(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no images"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *((".jpg", mode) for mode in ("RGB", "CMYK", "L")),
        *((".png", mode) for mode in ("RGB", "P", "RGBA", "L", "1", "LA")),
        *((".tif", mode) for mode in ("RGB", "CMYK", "P", "RGBA", "L", "1", "LA")),
        *((".webp", mode) for mode in ("RGB", "RGBA", "L")),
        *((".bmp", mode) for mode in ("RGB", "P", "L", "1")),
        *((suffix, "RGB") for suffix in (".jfif", ".jpe", ".avif", ".jp2", ".ppm")),
        *((".gif", mode) for mode in ("RGB", "P", "L", "1")),
    ],
)
def test_every_mode_a_format_can_hold_becomes_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(halves(16, 16)).convert(mode).save(path)
    array = read_image(path)
    assert array.shape == (16, 16, 3) and array.dtype == np.uint8
    if mode in ("RGB", "CMYK", "P", "RGBA"):
        assert np.abs(array.astype(int) - halves(16, 16)).mean() < 12


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn anticlockwise of upright
    Image.fromarray(halves()).save(tmp_path / "a.png", exif=exif)
    array = read_image(tmp_path / "a.png")
    assert array.shape == (8, 6, 3)
    assert (array == np.rot90(halves(), -1)).all()


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    palette = Image.fromarray(halves(2, 2)[:1]).quantize(4)
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((0, 0)))
    assert (read_image(tmp_path / "a.png") == 255).all()
    assert (read_image(tmp_path / "b.png") == 255).all()


@pytest.mark.parametrize(
    ("values", "suffix", "expected"),
    [
        (np.array([[0, 257, 32896, 65535]], np.uint16), ".png", [0, 1, 128, 255]),
        (np.array([[0, 257, 32896, 65535]], np.uint16), ".tif", [0, 1, 128, 255]),
        (np.array([[0, 257, 32896, 65535]], np.int32), ".tif", [0, 1, 128, 255]),
        (np.array([[0, 7, 200]], np.int32), ".tif", [0, 7, 200]),
        (np.array([[0.0, 0.5, 1.0, np.nan]], np.float32), ".tif", [0, 128, 255, 0]),
    ],
)
def test_wide_greys_are_scaled_not_clipped(tmp_path, values, suffix, expected):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 1].tolist() == expected


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("keep", [0, 1, 20, 400])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_a_truncated_file_is_named_with_its_reason(tmp_path, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError, match=path.name) as caught:
        read_image(path)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_text_other_formats_and_absent_files_are_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "really.pcx")
    (tmp_path / "really.pcx").rename(tmp_path / "pcx.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "eps.png")
    for name in ("text.jpg", "pcx.png", "eps.png", "absent.png"):
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_already_where_pillow_only_warns(tmp_path, monkeypatch):
    Image.new("1", (40, 40)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="attack"):
        read_image(tmp_path / "bomb.png")


def test_a_single_pixel_is_enlarged():
    assert (to_square(np.full((1, 1, 3), 7, np.uint8), 32) == np.full((32, 32, 3), 7)).all()


def test_png_round_trip_leaves_nothing_beside_it(tmp_path):
    save_png(tmp_path / "new" / "a.png", halves())
    assert (read_image(tmp_path / "new" / "a.png") == halves()).all()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_a_full_disk_keeps_the_old_picture_and_says_what_to_do(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png", halves())

    def full(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(images.os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        save_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert (read_image(tmp_path / "a.png") == halves()).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_output_below_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save_png(tmp_path / "file" / "a.png", halves())


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    for name in ("a.gif", "a.webp"):
        assert (read_image(tmp_path / name) == [255, 0, 0]).all()


def jpeg(**options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((48, 40)).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"progressive": True, "restart_marker_rows": 1}],
    ids=["sequential", "progressive", "restarts", "both"],
)
def test_a_jpeg_is_completed_where_its_end_marker_alone_is_missing(options):
    whole = jpeg(quality=30, **options)
    assert finished(whole[:-2]) == finished(whole[:-1]) == whole
    pixels = np.asarray(Image.open(io.BytesIO(whole)))
    for cut in (*range(3, 30), *range(30, len(whole) - 650, 41)):  # 650 bytes hold the header
        found = finished(whole[:-cut])
        assert found is None or (np.asarray(Image.open(io.BytesIO(found))) == pixels).all(), cut
    assert finished(whole[:-30]) is None


def test_a_jpeg_without_its_end_is_read_and_noted_once_but_not_half_of_one(tmp_path):
    whole = jpeg()
    (tmp_path / "whole.jpg").write_bytes(whole)
    (tmp_path / "a.jpg").write_bytes(whole[:-2])
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    notes = []
    for _ in range(2):
        assert (read_image(tmp_path / "a.jpg") == read_image(tmp_path / "whole.jpg")).all()
        images.tell_notes(notes.append)
    assert [(note["event"], note["path"]) for note in notes] == [("mended", str(tmp_path / "a.jpg"))]
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "half.jpg")


def test_what_a_folder_has_beside_images_is_told(tmp_path):
    for name in ("a.png", "b.heic", "c.HEIC", "notes.txt", "README", ".hidden.doc"):
        (tmp_path / name).touch()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "d.png").touch()
    (tmp_path / "empty").mkdir()
    told = []
    list_images(tmp_path, on_event=told.append)
    heic = {} if ".heic" in images.EXTENSIONS else {".heic": 2}
    assert told[0]["kinds"] == {**heic, ".txt": 1, "no extension": 1} and told[0]["folders"] == ["inside"]
    assert ("vemcompress[heic]" in told[0]["hint"]) == bool(heic)


def test_images_in_sub_folders_are_named_or_listed_by_their_paths(tmp_path):
    for name in ("b/10.png", "b/2.png", "a/c/1.png", ".thumbnails/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"but in a/, b/; .*data\.recursive=true"):
        list_images(tmp_path)
    found = list_images(tmp_path, recursive=True)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a/c/1.png", "b/2.png", "b/10.png"]


def test_a_folder_of_other_files_says_which(tmp_path):
    (tmp_path / "a.doc").touch()
    with pytest.raises(InputError, match=r"\.doc \(1\)"):
        list_images(tmp_path)
