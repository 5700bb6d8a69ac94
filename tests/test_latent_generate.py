"""Images from latent vectors: the same ones from PyTorch and ONNX, in files, grids and rows; bad input is refused."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_toys import latent_toy
from onnx import parser
from PIL import Image
from toys import toy_images, toy_teacher_file

from vemcompress import generate
from vemcompress.data.latents import draw
from vemcompress.data.vectors import read_vectors
from vemcompress.errors import InputError, NumericalError, UsageError
from vemcompress.export import memory
from vemcompress.export.exporting import export_onnx
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.graphs.session import open_onnx


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A DCGAN's weights and its two exports."""
    folder, model = tmp_path_factory.mktemp("files"), latent_toy("dcgan")
    paths = {kind: folder / f"{kind}.onnx" for kind in ("float", "uint8")}
    for kind, path in paths.items():
        export_onnx(model, path, uint8=kind == "uint8")
    save_generator(folder / "g.safetensors", model)
    return {"torch": folder / "g.safetensors", **paths}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image).astype(int)


def drawn(z: np.ndarray) -> np.ndarray:
    """What the toy draws of these vectors, N x H x W x 3."""
    with torch.no_grad():
        images = latent_toy("dcgan")(torch.from_numpy(z)).permute(0, 2, 3, 1)
    return (images * 127.5 + 127.5).round().clamp(0, 255).int().numpy()


def first(seed: int) -> np.ndarray:
    return draw("uniform", 6, seed, [0])


@pytest.mark.parametrize("kind", ["torch", "float", "uint8"])
def test_a_seed_gives_the_same_images_from_every_kind_of_file_in_any_number(files, kind, tmp_path):
    result = generate(files[kind], output=tmp_path, samples=5, seed=7, batch=2)
    assert [path.name for path in result.written] == [f"seed7_{n:06d}.png" for n in range(5)]
    assert result.images == 5 and not result.assumed
    expected = drawn(draw("uniform", 6, 7, range(5)))
    assert expected.std() > 10
    assert max(np.abs(pixels(path) - e).max() for path, e in zip(result.written, expected, strict=True)) <= 1
    alone = generate(files[kind], output=tmp_path / "one.png", samples=1, seed=7)
    assert alone.written == [tmp_path / "one.png"] and np.abs(pixels(tmp_path / "one.png") - expected[0]).max() <= 1


def test_without_a_number_64_are_drawn_of_seed_0(files, call, tmp_path):
    code, out, err = call("generate", files["uint8"], "--out", tmp_path / "out", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["written"]) == found["images"] == 64 and found["written"][0].endswith("seed0_000000.png")


def test_a_grid_is_nearly_square_and_white_where_it_is_empty(files, call, tmp_path):
    code, out, _ = call("generate", files["uint8"], "--samples", 5, "--seed", 7, "--grid", "--out", tmp_path)
    assert code == 0 and out.startswith(f"1 picture of 5 images in {tmp_path / 'seed7_grid.png'}, ")
    grid, expected = pixels(tmp_path / "seed7_grid.png"), drawn(draw("uniform", 6, 7, range(5)))
    assert grid.shape == (2 * 16, 3 * 16, 3)
    assert np.abs(grid[:16, 16:32] - expected[1]).max() <= 1 and np.abs(grid[16:, 16:32] - expected[4]).max() <= 1
    assert (grid[16:, 32:] == 255).all()
    generate(files["uint8"], output=tmp_path / "a" / "g.png", samples=4, grid=True)
    assert pixels(tmp_path / "a" / "g.png").shape == (32, 32, 3)


def test_truncation_brings_vectors_nearer_to_their_mean(files, tmp_path):
    result = generate(files["float"], output=tmp_path, samples=3, truncation=0.5)
    expected = drawn(draw("uniform", 6, 0, range(3)) / 2)
    assert max(np.abs(pixels(path) - e).max() for path, e in zip(result.written, expected, strict=True)) <= 1
    same = [pixels(path) for path in generate(files["float"], output=tmp_path, samples=3, truncation=0).written]
    assert np.array_equal(same[0], same[1]) and np.array_equal(same[0], same[2])


