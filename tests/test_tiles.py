"""Large photos tile by tile give the same result as in one piece, or a warning if they cannot."""

import numpy as np
import pytest
import torch
from export_toys import toy
from PIL import Image
from test_generate import OURS, graph, photo, read

from vemcompress.commands.generate import generate
from vemcompress.errors import UsageError
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.tiles import Tiled
from vemcompress.export.torch_model import wrap


def model_of(name: str):
    return wrap(toy(name), name, torch.device("cpu"))


@pytest.mark.parametrize("name", ["srgan", "srvgg", "rrdb_by_2"])
@pytest.mark.parametrize(("height", "width"), [(70, 41), (33, 97)])
def test_tiles_give_the_image_of_one_piece(name, height, width):
    model, told = model_of(name), []
    photos = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    tiled = Tiled(model, 20, 24, told.append)(photos)
    assert tiled.shape == (2, model.scale * height, model.scale * width, 3) and not told
    assert np.abs(tiled.astype(int) - model(photos)).max() <= 1  # sums over other sizes round otherwise


def test_tiles_of_a_network_that_looks_at_the_whole_image_are_told_once(tmp_path):
    told, photos = [], np.random.default_rng(0).integers(0, 256, (1, 64, 200, 3), dtype=np.uint8)
    photos[:, :, 100:] //= 4
    Tiled(model_of("mobile_resnet"), 32, 16, told.append)(photos)
    assert [event["event"] for event in told] == ["warning"] and "receptive field" in told[0]["message"]


def test_tiles_begin_where_the_networks_grid_does():
    model = model_of("resnet")  # of BatchNorm, so that it looks no further than its kernels
    photos = np.random.default_rng(0).integers(0, 256, (1, 90, 110, 3), dtype=np.uint8)
    tiled = Tiled(model, 30, 37, print)
    assert (tiled.tile, tiled.overlap) == (32, 40)
    assert np.abs(tiled(photos).astype(int) - model(photos)).max() <= 1


def test_the_command_tiles_photos_and_enlarges_them(tmp_path, call):
    twice = 'half = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Resize <mode = "nearest"> (x, , half)'
    model = graph(tmp_path / "m.onnx", body=twice, y="float[N, 3, H2, W2]", said=OURS | {"scale": "2"})
    pixels = photo(tmp_path / "a.png", 50, 70)
    code, _, err = call("generate", model, "-i", tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile", 16)
    assert code == 0, err
    assert np.array_equal(read(tmp_path / "b.png"), pixels.repeat(2, 0).repeat(2, 1))


def test_a_large_photo_needs_the_memory_of_a_tile(tmp_path, monkeypatch):
    from vemcompress.commands import generate_photos

    seen = []
    monkeypatch.setattr(
        MemoryLimit, "check", lambda self, what, height, width, *more, **rest: seen.append((height, width))
    )
    model = graph(tmp_path / "m.onnx", said=OURS)
    Image.new("RGB", (300, 40)).save(tmp_path / "a.png")
    generate(model, tmp_path / "a.png", tmp_path / "b.png", tile=64)
    assert set(seen) == {(40, 128)} and generate_photos


def test_tiles_are_refused_where_they_mean_nothing(tmp_path):
    photo(tmp_path / "a.png")
    free, fixed = graph(tmp_path / "free.onnx", said=OURS), graph(tmp_path / "fixed.onnx", x="float[1, 3, 8, 8]")
    for model, options in (
        (fixed, {"tile": 16}),
        (free, {"overlap": 3}),
        (free, {"tile": 0}),
        (free, {"tile": 8, "overlap": -1}),
    ):
        with pytest.raises(UsageError, match="tile"):
            generate(model, tmp_path / "a.png", tmp_path / "b.png", **options)


def test_a_trained_network_leaves_no_seam(test_data, tmp_path):
    source = sorted((test_data / "horse2zebra/testA").iterdir())[0]
    with Image.open(source) as image:
        image.crop((0, 0, 96, 64)).save(tmp_path / "a.png")
    for name, options in {"whole.png": {}, "tiles.png": {"tile": 32, "overlap": 16}}.items():
        generate(test_data / "teachers/srgan_x4.pth", tmp_path / "a.png", tmp_path / name, **options)
    whole, tiles = (read(tmp_path / name).astype(int) for name in ("whole.png", "tiles.png"))
    assert whole.shape == (256, 384, 3) and np.abs(whole - tiles).max() <= 2
