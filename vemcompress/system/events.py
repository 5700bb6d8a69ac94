"""Events by which the library reports progress: dicts of plain values, with the event's name under "event"."""

from collections.abc import Callable

from vemcompress.system.names import shown

Event = Callable[[dict], None]


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
