"""Batches keep the order, the sizes and the protocol's rounding."""

import numpy as np
import pytest
import torch

from vemcompress.data.images import save_png
from vemcompress.data.samples import batches, to_network
from vemcompress.evaluation.gather import to_bytes


@pytest.fixture
def paths(tmp_path):
    sizes = [(20, 20), (20, 20), (20, 20), (24, 16), (20, 20)]
    for i, (height, width) in enumerate(sizes):
        save_png(tmp_path / f"{i}.png", np.full((height, width, 3), i, np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no")
    return [tmp_path / name for name in ("0.png", "1.png", "bad.png", "2.png", "3.png", "4.png")]


def test_images_of_their_own_sizes_share_a_batch_only_with_their_like(paths):
    bad = []
    found = [(tuple(images.shape), images[:, 0, 0, 0].tolist()) for _, images in batches(paths, None, 2, bad.append)]
    assert found == [((2, 3, 20, 20), [0, 1]), ((1, 3, 20, 20), [2]), ((1, 3, 24, 16), [3]), ((1, 3, 20, 20), [4])]
    assert [error.path.name for error in bad] == ["bad.png"]


def test_resized_images_fill_their_batches_in_order(paths):
    found = [([p.name for p in names], tuple(images.shape)) for names, images in batches(paths, 8, 3, lambda e: None)]
    assert found == [(["0.png", "1.png", "2.png"], (3, 3, 8, 8)), (["3.png", "4.png"], (2, 3, 8, 8))]


def test_outputs_become_bytes_by_truncation():
    values = torch.tensor([-1.0, -0.001, 0.5, 0.999, 1.0, 1.5, -2.0])
    assert to_bytes(values).tolist() == [0, 127, 191, 254, 255, 255, 0]


def test_bytes_fill_the_networks_range():
    assert to_network(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
