"""A latency or a file size that a product must not exceed: predicted for any candidate, checked on the one that is
chosen.

The prediction is a sum: of the times of a candidate's layers (`table`), or of 4 bytes for each parameter. What the sum
misses, such as reorders, fusions and a graph's own bytes, is known of the candidates that were measured whole, and of
others interpolated between them.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.export.goals.runtimes import DEFAULT, check_runtime, check_threads
from vemcompress.export.goals.subjects import Subject, key_of
from vemcompress.export.goals.table import Table
from vemcompress.export.onnx import export_onnx
from vemcompress.system.events import Event, silent
from vemcompress.system.quantities import milliseconds, size_in_bytes, size_text, time_text

TRIES = 3  # choices after the first
NEAR = 0.95  # of the goal, so near that a first choice is not made again

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a latency in ms in the runtime `on` (onnxruntime) with so many `threads` (all cores), or a
    size in bytes of the exported file."""

    latency: float | None = None
    size: int | None = None
    on: str | None = None
    threads: int | None = None

    @classmethod
    def said(
        cls, latency: float | str | None, size: int | str | None, on: str | None = None, threads: int | None = None
    ) -> "Wanted":
        """As arguments and options say it. Raises UsageError for what is no time or size, an unknown runtime, and for
        both or neither of what belongs together."""
        found = {}
        kinds = {"latency": (latency, milliseconds), "size": (size, size_in_bytes), "on": (on, check_runtime)}
        for name, (value, parse) in kinds.items():
            try:
                found[name] = None if value is None else parse(value)
            except ValueError as error:
                raise UsageError(f"{'on' if name == 'on' else f'target_{name}'}: {error}.") from None
        if latency is None and (on is not None or threads is not None):
            raise UsageError(
                f"{'threads' if on is None else 'on'}: is of a target_latency, and there is none; omit it."
            )
        check_threads(threads)
        return cls(**found, threads=threads)

    def __bool__(self) -> bool:
        return self.latency is not None or self.size is not None

    def of(self, subject: Subject, on_event: Event = silent) -> "Goal":
        """The goal for these candidates. Raises UsageError for more threads than there are."""
        if self.latency is None:
            return SizeGoal(subject, self.size, on_event)
        return LatencyGoal(subject, self.latency, Table(self.on or DEFAULT, self.threads, on_event), on_event)


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


class LatencyGoal(Goal):
    """Milliseconds for one image, as the `table`'s runtime and threads take on this machine."""

    kind, unit, margin = "latency", "ms", 0.98

    def __init__(self, subject: Subject, most: float, table: Table, on_event: Event = silent):
        super().__init__(subject, most, on_event)
        self.table = table
        self._parts: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}

    def sum(self, candidate: Any) -> float:
        if self._parts:
            return sum(times[tuple(candidate[i] for i in genes)] for genes, times in self._parts.items())
        return self.table.time(self.subject.layers(candidate))

    def tabulate(self) -> None:
        parts = self.subject.parts() or {}
        self.table.measure(layer for part in parts.values() for layers in part.values() for layer in layers)
        self._parts = {
            genes: {entries: self.table.time(layers) for entries, layers in part.items()}
            for genes, part in parts.items()
        }

    def state(self) -> dict[str, Any]:
        times = {str(layer): ms for layer, ms in self.table.times.items()}
        return super().state() | {"times": times, "about": self.table.about}

    def take(self, state: Mapping[str, Any]) -> None:
        self.table.take(state["times"])
        super().take(state)

    def shown(self, value: float) -> str:
        return time_text(value)

    @property
    def where(self) -> str:
        threads = f"{self.table.threads} thread{'s' if self.table.threads > 1 else ''}"
        return f" on {self.table.runtime.name} with {threads} at {self.subject.size} px"

    def _error_of(self, sum: float, measured: float) -> float:
        return measured / sum if sum else 1.0

    def _corrected(self, sum: float, error: float) -> float:
        return sum * error

    def _measure(self, network) -> float:
        size = None if network.takes.kind == "latent" else self.subject.size
        return self.table.runtime.whole(network, size, self.table.threads, self.on_event)

    def report(self, candidate: Any, tries: int = 1) -> dict[str, Any]:
        return super().report(candidate, tries) | {"sum": self.sum(candidate), **self.table.about}


class SizeGoal(Goal):
    """Bytes of the .onnx file in float32."""

    kind, unit = "size", "bytes"

    def __init__(self, subject: Subject, most: float, on_event: Event = silent):
        super().__init__(subject, most, on_event)

    def sum(self, candidate: Any) -> float:
        return 4 * self.subject.parameters(candidate)

    def shown(self, value: float) -> str:
        return size_text(value)

    def _error_of(self, sum: float, measured: float) -> float:
        return measured - sum

    def _corrected(self, sum: float, error: float) -> float:
        return sum + error

    def _measure(self, network) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return export_onnx(network, Path(folder) / "model.onnx").bytes


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
