"""Images of four channels for networks that take four: RGBA, CMYK and the like, each channel as it is."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import TOY, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.generate import generate
from vemcompress.data.images import ImageError, read_image, to_square
from vemcompress.data.pair_stream import PairStream
from vemcompress.data.pair_stream import test_pairs as whole_pairs
from vemcompress.data.pairs import find_pairs
from vemcompress.data.squares import load_square
from vemcompress.errors import InputError
from vemcompress.export.exporting import export_onnx
from vemcompress.runs.pictures import to_uint8

pytestmark = pytest.mark.usefixtures("one_thread")


def four(seed: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three RGBA pictures and one of three channels."""
    folder = tmp_path_factory.mktemp("four")
    for i in range(3):
        Image.fromarray(four(i)).save(folder / f"{i}.png")
    Image.fromarray(four(9)[:, :, :3]).save(folder / "rgb.png")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return toy_teacher_file(tmp_path_factory.mktemp("net") / "four.safetensors", in_channels=4)


def test_four_channels_are_read_as_they_are(tmp_path):
    values = four(0)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.frombytes("CMYK", (40, 40), values.tobytes()).save(tmp_path / "a.tif")
    Image.frombytes("RGBX", (40, 40), values.tobytes()).save(tmp_path / "x.tif")
    for name in ("a.png", "a.tif", "x.tif"):
        assert np.array_equal(read_image(tmp_path / name, 4), values)
    assert read_image(tmp_path / "a.png").shape == (40, 40, 3)  # laid over white, as for every network of three
    white = values[..., 3:] / 255 * values[..., :3] + 255 - values[..., 3:]
    assert np.abs(read_image(tmp_path / "a.png") - white).max() <= 1


def test_other_pictures_are_refused_with_what_they_have(tmp_path):
    for mode, told in (("RGB", "3 channels"), ("L", "one channel"), ("LA", "2 channels"), ("P", "one channel")):
        Image.new(mode, (8, 8)).save(tmp_path / "a.png")
        with pytest.raises(ImageError, match=f"it has {told}, but the network needs 4"):
            read_image(tmp_path / "a.png", 4)


def test_a_channel_is_resized_without_regard_to_the_fourth(tmp_path):
    values = four(1)
    values[:20, :, 3] = 0  # a picture would lose what is transparent
    alone = np.array(Image.fromarray(values[:, :, 0]).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(to_square(values, 16)[:, :, 0], alone)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert load_square(tmp_path / "a.png", 16, 4).shape == (16, 16, 4)


def test_pairs_have_four_channels_on_the_side_that_wants_them(tmp_path):
    both = np.concatenate((four(0), four(1)), axis=1)
    Image.fromarray(both).save(tmp_path / "0.png")
    pairs = find_pairs(tmp_path, kind="paired")
    inputs, targets = whole_pairs(pairs, 40, (4, 3))
    assert torch.equal(((inputs[0] + 1) * 127.5).round(), torch.from_numpy(four(0)).permute(2, 0, 1).float())
    assert targets.shape == (1, 3, 40, 40)
    batch = PairStream(pairs, channels=(3, 4), size=32, batch=1, seed=0)._prepare(0)
    assert batch.input.shape == (1, 3, 32, 32) and batch.target.shape == (1, 4, 32, 32)


def test_it_is_distilled_evaluated_exported_and_used(images, teacher, tmp_path):
    told = []
    result = distill(
        teacher, data=images, out=tmp_path / "run", overrides=TOY, device="cpu", on_event=lambda e: told.append(e)
    )
    assert any(e["event"] == "skipped" and "it has 3 channels" in e["reason"] for e in told)
    found = evaluate(result.run, data=images, metrics=["ssim_teacher"], device="cpu")
    assert found.images == 3 and len(found.unreadable) == 1
    assert Image.open(tmp_path / "run" / "samples" / "step-000006.png").mode == "RGB"
    made = generate(result.run, images, tmp_path / "torch")
    assert len(made.written) == 3 and "rgb.png" in {path.name for path in made.skipped}
    for uint8 in (False, True):
        file = tmp_path / f"{uint8}.onnx"
        export_onnx(result.student, file, uint8=uint8)
        generate(file, images, tmp_path / file.stem)
        one, other = (np.asarray(Image.open(tmp_path / part / "0.png")).astype(int) for part in ("torch", file.stem))
        assert np.abs(one - other).max() <= 1


def test_photos_alone_stop_a_run_with_the_reason(teacher, tmp_path):
    (tmp_path / "rgb").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "rgb" / "a.png")
    with pytest.raises(InputError, match=r"none of 1 images can be read \(the first, .*it has 3 channels"):
        distill(teacher, data=tmp_path / "rgb", out=tmp_path / "run", overrides=TOY, device="cpu")
    with pytest.raises(InputError, match=r"none of the 1 images can be read.*it has 3 channels"):
        generate(teacher, tmp_path / "rgb", tmp_path / "out")


def test_an_output_of_four_channels_is_an_rgba_file_and_its_picture_is_the_first_three(images, tmp_path):
    file = toy_teacher_file(tmp_path / "g.safetensors", in_channels=4, out_channels=4)
    generate(file, images, tmp_path / "out")
    assert Image.open(tmp_path / "out" / "0.png").mode == "RGBA"
    shown = to_uint8(torch.rand(1, 4, 8, 8))
    assert shown.shape == (1, 8, 8, 3)


def test_images_from_python_keep_their_fourth_channel(teacher, tmp_path):
    given = [four(0), Image.fromarray(four(1)), torch.from_numpy(four(2)).permute(2, 0, 1)]
    distill(teacher, data=given, out=tmp_path / "run", overrides=[*TOY, "train.steps=1"], device="cpu")
    kept = [read_image(path, 4) for path in sorted((tmp_path / "run" / "given_images").iterdir())]
    assert all(np.array_equal(found, four(i)) for i, found in enumerate(kept)) and len(kept) == 3
