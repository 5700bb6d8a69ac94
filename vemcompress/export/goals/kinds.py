"""The two goals: a latency, predicted as the sum over layers, and a file size, predicted as 4 bytes per parameter.

Calibration corrects the effects that these sums miss, such as layout conversions, fusions and the bytes of the graph.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vemcompress.errors import UsageError
from vemcompress.export.exporting import export_onnx
from vemcompress.export.goals.goal import Goal
from vemcompress.export.goals.runtimes import DEFAULT, check_runtime, check_threads
from vemcompress.export.goals.subjects import Subject
from vemcompress.export.goals.table import Table
from vemcompress.system.events import Event, silent
from vemcompress.system.quantities import milliseconds, size_in_bytes, size_text, time_text


@dataclass(frozen=True)
class Wanted:
    """The requested goal: a latency in ms in the runtime `on` (default onnxruntime) with `threads` (default all cores),
    or a size in bytes of the exported file."""

    latency: float | None = None
    size: int | None = None
    on: str | None = None
    threads: int | None = None

    @classmethod
    def said(
        cls, latency: float | str | None, size: int | str | None, on: str | None = None, threads: int | None = None
    ) -> "Wanted":
        """The goal from arguments or options. Raises UsageError for an invalid time or size, an unknown runtime, both
        goals at once, and `on` or `threads` without a latency."""
        found = {}
        kinds = {"latency": (latency, milliseconds), "size": (size, size_in_bytes), "on": (on, check_runtime)}
        for name, (value, parse) in kinds.items():
            try:
                found[name] = None if value is None else parse(value)
            except ValueError as error:
                raise UsageError(f"{'on' if name == 'on' else f'target_{name}'}: {error}.") from None
        if latency is None and (on is not None or threads is not None):
            raise UsageError(f"{'threads' if on is None else 'on'}: needs a target_latency, which is not set; omit it.")
        check_threads(threads)
        return cls(**found, threads=threads)

    def __bool__(self) -> bool:
        return self.latency is not None or self.size is not None

    def of(self, subject: Subject, on_event: Event = silent) -> "Goal":
        """The goal for these candidates. Raises UsageError for more threads than this machine has."""
        if self.latency is None:
            return SizeGoal(subject, self.size, on_event)
        return LatencyGoal(subject, self.latency, Table(self.on or DEFAULT, self.threads, on_event), on_event)


class LatencyGoal(Goal):
    """Milliseconds for one image on this machine, in the `table`'s runtime with its number of threads."""

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
    """Size in bytes of the float32 .onnx file."""

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
