"""Set distances from features: of the student to real images or to the teacher's, and of the teacher to real ones."""

from collections.abc import Mapping

import torch

from vemcompress.evaluation.frechet import Statistics, distance, statistics_of
from vemcompress.evaluation.kid import kernel_distance
from vemcompress.evaluation.plan import SetMetric
from vemcompress.evaluation.sides import Features


class Scorer:
    """`sides` are features of `real` images and by role of what was generated; `statistics` stand for the real ones
    where only they are known."""

    def __init__(self, sides: Mapping[str, Features], statistics: Statistics | None, seed: int, device: torch.device):
        self._sides, self._known, self.seed, self._device = sides, statistics, seed, device
        self._computed: dict[tuple[str, str], Statistics] = {}

    def count(self, side: str) -> int:
        """Images of a side."""
        return self._sides[side].count

    def scores(self, metric: SetMetric) -> dict[str, dict[str, float]]:
        """By role the values by name, a kernel distance with its `_std` where subsets were drawn; the teacher's own
        only against real images. Raises InputError for fewer than 2 images."""
        roles = (role for role in self._sides if role not in ("real", metric.against))
        return {role: self._between(role, metric) for role in roles}

    def _between(self, side: str, metric: SetMetric) -> dict[str, float]:
        if metric.kind == "kernel":
            x, y = (self._sides[s].matrix(metric.extractor) for s in (side, metric.against))
            value, deviation = kernel_distance(x, y, seed=self.seed, device=self._device)
            return {metric.name: value} | ({} if deviation is None else {f"{metric.name}_std": deviation})
        known = self._known if metric.against == "real" else None
        other = known or self._statistics(metric.against, metric.extractor)
        return {metric.name: distance(self._statistics(side, metric.extractor), other, self._device)}

    def _statistics(self, side: str, extractor: str) -> Statistics:
        """Computed once: the student's serve every distance on the same features."""
        if (side, extractor) not in self._computed:
            self._computed[side, extractor] = statistics_of(self._sides[side].matrix(extractor), self._device)
        return self._computed[side, extractor]
