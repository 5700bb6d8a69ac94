"""Photos through models: sizes kept, nothing overwritten, bad files named, no torch for an .onnx file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from PIL import Image
from toys import toy_teacher

from vemcompress import recipe as recipes
from vemcompress.commands.generate import generate
from vemcompress.errors import InputError, NumericalError, OutputError, UsageError
from vemcompress.weights.artifact import save_generator

OURS = {"layout": "NCHW", "range": "-1..1", "multiple": "4", "min_size": "8"}
NEGATIVE = "y = Neg (x)"


def graph(path: Path, x="float[N, 3, H, W]", body=NEGATIVE, y=None, said=None) -> Path:
    text = f'<ir_version: 8, opset_import: ["": 18]>\nmain ({x} x) => ({y or x} y) {{ {body} }}'
    model = parser.parse_model(text)
    onnx.helper.set_model_props(model, said or {})
    onnx.save(model, path)
    return path


def photo(path: Path, height=13, width=21, seed=0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


@pytest.fixture
def negative(tmp_path) -> Path:
    """A model of ours that turns a photo into its negative: what must come out is known to the last bit."""
    return graph(tmp_path / "model.onnx", said=OURS)


def test_photos_of_any_size_come_out_in_their_size(negative, tmp_path):
    photos = {
        f"{i}.png": photo(tmp_path / "in" / f"{i}.png", *size, i) for i, size in enumerate([(13, 21), (1, 1), (8, 40)])
    }
    result = generate(negative, tmp_path / "in", tmp_path / "a" / "out")
    assert [path.name for path in result.written] == list(photos) and not result.assumed
    for path in result.written:
        assert np.array_equal(read(path), 255 - photos[path.name])


def test_batches_give_the_same_pictures_under_the_right_names(negative, tmp_path):
    sizes = [(8, 8), (8, 8), (9, 8), (8, 8), (8, 8), (8, 8)]
    photos = [photo(tmp_path / "in" / f"{i}.png", *size, i) for i, size in enumerate(sizes)]
    result = generate(negative, tmp_path / "in", tmp_path / "out", batch=2)
    assert len(result.written) == len(photos)
    for i, pixels in enumerate(photos):
        assert np.array_equal(read(tmp_path / "out" / f"{i}.png"), 255 - pixels)


def test_unreadable_photos_are_skipped_and_named(negative, tmp_path):
    photo(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_text("not a picture")
    events = []
    result = generate(negative, tmp_path / "in", tmp_path / "out", on_event=events.append)
    assert [path.name for path in result.skipped] == ["bad.jpg"] and len(result.written) == 1
    assert [event["event"] for event in events] == ["skipped", "generated"]


def test_where_no_photo_can_be_read_no_folder_is_left(negative, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.jpg").write_text("not a picture")
    with pytest.raises(InputError, match="none of the 1 images"):
        generate(negative, tmp_path / "in", tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_an_output_error(negative, tmp_path, monkeypatch):
    photo(tmp_path / "a.bmp")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        generate(negative, tmp_path / "a.bmp", tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be created"):
        generate(negative, tmp_path / "a.bmp", tmp_path / "file" / "out")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for those who are not root
    with pytest.raises(OutputError, match="no permission"):
        generate(negative, tmp_path / "a.bmp", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_with_one_stem_get_pictures_of_their_own(negative, tmp_path):
    for name in ("a.jpg", "a.png", "A.bmp", "a.jpg.png", "b.bmp"):
        photo(tmp_path / "in" / name)
    result = generate(negative, tmp_path / "in", tmp_path / "out")
    names = [path.name.casefold() for path in result.written]
    assert len(set(names)) == 5 and "b.png" in names and len(list((tmp_path / "out").iterdir())) == 5


def test_no_photo_is_overwritten(negative, tmp_path):
    pixels = photo(tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="overwritten"):
        generate(negative, tmp_path / "in", tmp_path / "in")
    with pytest.raises(UsageError, match="overwritten"):
        generate(negative, tmp_path / "in" / "a.png", tmp_path / "in" / "a.png")
    assert np.array_equal(read(tmp_path / "in" / "a.png"), pixels)
    photo(tmp_path / "in" / "b.bmp")
    assert generate(negative, tmp_path / "in" / "b.bmp", tmp_path / "in").written == [tmp_path / "in" / "b.png"]


def test_one_photo_can_name_its_picture(negative, tmp_path):
    photo(tmp_path / "a.bmp")
    assert generate(negative, tmp_path / "a.bmp", tmp_path / "new" / "b.png").written[0].name == "b.png"
    with pytest.raises(UsageError, match="PNG"):
        generate(negative, tmp_path / "a.bmp", tmp_path / "b.jpg")


@pytest.mark.parametrize(("size", "expected"), [(26, (26, 42)), ((5, 9), (5, 9))])
def test_size_resizes_first(negative, tmp_path, size, expected):
    photo(tmp_path / "a.bmp")
    assert read(generate(negative, tmp_path / "a.bmp", tmp_path / "out", size=size).written[0]).shape[:2] == expected


@pytest.mark.parametrize("x", ["float[1, 3, H, W]", "float[N, H, W, 3]", "float16[N, 3, H, W]"])
def test_foreign_graphs_run_with_what_was_assumed(x, tmp_path):
    pixels = photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    result = generate(graph(tmp_path / "m.onnx", x), tmp_path / "in", tmp_path / "out", batch=2)
    assert np.array_equal(read(tmp_path / "out" / "a.png"), 255 - pixels) and "[-1, 1]" in result.assumed


def test_graphs_of_one_size_see_photos_resized(tmp_path):
    photo(tmp_path / "a.bmp")
    result = generate(graph(tmp_path / "m.onnx", "float[1, 3, 16, 16]"), tmp_path / "a.bmp", tmp_path / "out")
    assert read(result.written[0]).shape == (13, 21, 3)


def test_grey_models_take_photos_and_write_grey_pictures(tmp_path):
    photo(tmp_path / "a.bmp")
    model = graph(tmp_path / "m.onnx", "float[N, 1, H, W]", said=OURS)
    assert read(generate(model, tmp_path / "a.bmp", tmp_path / "out").written[0]).shape == (13, 21)


@pytest.mark.parametrize(
    ("x", "body", "y"),
    [
        ("float[N, 100]", NEGATIVE, None),
        ("float[N, 12, H, W]", NEGATIVE, None),
        ("int64[N, 3, H, W]", NEGATIVE, None),
        ("float[N, 3, H, W]", "y = GlobalAveragePool (x)", "float[N, 3, A, B]"),
        ("float[N, 3, H, W]", "y = Flatten (x)", "float[N, M]"),
    ],
)
def test_graphs_that_are_not_image_to_image_are_refused(x, body, y, tmp_path):
    photo(tmp_path / "a.bmp")
    with pytest.raises(InputError, match=r"m\.onnx"):
        generate(graph(tmp_path / "m.onnx", x, body, y), tmp_path / "a.bmp", tmp_path / "out")


@pytest.mark.parametrize("content", [None, b"", b"no model at all, but text", b"\x08\x08\x12\x00"])
def test_absent_and_broken_files_are_input_errors(content, tmp_path):
    photo(tmp_path / "a.bmp")
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError) as caught:
        generate(tmp_path / "m.onnx", tmp_path / "a.bmp", tmp_path / "out")
    assert caught.value.exit_code == 4 and not (tmp_path / "out").exists()


def test_a_file_cut_anywhere_or_with_a_name_that_is_no_text_is_an_input_error(negative, tmp_path):
    photo(tmp_path / "a.bmp")
    whole = negative.read_bytes()
    end = whole.index(b"layout") - 4  # where the metadata begins, which a model may lack
    for broken in (
        *(whole[:cut] for cut in range(0, end, 3)),
        whole.replace(b"Neg", b"N\xffg"),
        whole.replace(b"x", b"\xff"),
    ):
        (tmp_path / "m.onnx").write_bytes(broken)
        with pytest.raises(InputError):
            generate(tmp_path / "m.onnx", tmp_path / "a.bmp", tmp_path / "out")


def test_nan_is_a_numerical_error_not_a_black_picture(tmp_path):
    photo(tmp_path / "a.bmp")
    with pytest.raises(NumericalError, match="NaN"):
        generate(graph(tmp_path / "m.onnx", body="y = Sqrt (x)", said=OURS), tmp_path / "a.bmp", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["gpu", "cpu:0:1", "cuda:x"])
def test_devices_that_are_not_here_are_usage_errors(negative, device, tmp_path):
    with pytest.raises(UsageError, match="device"):
        generate(negative, tmp_path, tmp_path / "out", device=device)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", ""])
def test_weights_outside_the_models_folder_are_refused(location, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    photo(tmp_path / "a.bmp")
    path = graph(tmp_path / "m" / "m.onnx", body="y = Identity (x)")
    model = onnx.load(path)
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    # Not among the initialisers, where a check would look first, but inside a node.
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["w"], value=tensor))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError):
        generate(path, tmp_path / "a.bmp", tmp_path / "out")


def test_weights_beside_the_model_are_read(tmp_path):
    pixels = photo(tmp_path / "a.bmp")
    path = graph(
        tmp_path / "m.onnx", body="minus = Constant <value = float[1] {-1.0}> ()\n y = Mul (x, minus)", said=OURS
    )
    model = onnx.load(path)
    minus = onnx.numpy_helper.from_array(np.array([-1.0], np.float32), "minus")
    del model.graph.node[0]
    model.graph.initializer.append(minus)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert np.array_equal(read(generate(path, tmp_path / "a.bmp", tmp_path / "out").written[0]), 255 - pixels)


def test_an_onnx_file_runs_without_torch(negative, tmp_path):
    photo(tmp_path / "a.bmp")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from vemcompress.commands.generate import generate\n"
        f"print(len(generate({str(negative)!r}, {str(tmp_path / 'a.bmp')!r}, {str(tmp_path / 'out')!r}).written))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_pytorch_and_its_exports_draw_the_same_pictures(tmp_path):
    from export_toys import toy

    from vemcompress.export.exporting import export_onnx
    from vemcompress.weights.artifact import save_generator

    model = toy("mobile_resnet")
    save_generator(tmp_path / "m.safetensors", model)
    export_onnx(model, tmp_path / "float.onnx")
    export_onnx(model, tmp_path / "bytes.onnx", uint8=True)
    photo(tmp_path / "a.bmp", 37, 50)
    pictures = [
        read(generate(tmp_path / name, tmp_path / "a.bmp", tmp_path / name.replace(".", "_")).written[0]).astype(int)
        for name in ("m.safetensors", "float.onnx", "bytes.onnx")
    ]
    assert pictures[0].shape == (37, 50, 3) and pictures[0].std() > 1
    assert max(np.abs(pictures[0] - other).max() for other in pictures[1:]) <= 1


def test_real_photos_through_an_export(tmp_path):
    data = os.environ.get("VEMCOMPRESS_TEST_DATA")
    if not data:
        pytest.skip("VEMCOMPRESS_TEST_DATA is not set")
    from export_toys import toy

    from vemcompress.export.exporting import export_onnx

    export_onnx(toy("unet_batch"), tmp_path / "m.onnx", uint8=True)
    (tmp_path / "in").mkdir()
    for folder in ("horse2zebra/testA", "facades/test", "camvid/test"):
        for source in sorted((Path(data) / folder).iterdir())[:2]:
            (tmp_path / "in" / f"{folder.partition('/')[0]}_{source.name}").symlink_to(source.resolve())
    result = generate(tmp_path / "m.onnx", tmp_path / "in", tmp_path / "out", batch=4)
    assert len(result.written) == 6 and not result.skipped
    for source in (tmp_path / "in").iterdir():
        with Image.open(source) as image:
            assert read(tmp_path / "out" / f"{source.stem}.png").shape[1::-1] == image.size


def test_a_run_that_draws_from_label_maps_is_given_label_maps_of_any_size(tmp_path):
    network = toy_teacher("unet", in_channels=3, downs=4)
    run, maps = tmp_path / "run", tmp_path / "maps"
    run.mkdir()
    maps.mkdir()
    plan = recipes.read("omgd", ["data.kind=labels", "data.classes=3", "data.void=7", "data.direction=BtoA"])
    (run / "recipe.toml").write_text(plan.toml())
    save_generator(run / "student.safetensors", network)
    values = np.array([[0, 1, 2, 7]], np.uint8).repeat(20, 0).repeat(5, 1)
    Image.fromarray(values).save(maps / "a.png")
    generate(run, maps, tmp_path / "out")
    classes = torch.from_numpy(np.pad(values, ((0, 12), (0, 12)), mode="edge"))
    one_hot = torch.stack([(classes == c).float() for c in range(3)])
    with torch.no_grad():
        expected = ((network(one_hot[None])[0] + 1) * 127.5).round().clamp(0, 255)[:, :20, :20]
    drawn = np.asarray(Image.open(tmp_path / "out/a.png")).transpose(2, 0, 1)
    assert np.abs(drawn - expected.numpy()).max() <= 1


def test_photos_in_sub_folders_give_pictures_in_equal_ones(negative, tmp_path):
    for name in ("a.png", "in/a.png", "in/a.jpg", "in/deep/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name)
    result = generate(negative, tmp_path / "photos", tmp_path / "out", recursive=True)
    names = {p.relative_to(tmp_path / "out").as_posix() for p in result.written}
    assert names == {"a.png", "in/a.png.png", "in/a.jpg.png", "in/deep/b.png"}
    events = []
    generate(negative, tmp_path / "photos", tmp_path / "flat", on_event=events.append)
    assert [event["folders"] for event in events if event["event"] == "ignored"] == [["in"]]
