"""A run's logs, `metrics.jsonl` and `timing.jsonl`: one JSON object per line, each with its `step`.

A line without an "event" has numbers by name; one with `"event": "score"` is a score that picks the best checkpoint.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from vemcompress.errors import InputError, OutputError
from vemcompress.system.files import LARGE, is_count, is_same, open_own, open_regular, output_error, parse_json

LONGEST = 1 << 20  # bytes per line


def lines(path: Path, start: int = 0) -> Iterator[tuple[int, int, dict | None]]:
    """For each line from the byte `start` on: its number, its end in the file, and its values, None for a damaged line.

    A last line that a kill cut short is ignored. Raises InputError if the file exists but cannot be read.
    """
    try:
        with open_regular(path, LARGE) as file:
            number, end = 0, file.seek(start)
            while line := file.readline(LONGEST):
                number, end = number + 1, end + len(line)
                if line.endswith(b"\n") or len(line) == LONGEST:
                    yield number, end, _values(line)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); move it away to continue.") from error


def damage(path: Path) -> str | None:
    """A sentence that names the damaged lines of a log; None if there are none. Raises InputError."""
    numbers = [number for number, _, values in lines(path) if values is None]
    if not numbers:
        return None
    told = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    which = f"line {told} is" if len(numbers) == 1 else f"lines {told} are"
    return f"{path}: {which} damaged and ignored in all figures."


def last(path: Path) -> tuple[int, dict[str, float]]:
    """The last step of a log, and its numbers by name; 0 and no numbers for an empty log. Raises InputError."""
    values = {"step": 0}
    for _, _, found in lines(path):
        values = found if found and "event" not in found else values
    return values["step"], {name: value for name, value in values.items() if name != "step" and _is_number(value)}


def is_score(values: dict) -> bool:
    """Whether a line is a score, with a finite value."""
    return values.get("event") == "score" and isinstance(values.get("metric"), str) and _is_number(values.get("value"))


def scores(path: Path, until: int) -> list[dict]:
    """The scores of a log up to a step, each with its "step", "metric" and "value". Raises InputError."""
    found = [values for _, _, values in lines(path) if values and is_score(values) and values["step"] <= until]
    return [{name: value for name, value in values.items() if name != "event"} for values in found]


class Log:
    """A log to append to.

    Opening it removes the lines after `step`, which will be written again; earlier damaged lines stay. Raises
    OutputError, also if the file is removed while it is open, and InputError if it cannot be read.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = max((end for _, end, values in lines(path) if values is not None and values["step"] <= step), default=0)
        try:
            self._file = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "ab")
            self._file.truncate(kept)
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, values: dict) -> None:
        """Append lines. Numbers that are not finite become null, because JSON does not have them."""
        told = {name: value if not isinstance(value, float) or math.isfinite(value) else None
                for name, value in values.items()}  # fmt: skip
        self._guarded(lambda: self._file.write((json.dumps(told) + "\n").encode()))
        self._guarded(self._file.flush)  # for programs that follow the log
        if not is_same(self.path, self._file.fileno()):
            raise removed(self.path)

    def sync(self) -> None:
        """Make everything written so far durable."""
        self._guarded(self._flush)

    def close(self) -> None:
        self._guarded(self._file.close)

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _guarded(self, action) -> None:
        try:
            action()
        except OSError as error:
            raise output_error(self.path, error) from error


class NoLog:
    """The log of a process that does not write."""

    def write(self, *values: dict) -> None:
        """Nothing."""

    sync = close = write


def removed(path: Path) -> OutputError:
    """The error if a part of the run folder is removed during the run."""
    return OutputError(
        f"{path}: was removed or replaced during the run, so nothing more can be saved; if the folder was moved, "
        "continue it there with --resume, otherwise start a new run."
    )


def _values(line: bytes) -> dict | None:
    try:
        values = parse_json(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and is_count(values.get("step")) else None


def _is_number(value) -> bool:
    return isinstance(value, float) or is_count(value)
