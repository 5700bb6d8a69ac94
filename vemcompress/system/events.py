"""What the library tells while it works: each event is a dict of plain values, with its name as "event"."""

from collections.abc import Callable

Event = Callable[[dict], None]


def silent(event: dict) -> None:
    """For whom nothing is to be told."""
