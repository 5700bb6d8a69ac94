"""Depth: 16-bit greys as the targets of pairs, in full precision."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import TOY

from vemcompress import recipe as recipes
from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.data.depth import read_wide, wide_square
from vemcompress.data.images import ImageError
from vemcompress.data.pair_stream import PairStream
from vemcompress.data.pairs import find_pairs
from vemcompress.evaluation.fidelity import rmse

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    """Photos whose grey is their depth, roughly; depth has 16 bits."""
    root, rng = tmp_path_factory.mktemp("depth"), np.random.default_rng(0)
    for split in ("train", "test"):
        for side in "AB":
            (root / f"{split}{side}").mkdir()
        for i in range(4):
            depth = rng.integers(0, 65536, (5, 5)).repeat(8, 0).repeat(8, 1).astype(np.uint16)
            Image.fromarray(depth).save(root / f"{split}B" / f"{i}.png")
            Image.fromarray((depth >> 8).astype(np.uint8)[:, :, None].repeat(3, 2)).save(
                root / f"{split}A" / f"{i}.png"
            )
    return root


def test_all_sixteen_bits_reach_a_network_of_one_channel(depths):
    pairs = find_pairs(depths, kind="paired")
    assert pairs.wide and pairs.channels == (3, 1)
    batch = PairStream(pairs, size=32, load_size=40, batch=4, seed=0)._prepare(0)
    values = ((batch.target.double() + 1) * 32767.5).round()
    grey = ((batch.input[:, :1].double() + 1) * 127.5).round()
    assert torch.equal((values / 256).floor(), grey)  # cropped and flipped together
    there = {int(v) for i in range(4) for v in np.unique(read_wide(depths / "trainB" / f"{i}.png"))}
    assert {int(v) for v in values.unique()} <= there
    rgb = PairStream(pairs, channels=(3, 3), size=32, load_size=40, batch=1, seed=0)._prepare(0)
    assert rgb.target.shape == (1, 3, 32, 32)


def test_depth_is_resized_without_losing_bits():
    values = np.full((40, 40), 12345, np.uint16)
    high, low = wide_square(values, 16).astype(int).transpose(2, 0, 1)
    assert (256 * high + low == 12345).all()


def test_another_picture_among_depth_maps_is_passed_over_with_the_reason(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="it is not a 16-bit grey"):
        read_wide(tmp_path / "a.png")


def test_the_root_mean_squared_difference():
    a, b = torch.zeros(2, 1, 1, 2), torch.tensor([[[[0.3, 0.4]]], [[[0.0, 0.0]]]])
    assert rmse(a, b).tolist() == pytest.approx([(0.125) ** 0.5, 0.0])


@pytest.mark.parametrize("algorithm", ["kd", "omgd"])
def test_depth_is_learnt_from_pairs_and_measured(depths, tmp_path, algorithm):
    toy = [o for o in TOY if algorithm == "omgd" or not o.startswith("algorithm.")]
    more = [f"algorithm.name={algorithm}", "data.load_size=40"]
    result = distill(data=depths, out=tmp_path / "run", recipe="pairs", overrides=[*toy, *more], device="cpu")
    assert recipes.read(tmp_path / "run" / "recipe.toml").student.out_channels == 1
    assert set(result.losses) >= {"recon", "information"}
    found = evaluate(result.run, data=depths, metrics=["l1_target", "rmse_target"], device="cpu")
    assert 0 < found.metrics["l1_target"] < found.metrics["rmse_target"] < 1