@pytest.mark.parametrize(("seed_to", "name"), [(None, "seed7_to_seed8.png"), (3, "seed7_to_seed3.png")])
def test_a_row_goes_from_one_seeds_first_image_to_the_others(files, tmp_path, seed_to, name):
    result = generate(files["uint8"], output=tmp_path, seed=7, seed_to=seed_to, interpolate=4)
    assert result.written == [tmp_path / name] and result.images == 4
    row, last = pixels(tmp_path / name), first(8 if seed_to is None else seed_to)
    assert row.shape == (16, 64, 3)
    for part, z in ((row[:, :16], first(7)), (row[:, 16:32], (2 * first(7) + last) / 3), (row[:, -16:], last)):
        assert np.abs(part - drawn(z)[0]).max() <= 1


@pytest.mark.parametrize("kind", ["torch", "float"])
def test_vectors_of_a_file_are_drawn(files, kind, call, tmp_path):
    z = draw("uniform", 6, 9, range(3))
    np.save(tmp_path / "mine.npy", z.astype(np.float64))
    code, _, err = call("generate", files[kind], "--latent", tmp_path / "mine.npy", "--out", tmp_path / "out")
    assert code == 0, err
    names = [f"mine_{n:06d}.png" for n in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    expected = drawn(z)
    assert max(np.abs(pixels(tmp_path / "out" / n) - e).max() for n, e in zip(names, expected, strict=True)) <= 1
    np.save(tmp_path / "one.npy", z[1])
    generate(files[kind], output=tmp_path / "one.png", latent=tmp_path / "one.npy")
    assert np.abs(pixels(tmp_path / "one.png") - expected[1]).max() <= 1


def npy(array, **options) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


HUGE = npy(np.zeros((2, 6), np.float32)).replace(b"(2, 6), }     ", b"(900000, 6), }")
HOSTILE = {
    "holds NaN or Inf": npy(np.full((2, 6), np.nan, np.float32)),
    "holds NaN or Inf; give": npy(np.full((2, 6), 1e300)),
    "holds 2 x 7": npy(np.zeros((2, 7))),
    "holds 0 x 6": npy(np.zeros((0, 6))),
    "holds 1 x 2 x 6": npy(np.zeros((1, 2, 6))),
    "holds a single number": npy(np.float64(1)),
    "holds object": npy(np.array([{}] * 6), allow_pickle=True),
    "holds int64": npy(np.zeros((2, 6), int)),
    "is incomplete": npy(np.zeros((2, 6)))[:-1],
    "is incomplete: 48 bytes": HUGE,
    "not readable": b"PK\x03\x04 no array",
    "not readable as": b"",
}


@pytest.mark.parametrize("said", HOSTILE)
def test_a_file_that_holds_no_latent_vectors_ends_with_4(files, said, call, tmp_path):
    (tmp_path / "z.npy").write_bytes(HOSTILE[said])
    code, _, err = call("generate", files["uint8"], "--latent", tmp_path / "z.npy", "--out", tmp_path / "out")
    assert code == 4 and f"z.npy: {said}" in err and not (tmp_path / "out").exists()


def test_absent_and_endless_files_of_vectors_end_with_4(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "none.npy", "no such file"), (tmp_path / "pipe", "not a regular file")):
        with pytest.raises(InputError, match=said):
            read_vectors(path, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--truncation", "-0.1"), "truncation -0.1: give a number of at least 0"),
        (("--truncation", "nan"), "truncation nan"),
        (("--samples", "0"), "samples 0: give a whole number from 1"),
        (("--samples", "2000000"), "samples 2000000: give a whole number from 1 to 1000000"),
        (("--seed", "-1"), "seed -1: give a whole number from 0"),
        (("--interpolate", "1"), "interpolate 1: give a whole number from 2"),
        (("--interpolate", "4", "--samples", "4"), "--interpolate excludes --samples"),
        (("--interpolate", "4", "--grid"), "--interpolate excludes --grid"),
        (("--latent", "z.npy", "--seed", "0"), "--latent excludes --seed"),
        (("--seed-to", "4"), "give --interpolate N"),
        (("--samples", "999999", "--grid"), "pixels, more than"),
        (("--input", "photos"), "not from photos; omit --input"),
        (("--recursive",), "omit --recursive"),
    ],
)
def test_what_cannot_be_drawn_ends_with_2(files, call, tmp_path, options, said):
    code, _, err = call("generate", files["uint8"], *options, "--out", tmp_path / "out")
    assert code == 2 and said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_model_of_photos_draws_no_samples_and_says_what_it_wants(call, tmp_path):
    teacher = toy_teacher_file(tmp_path / "t.safetensors")
    photos = toy_images(tmp_path / "photos", 1)
    code, _, err = call("generate", teacher, "--out", tmp_path / "out")
    assert code == 2 and "needs photos; give a photo or a folder of photos with --input" in err
    code, _, err = call("generate", teacher, "-i", photos, "--samples", 3, "--seed", 0, "--out", tmp_path / "out")
    assert code == 2 and "needs photos, not latent vectors; omit --samples, --seed" in err
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="no output"):
        generate(teacher, photos)


