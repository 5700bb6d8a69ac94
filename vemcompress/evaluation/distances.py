"""FID and KID: Frechet and kernel distances between the features of a network's images and of real or teacher images.

Kernel Inception Distance (Binkowski et al., ICLR 2018) is the unbiased squared MMD with a cubic kernel. `frechet.py`
has the computation of the Frechet distance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.evaluation.extractors import INCEPTION, LEAST, SQUEEZENETS, Extractor, checked_features
from vemcompress.evaluation.frechet import Statistics, distance, double_device, statistics_of
from vemcompress.evaluation.gather import BYTES, Gather, Gathered, Views
from vemcompress.evaluation.metric import NOT_MADE, Given, Metric, Needs, Tools, cropped
from vemcompress.system import distributed

SUBSETS, SUBSET_SIZE = 100, 1000

# Up to this number, one Gram matrix of all features (288 MB) is cheaper than one per subset.
_GRAM_LIMIT = 6000

# Rows of features that may stay on the device: 32 MiB for Inception, per role and extractor.
_ROWS = 4096


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 of every row of x (N x D) with every row of y (M x D): N x M."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def unbiased_mmd(xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """The U-statistic from the three kernel matrices, a scalar. For similar sets it may be below 0 by chance."""
    n, m = len(xx), len(yy)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return within - 2 * xy.mean()


def kernel_distance(
    x: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[float, float | None]:
    """Mean and standard deviation of the MMD over random subsets of both sets of features (N x D and M x D).

    A subset has `subset_size` features, or as many as the smaller set. If neither set has more, all features are used
    at once, and the deviation is None. Computed in float64. Raises InputError for fewer than 2 features.
    """
    device = double_device(device)
    x, y = (torch.as_tensor(v).to(device).double() for v in (x, y))
    if min(len(x), len(y)) < 2:
        raise InputError(f"a kernel distance needs at least 2 images, not {min(len(x), len(y))}; give more images.")
    if max(len(x), len(y)) <= subset_size:
        return float(unbiased_mmd(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))), None
    size = min(subset_size, len(x), len(y))
    both = torch.cat((x, y))
    gram = polynomial_kernel(both, both) if len(both) <= _GRAM_LIMIT else None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        i, j = (torch.from_numpy(rng.choice(len(v), size, replace=False)).to(device) for v in (x, y))
        if gram is None:
            a, b = x[i], y[j]
            blocks = polynomial_kernel(a, a), polynomial_kernel(b, b), polynomial_kernel(a, b)
        else:
            j = j + len(x)
            blocks = gram[i][:, i], gram[j][:, j], gram[i][:, j]
        values.append(unbiased_mmd(*blocks))
    values = torch.stack(values)
    return float(values.mean()), float(values.std(correction=0))


class Features(Gather):
    """The features of a set of images, collected batch by batch."""

    def __init__(self, extractor: Extractor, device: torch.device | str = "cpu", rows: int | None = None):
        self._extractor, self._device, self._at_a_time = extractor, device, rows
        self._rows: list[Tensor] = []
        self._fresh: list[Tensor] = []
        self._shared: dict[Callable, Tensor] = {}

    def add(self, views: Views, role: str) -> None:
        """Add a batch. A few thousand features wait on the device, because a transfer for every batch would stall
        it."""
        self._fresh.append(checked_features(self._extractor, views[role].rgb, views.checks).float())
        if sum(map(len, self._fresh)) >= _ROWS:
            self._fetch()

    def merge(self) -> None:
        """Merge the rows of all ranks in the order of the images."""
        if distributed.ranks() > 1:
            self._fetch()
            self._rows = [row for part in distributed.collected(self._rows) for row in part]

    def matrix(self) -> Tensor:
        """All features, N x D float32 on the CPU, in the order of the images."""
        self._fetch()
        return torch.cat(self._rows)

    def shared(self, make: Callable[[Tensor], Tensor]) -> Tensor:
        """The result of `make` on the matrix, computed once and shared; on the device if it supports float64."""
        if make not in self._shared:
            self._shared[make] = make(self.matrix().to(double_device(self._device)))
        return self._shared[make]

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and covariance, shared by all distances on these features. Raises InputError for fewer than 2 images."""
        return statistics_of(self.matrix(), self._device, rows=self._at_a_time)

    def settle(self) -> None:
        _ = self.statistics

    def _fetch(self) -> None:
        if self._fresh:
            self._rows.append(torch.cat(self._fresh).cpu())
            self._fresh.clear()


