"""A run folder: who may write to it, its log, and what is in it."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vemcompress.errors import InputError, OutputError, UsageError
from vemcompress.system.files import output_error, write_atomically


class RunFolder:
    """`recipe.toml`, `student.safetensors`, `metrics.jsonl`, `timing.jsonl`, `samples/`, `checkpoints/`, `best/`,
    `environment.json`, and teachers that learnt here; `teacher_cache/`, which may be deleted between runs. One process
    writes at a time."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.toml"
        self.student = self.path / "student.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.timing = self.path / "timing.jsonl"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.teacher_cache = self.path / "teacher_cache"
        self.environment = self.path / "environment.json"
        self.given_images = self.path / "given_images"  # those that were given from Python

    def artifact(self, name: str) -> Path:
        """Where the newest network of this name is: `student`, `teacher`, `discriminator`, ..."""
        return self.path / f"{name}.safetensors"

    def check_new(self) -> None:
        """Raises UsageError (2) where something is there already, OutputError (9) where one may not look."""
        own = self.samples, self.checkpoints, self.given_images
        begun = {".lock", *(path.name for path in own)}  # of a run that was killed before it had a recipe
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path}: is a file; give another folder to --out.")
            present = {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()
        except OSError as error:
            raise output_error(self.path, error) from error
        if not present <= begun:
            raise UsageError(
                f"{self.path}: is there already; continue it with --resume {self.path}, or give another --out."
            )

    def check_existing(self) -> None:
        """Raises InputError (4) where there is no run to continue, OutputError (9) where one may not look."""
        try:
            there = self.recipe.is_file()
        except OSError as error:
            raise output_error(self.path, error) from error
        if not there:
            raise InputError(f"{self.path}: no run to resume here (no recipe.toml); check the folder's name.")

    def create(self) -> None:
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the advisory lock; a dead process cannot leave it behind. Raises OutputError (9) if another holds it."""
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise output_error(self.path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise output_error(self.path, error) from error
                raise OutputError(
                    f"{self.path}: another process is writing to this run; wait for it or stop it."
                ) from error
            yield
        finally:
            os.close(descriptor)

    def write_json(self, path: Path, values: dict) -> None:
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


class Log:
    """One JSON object a line. Opening it forgets the lines of steps after `step`, which will be written anew."""

    def __init__(self, path: Path, step: int):
        self.path = path
        try:
            if path.exists():
                kept = [line for line in path.read_bytes().splitlines(keepends=True) if _step_of(line) <= step]
                write_atomically(path, b"".join(kept))
            self._file = path.open("ab")
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, values: dict) -> None:
        self._guarded(lambda: self._file.write((json.dumps(values) + "\n").encode()))

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


def _step_of(line: bytes) -> float:
    """A line's step; a line that a kill cut short belongs to no step."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
