"""Base class of the goals: an upper limit that is predicted for every candidate and measured for the chosen one.

The prediction is a sum over layers (`kinds`). Networks that were measured as a whole show the error of this sum; for
other candidates the error is interpolated between them.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.export.goals.subjects import Subject, key_of
from vemcompress.system.events import Event

TRIES = 3  # further choices after the first
NEAR = 0.95  # a first choice above this share of the goal is not repeated

Choice = TypeVar("Choice")


class Goal:
    """A limit of `most` in the goal's unit. `points` are the sums and the measured values of whole networks."""

    kind: ClassVar[str]
    unit: ClassVar[str]
    margin: ClassVar[float] = 1.0  # the budget is multiplied by this after each choice that was too large

    def __init__(self, subject: Subject, most: float, on_event: Event):
        self.subject, self.most, self.on_event = subject, most, on_event
        self.points: list[tuple[float, float]] = []
        self.predicted: dict = {}  # prediction before the measurement, by measured candidate
        self._measured: dict = {}

    # -- defined by each goal ------------------------------------------------------------------------------------------

    def sum(self, candidate: Any) -> float:
        """The prediction before it is calibrated."""
        raise NotImplementedError

    def shown(self, value: float) -> str:
        raise NotImplementedError

    def tabulate(self) -> None:
        """Prepare to predict very many candidates, if the subject is a search space."""

    def state(self) -> dict[str, Any]:
        """The data that predictions depend on, so that a later process makes the same predictions."""
        known = [[key, self.predicted[key], measured] for key, measured in self._measured.items()]
        return {"goal": self.kind, "points": self.points, "known": known}

    def take(self, state: Mapping[str, Any]) -> None:
        """Restore a `state`. Raises ValueError, or a lookup error, for an unsuitable one."""
        if state["goal"] != self.kind:
            raise ValueError("is of another goal")
        self.points = [(float(sum), float(measured)) for sum, measured in state["points"]]
        for key, predicted, measured in state["known"]:
            self.predicted[tuple(key)], self._measured[tuple(key)] = float(predicted), float(measured)

    @property
    def where(self) -> str:
        """The conditions of the measurement, for messages."""
        return ""

    def _error_of(self, sum: float, measured: float) -> float:
        """The error of the sum for a measured network."""
        raise NotImplementedError

    def _corrected(self, sum: float, error: float) -> float:
        raise NotImplementedError

    def _measure(self, network) -> float:
        raise NotImplementedError

    # -- shared by all goals -------------------------------------------------------------------------------------------

    def cost(self, candidate: Any) -> float:
        """The calibrated prediction."""
        found = self.sum(candidate)
        if not self.points:
            return found
        sums, measured = zip(*sorted(self.points), strict=True)
        errors = [self._error_of(s, m) for s, m in zip(sums, measured, strict=True)]
        return self._corrected(found, float(np.interp(found, sums, errors)))

    def measured(self, candidate: Any) -> float:
        """The measured value of the whole network; each candidate is measured once."""
        key = key_of(candidate)
        if key not in self._measured:
            self.predicted[key] = self.cost(candidate)
            self._measured[key] = self._measure(self.subject.network(candidate))
            told = {"predicted": self.predicted[key], "measured": self._measured[key], "unit": self.unit}
            self.on_event({"event": "measured", "goal": self.kind, **told})
        return self._measured[key]

    def calibrate(self, candidate: Any) -> None:
        """Measure this candidate, and correct the predictions by it."""
        point = self.sum(candidate), self.measured(candidate)
        if point not in self.points:
            self.points.append(point)

    def report(self, candidate: Any, tries: int = 1) -> dict[str, Any]:
        """How a measured candidate meets the goal, as plain values for results and files."""
        predicted, measured = self.predicted[key_of(candidate)], self.measured(candidate)
        figures = {"target": self.most, "predicted": predicted, "measured": measured, "error": predicted / measured - 1}
        return {"goal": self.kind, "unit": self.unit, **figures, "tries": tries, "size": self.subject.size}

    def too_high(self, measured: float, tries: int) -> UsageError:
        return UsageError(
            f"a {self.kind} target of {self.shown(self.most)} was not met: the last of {tries} choices has "
            f"{self.shown(measured)}{self.where}; give a higher target, or measure on a less busy machine."
        )


def met(
    goal: Goal, choose: Callable[[float], Choice], shape: Callable[[Choice], Any] = lambda choice: choice
) -> tuple[Choice, dict[str, Any]]:
    """The result of `choose` under a budget by `goal.cost`, and the report. Its `shape`, measured as a whole network,
    meets the goal.

    If a choice is too large when it is measured, `choose` is called again, at most 3 times. If the first choice is much
    smaller than allowed, it is called again once. Each measurement corrects the predictions for networks of that size.
    Raises UsageError if no choice meets the goal, and the errors of `choose` for a budget that nothing meets.
    """
    budget, best, measured = goal.most, None, 0.0
    for number in range(1, TRIES + 2):
        choice = choose(budget)
        measured = goal.measured(shape(choice))
        if measured <= goal.most and (best is None or measured > goal.measured(shape(best))):
            best = choice
        if best is not None and (number > 1 or measured >= NEAR * goal.most):
            return best, goal.report(shape(best), number)
        goal.calibrate(shape(choice))
        if measured > goal.most:
            budget *= goal.margin
    raise goal.too_high(measured, TRIES + 1)
