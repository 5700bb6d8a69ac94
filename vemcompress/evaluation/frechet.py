"""The Frechet distance between two sets of features (Heusel et al., NeurIPS 2017), in double precision.

||mu1 - mu2||^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^(1/2)). For any factor S1 = F' F, the product S1 S2 has the same
non-zero eigenvalues as the symmetric matrix F S2 F'. The last trace is the sum of their roots, so no matrix square root
is needed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vemcompress.errors import InputError, NumericalError

# Features that are moved to the device at a time: 256 MiB for Inception in float64.
_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (D) and covariance (D x D, divided by N - 1) of the features of a set of images, float64.

    `factor` (N x D, `sigma = factor.T @ factor`) is set if there are no more images than dimensions. The other fields
    are None if they are not known, as in files of other programs. `images` is N, `features` the extractor's name,
    `weights` its fingerprint, and `size` the images' side in pixels (None also if images kept their sizes). `crop` is
    the central square that was cut out before (`data.images.middle`), None also for whole images.
    """

    mu: np.ndarray
    sigma: np.ndarray
    images: int | None = None
    features: str | None = None
    weights: str | None = None
    size: int | None = None
    crop: int | str | None = None
    factor: np.ndarray | None = None


class Accumulator:
    """Computes statistics of features batch by batch; its memory of D x D does not depend on their number."""

    def __init__(self, dims: int, device: torch.device | str = "cpu"):
        self.dims, self.count, self.device = dims, 0, double_device(device)
        self._rows: list[Tensor] = []
        self._shift = self._sum = self._products = None

    def add(self, features: Tensor) -> None:
        """Add B x D features of any float type."""
        rows = features.detach().to(self.device).double()
        self.count += len(rows)
        if self._products is not None:
            self._fold(rows)
            return
        self._rows.append(rows)
        if self.count > self.dims:
            kept = torch.cat(self._rows)
            self._rows = []
            # Sums around a value near the mean avoid cancellation.
            self._shift = kept.mean(0)
            self._sum, self._products = torch.zeros_like(self._shift), kept.new_zeros(self.dims, self.dims)
            self._fold(kept)

    def _fold(self, rows: Tensor) -> None:
        rows = rows - self._shift
        self._sum += rows.sum(0)
        self._products.addmm_(rows.T, rows)

    def statistics(self, **provenance) -> Statistics:
        """The statistics so far; keywords are the other fields of `Statistics`. Raises InputError for fewer than 2
        images."""
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 images, not {self.count}; give more images.")
        if self._products is None:
            rows = torch.cat(self._rows)
            mu = rows.mean(0)
            factor = (rows - mu) / (self.count - 1) ** 0.5
            arrays = mu.cpu().numpy(), (factor.T @ factor).cpu().numpy()
            return Statistics(*arrays, images=self.count, factor=factor.cpu().numpy(), **provenance)
        offset = self._sum / self.count
        sigma = (self._products - self.count * torch.outer(offset, offset)) / (self.count - 1)
        return Statistics((self._shift + offset).cpu().numpy(), sigma.cpu().numpy(), images=self.count, **provenance)


def statistics_of(
    features: np.ndarray | Tensor, device: torch.device | str = "cpu", *, rows: int | None = None, **provenance
) -> Statistics:
    """Statistics of an N x D matrix of features, processed `rows` rows at a time. sigma equals
    `np.cov(features, rowvar=False)`."""
    features = torch.as_tensor(features)
    accumulator = Accumulator(features.shape[1], device)
    for part in features.split(rows or _ROWS):
        accumulator.add(part)
    return accumulator.statistics(**provenance)


def distance(a: Statistics, b: Statistics, device: torch.device | str = "cpu") -> float:
    """The squared Frechet distance, at least 0. It is fastest if a set has fewer images than dimensions. Raises
    InputError if the dimensions differ, NumericalError if a value is not finite."""
    if a.mu.shape != b.mu.shape or a.sigma.shape != b.sigma.shape:
        raise InputError(
            f"statistics of {a.mu.size} and of {b.mu.size} dimensions cannot be compared; "
            "make both with the same feature network."
        )
    if not all(np.isfinite(x).all() for x in (a.mu, a.sigma, b.mu, b.sigma)):
        raise NumericalError("the features' statistics hold NaN or Inf; check the images and the network's outputs.")
    cross = _trace_root(a, b, double_device(device))
    difference = a.mu - b.mu
    return max(0.0, float(difference @ difference + np.trace(a.sigma) + np.trace(b.sigma) - 2 * cross))


def frechet_distance(mu1, sigma1, mu2, sigma2, device: torch.device | str = "cpu") -> float:
    """`distance` of means (D) and covariances (D x D), with pytorch-fid's signature and its value."""
    first = Statistics(np.atleast_1d(np.asarray(mu1, np.float64)), np.atleast_2d(np.asarray(sigma1, np.float64)))
    second = Statistics(np.atleast_1d(np.asarray(mu2, np.float64)), np.atleast_2d(np.asarray(sigma2, np.float64)))
    return distance(first, second, device)


def double_device(device: torch.device | str) -> torch.device:
    """The device itself, or the CPU if the device has no float64 (MPS)."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def _trace_root(a: Statistics, b: Statistics, device: torch.device) -> float:
    """Tr((S_a S_b)^(1/2))."""

    def on(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=device)

    if a.factor is not None and b.factor is not None:
        product = on(a.factor) @ on(b.factor).T
        # Singular values are slow to compute on CUDA. The eigenvalues of the smaller Gram matrix are their squares; the
        # rounding error is below 1e-8 of the largest.
        product = product if product.shape[0] <= product.shape[1] else product.T
        return _sum_of_roots(product @ product.T)
    if a.factor is None and b.factor is not None:
        a, b = b, a
    factor = _factor(on(a.sigma)) if a.factor is None else on(a.factor)
    return _sum_of_roots(factor @ on(b.sigma) @ factor.T)


def _sum_of_roots(inner: Tensor) -> float:
    """Sum of the roots of the eigenvalues of a symmetric matrix, which are negative only by rounding."""
    return float(torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum())


def _factor(sigma: Tensor) -> Tensor:
    """F with F' F = sigma: by Cholesky if sigma is positive definite, else from its eigenvectors."""
    lower, failed = torch.linalg.cholesky_ex(sigma)
    if not failed:
        return lower.T
    values, vectors = torch.linalg.eigh(sigma)
    return values.clamp(min=0).sqrt()[:, None] * vectors.T
