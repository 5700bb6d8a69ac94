"""TensorBoard: event files in RUN/tensorboard, made from the run's own logs and sample sheets.

`metrics.jsonl`, `timing.jsonl` and the sample sheets stay the source. A resumed run writes its event file again from
them, so that nothing is shown twice. The package tensorboard is imported when the first event file is opened.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time, time_ns
from typing import Any

from PIL import Image

from vemcompress.errors import UsageError, summary
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import is_score, lines
from vemcompress.runs.report.gather import number
from vemcompress.runs.report.groups import group_of
from vemcompress.runs.report.sheets import FILE, chosen
from vemcompress.runs.series import KINDS, Series, is_series
from vemcompress.system.events import Event
from vemcompress.system.files import open_own, read_bytes

EVENTS = "events.out.tfevents.*"


def check_installed() -> None:
    """Raises UsageError if the package tensorboard is missing or incomplete."""
    try:
        import tensorboard.compat.proto.event_pb2
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except Exception as error:  # a part of the package may be missing or have another version
        raise UsageError(
            f"--tensorboard: the package tensorboard is not installed, or is incomplete ({summary(error)}); "
            "pip install 'vemcompress[tensorboard]'."
        ) from error


class Board:
    """One new event file of a run, which replaces earlier ones. Raises OSError, and the errors of tensorboard.

    The records are written here, not by a SummaryWriter: that would import TensorFlow if it is installed, and write
    from a thread that prints a traceback if the disk is full.
    """

    def __init__(self, run: RunFolder):
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.run = run
        self._read = {run.metrics: 0, run.timing: 0}  # bytes read so far, by log
        for earlier in run.tensorboard.glob(EVENTS):
            earlier.unlink()
        run.tensorboard.mkdir(exist_ok=True)
        path = run.tensorboard / EVENTS.replace("*", f"{time_ns()}")
        self._records = RecordWriter(os.fdopen(open_own(path, os.O_WRONLY), "wb"))
        self._write(file_version="brain.Event:2")

    def follow(self) -> None:
        """Add the new lines of the logs."""
        for path, read in self._read.items():
            for _, end, values in lines(path, read):
                self._read[path] = end
                if values is not None:
                    self._add(values, path == self.run.timing)
        self._records.flush()

    def add_sheets(self, before: float) -> None:
        """Add the sample sheets of earlier steps."""
        for step, path in chosen(self.run.samples, most=1 << 20):
            if step < before:
                with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # a damaged one
                    self.add_sheet(step, path)

    def add_sheet(self, step: int, path: Path) -> None:
        """Add a sheet. Raises OSError, or an error of PIL if the file is not a PNG."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = read_bytes(path, FILE)
        width, height = Image.open(io.BytesIO(content), formats=["PNG"]).size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._write(step=step, summary=Summary(value=[Summary.Value(tag="samples", image=image)]))
        self._records.flush()

    def close(self) -> None:
        """Flush the event file."""
        self._records.close()

    def _add(self, values: dict, timing: bool) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if is_score(values):
            found = {f"score/{values['metric']}": values["value"]}
        else:
            names = [name for name in values if name != "step"]
            found = {_timed(name) if timing else f"{group_of(name)}/{name}": values[name] for name in names}
        shown = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in found.items() if number(value) is not None
        ]
        self._write(step=values["step"], summary=Summary(value=shown))

    def _write(self, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time(), **what).SerializeToString())


def _timed(part: str) -> str:
    return f"seconds per step/{'all' if part == 'seconds' else part}"


class Follower:
    """Passes a run's events on, and updates its event file after steps, sample sheets and checkpoints. The file is
    created at the first event: then a resumed run has removed the later lines of its logs. If it cannot be written,
    this is reported once, and the run continues without it."""

    def __init__(self, run: RunFolder, on_event: Event):
        self.run, self.on_event = run, on_event
        self._board: Board | None = None
        self._failed = False

    def __call__(self, event: dict) -> None:
        self.on_event(event)
        if event["event"] in ("step", "sample", "checkpoint"):
            self._guarded(lambda: self._follow(event))

    def close(self, finished: bool) -> None:
        """Flush the event file. For a run that `finished` without any step, because none was left, write everything."""
        if finished or self._board is not None:
            self._guarded(self._close)

    def _follow(self, event: dict) -> None:
        board = self._opened(event["step"])
        board.follow()
        if event["event"] == "sample":
            board.add_sheet(event["step"], Path(event["path"]))

    def _close(self) -> None:
        board = self._opened(float("inf"))
        board.follow()
        board.close()

    def _opened(self, step: float) -> Board:
        if self._board is None:
            self._board = Board(self.run)
            self._board.add_sheets(step)
        return self._board

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:  # an error here must not stop the run
            self._failed = True
            told = (
                f"{self.run.tensorboard}: cannot be written ({summary(error)}); the run continues without TensorBoard."
            )
            self.on_event({"event": "warning", "message": told})


@contextmanager
def followed(run: RunFolder, on_event: Event, wanted: bool) -> Iterator[Event]:
    """A context that wraps `on_event`, so that a run's events update its TensorBoard files if requested."""
    if not wanted:
        yield on_event
        return
    follower, finished = Follower(run, on_event), False
    try:
        yield follower
        finished = True
    finally:
        follower.close(finished)


def convert(folder: Path) -> list[str]:
    """Write the event files of an existing run, or of each run in a folder of several. Returns their folders. Raises
    OutputError if a run is in progress."""
    kind = next((kind for kind in KINDS if is_series(folder, kind)), None)
    if kind is not None:
        return [path for run in Series.read(folder, kind).begun() for path in convert(run.path)]
    run = RunFolder(folder)
    if not run.metrics.is_file():
        return []
    with run.locked():
        board = Board(run)
        board.follow()
        board.add_sheets(float("inf"))
        board.close()
    return [str(run.tensorboard)]
