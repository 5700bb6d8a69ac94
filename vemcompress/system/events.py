"""Events, by which the library reports what it does: dicts of plain values, with the event's name as "event".

The classes type the events that a caller may want. There are more, for the console; a callback ignores what it does not
know. Events may get more keys.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from vemcompress.system.names import shown

Event = Callable[[Any], None]  # is called with one of the classes below, or another dict


class StepEvent(TypedDict):
    """A training step that was logged. Speeds and the `remaining` seconds are None in the first steps. `main` names the
    losses whose sum is the student's."""

    event: Literal["step"]
    step: int
    total: int
    losses: dict[str, float]
    main: Sequence[str]
    seconds_per_step: float | None
    images_per_second: float | None
    remaining: float | None


class CountEvent(TypedDict):
    """`done` of `total` images, turns or parts. An "eval", "stats", "bench" or "export" event of some stages has no
    count."""

    event: Literal["eval", "stats", "generated", "judged", "timing", "bench", "export"]
    stage: NotRequired[str]
    done: NotRequired[int]
    total: NotRequired[int]


class StageEvent(TypedDict):
    """A part of the work begins: a stage of a pipeline, a run of several, a run that is evaluated."""

    event: Literal["stage"]
    title: str


class CheckpointEvent(TypedDict):
    """A checkpoint was written into the folder `path`."""

    event: Literal["checkpoint"]
    step: int
    path: str


class BestEvent(TypedDict):
    """The checkpoint of this step is the best so far, by the `value` of `metric`."""

    event: Literal["best"]
    step: int
    metric: str
    value: float
    higher_is_better: bool
    on: str


class FileEvent(TypedDict):
    """A sample sheet or the report was written."""

    event: Literal["sample", "report"]
    path: str


class WarningEvent(TypedDict):
    """Something that a person should read. "diverged": the losses or images show that the run has failed."""

    event: Literal["warning", "diverged"]
    message: str


class SkippedEvent(TypedDict):
    """An image that cannot be read is skipped."""

    event: Literal["skipped"]
    path: str
    reason: str


AnyEvent = StepEvent | CountEvent | StageEvent | CheckpointEvent | BestEvent | FileEvent | WarningEvent | SkippedEvent


def silent(event: dict) -> None:
    """Ignore events."""


class Once:
    """Passes events on, but "skipped", "mended" and "ignored" only once per file, because several parts of a run
    read the same images. `skipped`: the reasons by path; `warnings`: the run's first hundred warnings.
    """

    def __init__(self, on_event: Event):
        self.on_event, self.skipped = on_event, dict[str, str]()
        self.warnings: list[str] = []
        self._told = set[tuple[str, str]]()

    @classmethod
    def of(cls, on_event: Event) -> "Once":
        return on_event if isinstance(on_event, cls) else cls(on_event)

    def __call__(self, event: dict) -> None:
        kind = "skipped" if event.get("stage") == "unreadable" else event["event"]
        if kind in ("skipped", "mended", "ignored"):
            key = kind, event["path"]
            if key in self._told:
                return
            self._told.add(key)
        if kind == "warning" and len(self.warnings) < 100 and shown(event["message"]) not in self.warnings:
            self.warnings.append(shown(event["message"]))
        if kind == "skipped":
            self.skipped[event["path"]] = event["reason"]
        self.on_event(event)
