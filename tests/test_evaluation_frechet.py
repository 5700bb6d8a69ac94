"""The Frechet distance against pytorch-fid's own, and its statistics against numpy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import calculate_frechet_distance

from vemcompress.errors import InputError, NumericalError
from vemcompress.evaluation.frechet import Accumulator, Statistics, distance, frechet_distance, statistics_of

DIMS = 48


def features(n: int, seed: int, *, decay: float = 1.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, DIMS + 1) ** -decay
    mixed = rng.standard_normal((n, DIMS)) * spectrum @ np.linalg.qr(rng.standard_normal((DIMS, DIMS)))[0]
    return np.maximum(scale * mixed + 0.3, 0)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.cov(x, rowvar=False)


@pytest.mark.parametrize(
    ("n", "m", "decay"),
    [(300, 200, 1.0), (300, 200, 6.0), (20, 25, 1.0), (20, 300, 1.0), (300, 20, 1.0)],
    ids=["random", "near-singular", "few", "few-against-many", "many-against-few"],
)
def test_distance_is_pytorch_fids(n, m, decay):
    a, b = features(n, 1, decay=decay), features(m, 2, decay=decay, scale=1.3)
    reference = calculate_frechet_distance(*moments(a), *moments(b))
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(reference, rel=1e-3)
    assert distance(statistics_of(a), statistics_of(b)) == pytest.approx(reference, rel=1e-3)


def test_the_low_rank_form_is_the_full_one():
    a, b = statistics_of(features(20, 1)), statistics_of(features(25, 2))
    many = statistics_of(features(300, 3))
    for x, y in ((a, b), (a, many), (many, a)):
        full = distance(Statistics(x.mu, x.sigma), Statistics(y.mu, y.sigma))
        assert distance(x, y) == pytest.approx(full, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(40, 47), (47, 40), (40, 40)])
def test_few_images_have_the_distance_of_their_singular_values(n, m):
    """The exact form for sets of fewer images than dimensions: the root's trace is a sum of singular values."""
    x, y = features(n, 1, decay=1.5), features(m, 2, decay=1.5, scale=1.1)
    a, b = ((v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root
    assert distance(statistics_of(x), statistics_of(y)) == pytest.approx(expected, rel=1e-6)


def test_two_gaussians_have_the_distance_of_their_closed_form():
    assert frechet_distance([0.0], [[4.0]], [3.0], [[1.0]]) == pytest.approx(9 + (2 - 1) ** 2)


@pytest.mark.parametrize("n", [20, 300])
def test_equal_sets_are_at_distance_zero(n):
    x = statistics_of(features(n, 1))
    assert 0 <= distance(x, x) < 1e-6


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 120), batch=st.integers(1, 50), offset=st.floats(-1e4, 1e4))
def test_statistics_from_batches_are_numpys(n, batch, offset):
    x = features(n, 4) + offset
    accumulator = Accumulator(DIMS)
    for rows in torch.from_numpy(x).split(batch):
        accumulator.add(rows)
    found = accumulator.statistics()
    np.testing.assert_allclose(found.mu, x.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.sigma, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-9)
    assert found.images == n


def test_distance_does_not_depend_on_the_order_of_images_nor_of_the_sets():
    a, b = features(200, 1), features(150, 2)
    forward = distance(statistics_of(a), statistics_of(b))
    assert distance(statistics_of(b[::-1].copy()), statistics_of(a[::-1].copy())) == pytest.approx(forward, rel=1e-9)


def test_other_dimensions_and_nan_are_refused():
    x = statistics_of(features(60, 1))
    with pytest.raises(InputError, match="48 and of 2 dimensions"):
        distance(x, Statistics(np.zeros(2), np.eye(2)))
    with pytest.raises(NumericalError):
        distance(x, Statistics(x.mu * np.nan, x.sigma))
    with pytest.raises(InputError, match="at least 2"):
        statistics_of(features(1, 1))


@pytest.mark.gpu
def test_distance_on_a_gpu_is_the_cpus():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a, b = statistics_of(features(300, 1)), statistics_of(features(200, 2))
    assert distance(a, b, "cuda") == pytest.approx(distance(a, b), rel=1e-9)
    a, b = (statistics_of(features(n, n), "cuda") for n in (30, 40))
    assert distance(a, b, "cuda") == pytest.approx(distance(a, b), rel=1e-6)
