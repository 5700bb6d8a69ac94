"""Set distances from features: of the student to real images or to the teacher's, and of the teacher to real ones."""

import torch

from vemcompress.evaluation.collect import Features
from vemcompress.evaluation.frechet import Statistics, distance, statistics_of
from vemcompress.evaluation.kid import kernel_distance
from vemcompress.evaluation.plan import SetMetric


class Scorer:
    """`student`, `teacher` and `real` are features; `statistics` stand for the real ones where only they are known."""

    def __init__(
        self,
        student: Features,
        teacher: Features | None,
        real: Features | None,
        statistics: Statistics | None,
        seed: int,
        device: torch.device,
    ):
        self._sides = {"student": student, "teacher": teacher, "real": real}
        self._known, self.seed, self._device = statistics, seed, device
        self._computed: dict[tuple[str, str], Statistics] = {}

    def scores(self, metric: SetMetric) -> tuple[dict[str, float], dict[str, float]]:
        """The student's values and, against real images, the teacher's: by name, a kernel distance with its `_std`
        where subsets were drawn. Raises InputError for fewer than 2 images."""
        student = self._between("student", metric)
        has_own = self._sides["teacher"] is not None and metric.against == "real"
        return student, self._between("teacher", metric) if has_own else {}

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
            self._computed[side, extractor] = statistics_of(self._sides[side].matrix(extractor))
        return self._computed[side, extractor]
