"""A figure of a product on a device that must not exceed what was asked for: predicted for any candidate, checked on
the one that is chosen.

The prediction is a sum (`kinds`). What the sum misses is known of the candidates that were measured whole, and of
others interpolated between them.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.export.goals.subjects import Subject, key_of
from vemcompress.system.events import Event

TRIES = 3  # choices after the first
NEAR = 0.95  # of the goal, so near that a first choice is not made again

Choice = TypeVar("Choice")


class Goal:
    """At most `most` in the goal's unit. `points` are the sums and the measured values of whole networks."""

    kind: ClassVar[str]
    unit: ClassVar[str]
    margin: ClassVar[float] = 1.0  # of the budget, for each choice that was too large

    def __init__(self, subject: Subject, most: float, on_event: Event):
        self.subject, self.most, self.on_event = subject, most, on_event
        self.points: list[tuple[float, float]] = []
        self.predicted: dict = {}  # by candidate that was measured: what had been predicted before
        self._measured: dict = {}

    # -- what a goal says --------------------------------------------------------------------------------------------

    def sum(self, candidate: Any) -> float:
        """The prediction before it is calibrated."""
        raise NotImplementedError

    def shown(self, value: float) -> str:
        raise NotImplementedError

    def tabulate(self) -> None:
        """Get ready to predict very many candidates, where the subject is a space of them."""

    def state(self) -> dict[str, Any]:
        """What predictions depend on, to make the same ones again."""
        known = [[key, self.predicted[key], measured] for key, measured in self._measured.items()]
        return {"goal": self.kind, "points": self.points, "known": known}

    def take(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave. Raises ValueError and what else picking from it raises."""
        if state["goal"] != self.kind:
            raise ValueError("is of another goal")
        self.points = [(float(sum), float(measured)) for sum, measured in state["points"]]
        for key, predicted, measured in state["known"]:
            self.predicted[tuple(key)], self._measured[tuple(key)] = float(predicted), float(measured)

    @property
    def where(self) -> str:
        """In which circumstances, for a sentence."""
        return ""

    def _error_of(self, sum: float, measured: float) -> float:
        """What a measured network says of its sum."""
        raise NotImplementedError

    def _corrected(self, sum: float, error: float) -> float:
        raise NotImplementedError

    def _measure(self, network) -> float:
        raise NotImplementedError

    # -- what all share ----------------------------------------------------------------------------------------------

    def cost(self, candidate: Any) -> float:
        """The calibrated prediction."""
        found = self.sum(candidate)
        if not self.points:
            return found
        sums, measured = zip(*sorted(self.points), strict=True)
        errors = [self._error_of(s, m) for s, m in zip(sums, measured, strict=True)]
        return self._corrected(found, float(np.interp(found, sums, errors)))

    def measured(self, candidate: Any) -> float:
        """Of the whole network, once."""
        key = key_of(candidate)
        if key not in self._measured:
            self.predicted[key] = self.cost(candidate)
            self._measured[key] = self._measure(self.subject.network(candidate))
            told = {"predicted": self.predicted[key], "measured": self._measured[key], "unit": self.unit}
            self.on_event({"event": "measured", "goal": self.kind, **told})
        return self._measured[key]

    def calibrate(self, candidate: Any) -> None:
        """Measure this one, so that predictions follow it."""
        point = self.sum(candidate), self.measured(candidate)
        if point not in self.points:
            self.points.append(point)

    def report(self, candidate: Any, tries: int = 1) -> dict[str, Any]:
        """How a candidate that was measured meets the goal, for results and files."""
        predicted, measured = self.predicted[key_of(candidate)], self.measured(candidate)
        figures = {"target": self.most, "predicted": predicted, "measured": measured, "error": predicted / measured - 1}
        return {"goal": self.kind, "unit": self.unit, **figures, "tries": tries, "size": self.subject.size}

    def too_high(self, measured: float, tries: int) -> UsageError:
        return UsageError(
            f"a {self.kind} target of {self.shown(self.most)}: what was chosen has {self.shown(measured)}{self.where} "
            f"when it is measured, the last of {tries} tries; give a higher target, or measure on a quieter machine."
        )


def met(
    goal: Goal, choose: Callable[[float], Choice], shape: Callable[[Choice], Any] = lambda choice: choice
) -> tuple[Choice, dict[str, Any]]:
    """What `choose` gives under a budget by `goal.cost`, so that its `shape`, measured whole, meets the goal; and the
    report. A choice that is too large when it is measured is made again, 3 times at most, and a first one that is much
    smaller than it may be once: each measurement says by how much predictions of that size are wrong.

    Raises UsageError where none of them meets it, and what `choose` raises for a budget that nothing meets.
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