def test_several_images_are_no_single_picture_and_vectors_are_not_overwritten(files, tmp_path):
    with pytest.raises(UsageError, match="is one file, but there are 2 images; give a folder, or --grid"):
        generate(files["uint8"], output=tmp_path / "a.png", samples=2)
    with pytest.raises(UsageError, match="written as PNG"):
        generate(files["uint8"], output=tmp_path / "a.jpg", grid=True)
    (tmp_path / "z.png").write_bytes(npy(np.zeros((1, 6), np.float32)))
    with pytest.raises(UsageError, match="holds the latent vectors and would be overwritten"):
        generate(files["uint8"], output=tmp_path / "z.png", latent=tmp_path / "z.png")
    assert [path.name for path in tmp_path.iterdir()] == ["z.png"]


def test_nan_ends_with_5_and_leaves_no_picture(tmp_path):
    path = foreign(tmp_path / "f.onnx", made="given = Reshape (z, shape)\n y = Sqrt (given)")
    with pytest.raises(NumericalError, match="produced NaN"):
        generate(path, output=tmp_path / "out", samples=2)
    assert not (tmp_path / "out").exists()


def test_a_batch_that_memory_cannot_hold_ends_with_6(files, monkeypatch, call, tmp_path):
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    monkeypatch.setattr(memory, "_growth", lambda run: 1 << 18)
    code, _, err = call("generate", files["torch"], "--batch", 40, "--out", tmp_path / "out")
    assert code == 6 and "40 images of 16 x 16 pixels at a time" in err and "use --batch 3 or less" in err


def test_an_onnx_file_draws_without_torch(files, tmp_path):
    np.save(tmp_path / "z.npy", first(1))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from vemcompress import generate\n"
        f"where = {str(tmp_path / 'out')!r}\n"
        f"for name in {[str(files[kind]) for kind in ('float', 'uint8')]!r}:\n"
        "    for more in ({'samples': 2}, {'grid': True}, {'interpolate': 3},"
        f" {{'latent': {str(tmp_path / 'z.npy')!r}}}):\n"
        "        print(len(generate(name, output=where, **more).written))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.stdout.split(), done.stderr) == (["2", "1", "1", "1"] * 2, "")


# -- graphs of other programs ----------------------------------------------------------------------------------------


