"""Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019): realism and coverage of a network's images.

A set of features is represented by the union of spheres around its members. Each sphere reaches to the `K`-th nearest
neighbour in the set (eq. 1). Precision is the share of the network's features inside the real set's spheres. Recall is
the share of the real features inside the network's spheres (eq. 2 and 3). The paper uses VGG-16's features. Scores on
other features are not comparable, so every name here includes the features.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.evaluation.distances import Distance, Features
from vemcompress.evaluation.extractors import INCEPTION, LEAST, SQUEEZENETS
from vemcompress.evaluation.frechet import double_device
from vemcompress.evaluation.gather import Gathered
from vemcompress.evaluation.metric import Given, Needs, Tools

K = 3

_BLOCK_BYTES = 16 << 20  # of squared distances in float64 that exist at a time
# Squared distances are computed from inner products, whose rounding error is relative to the squared lengths.
_ROUNDING = 1e-12


def radii(x: Tensor, k: int = K) -> Tensor:
    """The squared distance of every row of x (N x D, N > k) to its k-th nearest other row: N, float64."""
    found = []
    for start, squares, _ in _blocks(x, x):
        rows = torch.arange(len(squares), device=x.device)
        squares[rows, start + rows] = torch.inf  # a row is not its own neighbour, but copies of it are
        found.append(squares.kthvalue(k, dim=1).values)
    return torch.cat(found)


def share_inside(points: Tensor, centres: Tensor, squared_radii: Tensor) -> float:
    """The share of the points (N x D) inside at least one sphere, including its surface. The spheres have `centres`
    (M x D) and `squared_radii` (M)."""
    inside = [(s <= squared_radii + rounding).any(1).sum() for _, s, rounding in _blocks(points, centres)]
    return float(torch.stack(inside).sum()) / len(points)


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For blocks of rows of x: the number of the first row, the squared distances to all rows of y (B x M, float64, at
    least 0), and the bound of their rounding error."""
    mean = y.double().mean(0)  # centred vectors are shorter, so rounding errors are smaller
    y = y.double() - mean
    lengths = y.square().sum(1)
    start = 0
    for rows in x.split(max(1, _BLOCK_BYTES // (8 * len(y)))):
        rows = rows.double() - mean
        both = rows.square().sum(1)[:, None] + lengths
        yield start, torch.addmm(both, rows, y.T, alpha=-2).clamp_(min=0), both.mul_(_ROUNDING)
        start += len(rows)


class _Neighbours(Distance):
    """Base of precision and recall. Metrics on the same features share the features and the spheres."""

    what: ClassVar[str]
    says: ClassVar[str]
    short: ClassVar[str]
    of_real = "images"

    @classmethod
    def on(cls, extractor: str) -> "_Neighbours":
        needs = Needs(real=cls.of_real, features=extractor, images=K + 1, size=LEAST[extractor])
        return cls(f"{cls.what}_{extractor}", higher=True, gathers=extractor, needs=needs, against="real")

    @property
    def how(self) -> str:
        return (
            f"improved {self.what} (Kynkaanniemi et al. 2019, whose own is on VGG-16 features), the share of "
            f"{self.says} (Euclidean, each to its k-th nearest neighbour, k = {K}),"
        )

    @property
    def does(self) -> str:
        return f"Improved {self.what}: {self.short} ({self.needs.features} features)"

    def offered(self, given: Given) -> bool:
        """By default only for latent vectors: the images of other networks have an input to be compared with."""
        return given.latent and super().offered(given)

    def share(self, points: Features, centres: Features, device: torch.device) -> float:
        """The share of the points inside the spheres around the centres. Raises InputError for too few points or
        centres."""
        x, y = (of.matrix().to(double_device(device)) for of in (points, centres))
        if (few := min(len(x), len(y))) < self.needs.images:
            raise InputError(
                f"{few} are too few images for {self.what} with {K} neighbours; give at least {self.needs.images} "
                "images."
            )
        return share_inside(x, y, centres.shared(radii))


class Precision(_Neighbours):
    short = "the share of outputs that resemble real images"
    what, says = "precision", "outputs inside the union of the real images' spheres"

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        made, real = (gathered[of, self.gathers] for of in (role, self.against))
        return {self.name: self.share(made, real, tools.device)}


class Recall(_Neighbours):
    short = "the share of real images that outputs resemble"
    what, says = "recall", "real images inside the union of the outputs' spheres"

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        made, real = (gathered[of, self.gathers] for of in (role, self.against))
        return {self.name: self.share(real, made, tools.device)}


NEIGHBOURS = tuple(kind.on(extractor) for extractor in (INCEPTION, *SQUEEZENETS) for kind in (Precision, Recall))
