"""A run for TensorBoard: event files in RUN/tensorboard, which are made from the run's own records.

`metrics.jsonl`, `timing.jsonl` and the sample sheets stay the source. A run that goes on writes its event file anew
from them, so that nothing is shown twice. The package tensorboard is imported when the first event file is opened.
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
from vemcompress.runs.report.page import ADD_ON
from vemcompress.runs.report.sheets import FILE, chosen
from vemcompress.runs.series import KINDS, Series, is_series
from vemcompress.system.events import Event
from vemcompress.system.files import open_own, read_bytes

TEACHERS = {"teacher_": "the teacher", "wide_": "the wide teacher", "deep_": "the deep teacher"}
TEACHERS |= {"a_": "generator A to B", "b_": "generator B to A"}
EVENTS = "events.out.tfevents.*"


def check_installed() -> None:
    """Raises UsageError where TensorBoard's package is not there, or not whole."""
    try:
        import tensorboard.compat.proto.event_pb2
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except Exception as error:  # of one that is there, a part may be absent, or of another version
        raise UsageError(
            f"--tensorboard: the package tensorboard is not installed, or not whole ({summary(error)}); "
            "pip install 'vemcompress[tensorboard]'."
        ) from error


class Board:
    """One new event file of a run, in place of earlier ones. Raises OSError, and what tensorboard raises.

    The records are written here, not by a SummaryWriter: that would import TensorFlow where it is installed, and write
    from a thread that prints a traceback where the disk is full.
    """

    def __init__(self, run: RunFolder):
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.run = run
        self._read = {run.metrics: 0, run.timing: 0}  # bytes of each log that were read
        for earlier in run.tensorboard.glob(EVENTS):
            earlier.unlink()
        run.tensorboard.mkdir(exist_ok=True)
        path = run.tensorboard / EVENTS.replace("*", f"{time_ns()}")
        self._records = RecordWriter(os.fdopen(open_own(path, os.O_WRONLY), "wb"))
        self._write(file_version="brain.Event:2")

    def follow(self) -> None:
        """Add what the logs have more than the last time."""
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
        """Raises OSError, or what PIL raises of what is no PNG."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = read_bytes(path, FILE)
        width, height = Image.open(io.BytesIO(content), formats=["PNG"]).size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._write(step=step, summary=Summary(value=[Summary.Value(tag="samples", image=image)]))
        self._records.flush()

    def close(self) -> None:
        """Write out what waits."""
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


def group_of(name: str) -> str:
    """Under which heading a number of metrics.jsonl is shown: by the network that learns from it, where its name says
    that. The others are the student's."""
    if name == "lr":
        return "schedule"
    if name.startswith(ADD_ON):
        return "add-on"
    if "_d_" in name:
        return "losses of discriminators"
    return next((f"losses of {title}" for start, title in TEACHERS.items() if name.startswith(start)), "losses")


class Follower:
    """Passes a run's events on, and brings its board up to date after those of steps, sample sheets and checkpoints. It
    begins with the first: then the run has left out of its logs what it makes anew. Where the board cannot be written
    this is told once, and the run goes on without."""

    def __init__(self, run: RunFolder, on_event: Event):
        self.run, self.on_event = run, on_event
        self._board: Board | None = None
        self._failed = False

    def __call__(self, event: dict) -> None:
        self.on_event(event)
        if event["event"] in ("step", "sample", "checkpoint"):
            self._guarded(lambda: self._follow(event))

    def close(self, finished: bool) -> None:
        """Write out what waits. Of a run that `finished` without a step, as it had none left, that is everything."""
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
        except Exception as error:  # a picture of a run is worth no run
            self._failed = True
            told = f"{self.run.tensorboard}: cannot be written ({summary(error)}); the run goes on without TensorBoard."
            self.on_event({"event": "warning", "message": told})


@contextmanager
def followed(run: RunFolder, on_event: Event, wanted: bool) -> Iterator[Event]:
    """While inside, the events of a run, told to the one that is given, keep its board up to date if that is wanted."""
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
    """Write the event files of a run that was made before, or of each in a folder of several; gives their folders.
    Raises OutputError where a run is at work."""
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
