"""The kernel distance against torchmetrics' mathematics."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from vemcompress.errors import InputError
from vemcompress.evaluation import distances
from vemcompress.evaluation.distances import kernel_distance


def features(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 16))) + shift


def test_all_images_at_once_are_torchmetrics_mmd():
    x, y = features(40, 1), features(40, 2, shift=0.2)
    value, deviation = kernel_distance(x, y)
    assert value == pytest.approx(float(poly_mmd(x, y, degree=3, gamma=None, coef=1.0)), rel=1e-9)
    assert deviation is None


def test_sets_of_different_sizes_keep_the_estimate_unbiased():
    values = [kernel_distance(features(12, 10 + i), features(50, 1000 + i))[0] for i in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / len(values) ** 0.5


def test_subsets_agree_with_the_whole_and_repeat_with_the_seed():
    x, y = features(300, 1), features(260, 2, shift=0.3)
    whole, _ = kernel_distance(x, y)
    mean, deviation = kernel_distance(x, y, subset_size=100, seed=3)
    assert mean == pytest.approx(whole, abs=3 * deviation / 10)
    assert deviation > 0
    assert kernel_distance(x, y, subset_size=100, seed=3) == (mean, deviation)
    assert kernel_distance(x, y, subset_size=100, seed=4) != (mean, deviation)


def test_the_shared_gram_matrix_changes_nothing(monkeypatch):
    x, y = features(90, 1), features(70, 2)
    shared = kernel_distance(x, y, subsets=5, subset_size=80)
    monkeypatch.setattr(distances, "_GRAM_LIMIT", 0)
    assert kernel_distance(x, y, subsets=5, subset_size=80) == pytest.approx(shared, rel=1e-9)


def test_one_image_is_too_few():
    with pytest.raises(InputError, match="at least 2"):
        kernel_distance(features(1, 1), features(9, 2))