@dataclass(frozen=True)
class Distance(Metric):
    """Distance of every network's images to `real` images or to the `teacher`'s, on an extractor's features."""

    against: Literal["real", "teacher"]
    how: ClassVar[str]
    title: ClassVar[str]
    of_real: ClassVar[Literal["images", "statistics"]]

    @classmethod
    def to(cls, against: Literal["real", "teacher"], name: str, extractor: str) -> Self:
        real = cls.of_real if against == "real" else None
        needs = Needs(
            teacher=against == "teacher", real=real, features=extractor, images=2, size=LEAST.get(extractor, 1)
        )
        return cls(name, higher=False, gathers=extractor, needs=needs, against=against)

    @property
    def does(self) -> str:
        other = "real images" if self.against == "real" else "the teacher's outputs"
        called = {"fid": "FID, the ", "kid": "KID, the "}.get(self.name.removesuffix("_to_teacher"), "")
        return f"{called}{self.title} between outputs and {other} ({self.needs.features} features)"

    def offered(self, given: Given) -> bool:
        """Distances to the teacher are offered only without real images."""
        return self.against == ("real" if given.real else "teacher") and self.needs.features in given.features

    def reads(self, role: str) -> bool:
        return role not in NOT_MADE or role == self.against

    def scores(self, role: str) -> bool:
        return role not in (*NOT_MADE, self.against)

    def start(self, tools: Tools) -> Features:
        return Features(tools.extractors[self.needs.features], tools.device, tools.rows)

    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        against = f"the teacher's outputs for the same {gathered.images} inputs"
        if self.against == "real":
            known = tools.real.statistics
            size, crop = (tools.size, tools.crop) if known is None else (known.size, known.crop)
            number = "an unknown number of" if gathered.real is None else str(gathered.real)
            against = (
                f"{number} {tools.real.what}{cropped(crop)} at {'their own size' if size is None else f'{size} px'}"
            )
        how, of = self.how.format(seed=tools.seed), tools.extractors[self.needs.features].protocol
        return f"{how} of {of}; {BYTES}; {tools.outputs(gathered.images)} against {against}."


class Frechet(Distance):
    """The Frechet distance; FID with Inception's features. Statistics of the real images are enough."""

    title, how, of_real = "Frechet distance", "Frechet distance in float64", "statistics"

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        known = tools.real.statistics if self.against == "real" else None
        other = known or gathered[self.against, self.gathers].statistics
        return {self.name: distance(gathered[role, self.gathers].statistics, other, tools.device)}


class Kernel(Distance):
    """The kernel distance; KID with Inception's features. It has a deviation (`_std`) if subsets were drawn."""

    title, of_real = "kernel distance (MMD)", "images"
    how = (
        f"unbiased cubic-kernel MMD in float64, all images at once up to {SUBSET_SIZE}, else the mean of {SUBSETS} "
        "subsets drawn with seed {seed}"
    )

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        x, y = (gathered[of, self.gathers].matrix() for of in (role, self.against))
        value, deviation = kernel_distance(x, y, seed=tools.seed, device=tools.device)
        return {self.name: value} | ({} if deviation is None else {f"{self.name}_std": deviation})


def distances(extractor: str) -> tuple[Distance, ...]:
    """The distances on an extractor's features. Only Inception's are called FID and KID."""
    frechet, kernel = ("fid", "kid") if extractor == INCEPTION else (f"frechet_{extractor}", f"mmd_{extractor}")
    return tuple(
        kind.to(against, name + suffix, extractor)
        for against, suffix in (("real", ""), ("teacher", "_to_teacher"))
        for kind, name in ((Frechet, frechet), (Kernel, kernel))
    )


DISTANCES = tuple(metric for extractor in (INCEPTION, *SQUEEZENETS) for metric in distances(extractor))