def foreign(
    path: Path,
    z: str = "float[N, 12]",
    y: str = "float[N, 3, 2, 2]",
    shape: str = "-1, 3, 2, 2",
    made: str = "y = Reshape (z, shape)",
    said: dict | None = None,
) -> Path:
    """A graph whose images are its vectors in another shape."""
    body = f"shape = Constant <value = int64[{shape.count(',') + 1}] {{{shape}}}> ()\n {made}"
    text = f'<ir_version: 8, opset_import: ["": 18]>\nmain ({z} z) => ({y} y) {{ {body} }}'
    model = parser.parse_model(text)
    onnx.helper.set_model_props(model, said or {})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("z", "y", "shape"),
    [
        ("float[N, 12]", "float[N, 3, 2, 2]", "-1, 3, 2, 2"),
        ("float[N, 12, 1, 1]", "float[N, 3, 2, 2]", "-1, 3, 2, 2"),
        ("float[1, 12]", "float[1, 3, 2, 2]", "-1, 3, 2, 2"),
        ("float[N, 12]", "float[N, 2, 2, 3]", "-1, 2, 2, 3"),
        ("float[N, 12]", "float[N, 1, 3, 4]", "-1, 1, 3, 4"),
    ],
)
def test_a_simple_graph_of_another_program_draws_and_what_is_assumed_is_told(z, y, shape, tmp_path):
    told = []
    path = foreign(tmp_path / "f.onnx", z, y, shape)
    result = generate(path, output=tmp_path / "out", samples=3, seed=2, batch=3, on_event=told.append)
    assert result.assumed == "z from N(0, 1), RGB in [-1, 1]" and told[0]["event"] == "assumed"
    levels = np.clip(np.round(draw("normal", 12, 2, [1]) * 127.5 + 127.5), 0, 255)
    sides = tuple(map(int, shape.split(", ")[1:]))
    expected = levels.reshape(sides).transpose(1, 2, 0) if sides[0] in (1, 3) else levels.reshape(sides)
    assert np.abs(pixels(result.written[1]) - expected.squeeze()).max() <= 1


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ({"z": "float[N, S]"}, "size of its latent vectors is unknown"),
        ({"z": "float[4, 12]", "y": "float[4, 3, 2, 2]"}, "takes 4 latent vectors at a time"),
        ({"y": "float[N, 12]", "shape": "-1, 12"}, "only graphs that give one image"),
        ({"y": "float[N, 6, 1, 2]", "shape": "-1, 6, 1, 2"}, "only graphs that give one image"),
        ({"z": "int64[N, 12]", "y": "int64[N, 3, 2, 2]"}, "not an image-to-image model"),
        ({"said": {"input_kind": "latent", "layout": "NCHW", "range": "-1..1", "prior": "odd"}}, "prior 'odd'"),
        ({"said": {"input_kind": "latent", "layout": "NCHW", "range": "-1..1", "prior": "normal", "latent": "9"}},
         "latent '9'"),
    ],
)  # fmt: skip
def test_a_graph_that_draws_no_images_ends_with_4(graph, said, call, tmp_path):
    code, _, err = call("generate", foreign(tmp_path / "f.onnx", **graph), "--out", tmp_path / "out")
    assert code == 4 and said in err and not (tmp_path / "out").exists()


def test_where_photos_are_wanted_a_graph_of_latent_vectors_is_refused(files):
    with pytest.raises(InputError, match="not an image-to-image model"):
        open_onnx(files["float"])


def test_the_real_dcgan_draws_different_faces_and_the_same_from_its_export(tmp_path):
    data = os.environ.get("VEMCOMPRESS_TEST_DATA")
    if not data:
        pytest.skip("VEMCOMPRESS_TEST_DATA is not set")
    from vemcompress.weights.loading import load

    file = Path(data) / "teachers/dcgan_faces_32/generator.pt"
    export_onnx(load(file).generator, tmp_path / "faces.onnx", uint8=True)
    grids = []
    for model in (file, tmp_path / "faces.onnx"):
        generate(model, output=tmp_path / "grid.png", samples=16, seed=7, grid=True)
        grids.append(pixels(tmp_path / "grid.png"))
    assert grids[0].shape == (128, 128, 3) and np.abs(grids[0] - grids[1]).max() <= 1
    faces = grids[0].reshape(4, 32, 4, 32, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1)
    assert faces.std(0).mean() > 30  # no two are alike
