"""Detects a diverging energy network from the values that a run logs."""

from collections import deque
from itertools import pairwise

PUBLISHED_LEVEL, WINDOW = 10.0, 10


class Divergence:
    """Called with each logged step's values; returns a sentence the first time that |E| diverges, else None.

    The energy's loss, E(t) - E(t~) + l2 (E(t)^2 + E(t~)^2), has its minimum at -1 / (2 l2) and 1 / (2 l2), which is 10
    with the published l2. That value is the level; it is at least 10, and it is 10 if l2 = 0. Energies diverge if their
    mean magnitude is over ten times the level. They also diverge if it is over the level and has grown at each of the
    last 10 logged steps, to more than twice its value at the first of them.
    """

    def __init__(self, l2: float):
        self.level = max(PUBLISHED_LEVEL, 1 / (2 * l2)) if l2 else PUBLISHED_LEVEL
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._told = False

    def __call__(self, values: dict[str, float]) -> str | None:
        """`values` as in metrics.jsonl. They have no `energy_scale` if the energy's update was not due."""
        if self._told or "energy_scale" not in values:
            return None
        self._recent.append(values["energy_scale"])
        what = self._complaint()
        self._told = what is not None
        return what and f"the energies diverge: {what}; lower information.lr or information.step_size, or raise l2."

    def _complaint(self) -> str | None:
        recent = list(self._recent)
        first, last = recent[0], recent[-1]
        if last > 10 * self.level:
            return f"mean |E| is {last:.4g}, over {10 * self.level:g}"
        grows = len(recent) == WINDOW and all(a < b for a, b in pairwise(recent))
        if grows and last > max(self.level, 2 * first):
            return f"mean |E| grew at each of the last {WINDOW} logged steps, from {first:.4g} to {last:.4g}"
        return None
