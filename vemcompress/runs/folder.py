"""A run folder: its files, its recipe and its lock."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vemcompress.errors import InputError, OutputError, UsageError
from vemcompress.runs import checkpoint, own
from vemcompress.runs.log import removed
from vemcompress.system.files import is_same, make_folder, open_own, output_error, read_bytes, write_atomically

_SUM = b"# SHA-256 of the lines above: "


class RunFolder:
    """`recipe.toml`, `student.safetensors`, `metrics.jsonl`, `timing.jsonl`, `samples/`, `checkpoints/`, `best/`,
    `environment.json`, and the networks of teachers that were trained here; `evaluation.json`, the last result of
    `eval`; `latency.json`, the last result of `bench`; `tensorboard/`, made from the logs; `teacher_cache/`, which may
    be deleted between runs. One process writes at a time."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.toml"
        self.student = self.path / "student.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.timing = self.path / "timing.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.teacher_cache = self.path / "teacher_cache"
        self.environment = self.path / "environment.json"
        self.evaluation = self.path / "evaluation.json"
        self.latency = self.path / "latency.json"
        self._home: int | None = None  # the folder's descriptor, while it is locked
        self.given_images = self.path / "given_images"  # those given from Python

    def artifact(self, name: str) -> Path:
        """The file of the newest network of this name: `student`, `teacher`, `discriminator`, ..."""
        return self.path / f"{name}.safetensors"

    def check_new(self) -> None:
        """Raises UsageError (2) if the folder already exists, OutputError (9) if it cannot be read."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path}: is a file; give a folder to --out.")
            free = not self.path.is_dir() or self._only_leftovers()
        except OSError as error:
            raise output_error(self.path, error) from error
        if not free:
            raise UsageError(
                f"{self.path}: already exists; continue it with --resume {self.path}, or give another --out."
            )

    def _only_leftovers(self) -> bool:
        """Whether the folder has only what a run leaves that was killed before it wrote its recipe."""
        begun = (self.samples, self.checkpoints)
        inside = (path for folder in begun if folder.is_dir() for path in folder.iterdir())
        rest = [path for path in (*self.path.iterdir(), *inside) if not own.is_leftover(path)]
        return {path.name for path in rest} <= {".lock", self.given_images.name, *(folder.name for folder in begun)}

    def check_existing(self) -> None:
        """Raises InputError (4) if there is no run to continue or its recipe was changed, OutputError (9) if the folder
        cannot be read."""
        try:
            there = self.recipe.is_file()
            begun = not there and self.path.is_dir() and self._only_leftovers()
        except OSError as error:
            raise output_error(self.path, error) from error
        if begun:
            raise InputError(
                f"{self.path}: no run to resume here, it was stopped before it wrote its recipe; start it again with "
                f"--out {self.path}."
            )
        if not there:
            raise InputError(f"{self.path}: no run to resume here (no recipe.toml); check the folder's name.")
        own.check_inside(self.path)
        self.check_recipe()

    def write_recipe(self, text: str) -> None:
        """Write the recipe, with its SHA-256 in the last line for `check_recipe`. Raises OutputError."""
        data = text.encode()
        write_atomically(self.recipe, data + _SUM + hashlib.sha256(data).hexdigest().encode() + b"\n")

    def check_recipe(self) -> None:
        """Raises InputError if the recipe was changed after it was written. A recipe without a checksum, from an
        earlier release, is accepted."""
        try:
            text, told, digest = read_bytes(self.recipe).rpartition(_SUM)
        except OSError as error:
            raise InputError(f"{self.recipe}: cannot be read ({error.strerror or error}).") from error
        if told and digest.strip() != hashlib.sha256(text).hexdigest().encode():
            raise InputError(
                f"{self.recipe}: was changed by hand or damaged since the run wrote it; put it back (and change keys "
                "with --set), or remove its last line, which is its SHA-256, to continue with it as it is."
            )

    def check_there(self) -> None:
        """Raises OutputError if the folder was removed or replaced after it was locked."""
        if self._home is not None and not is_same(self.path, self._home):
            raise removed(self.path)

    def create(self) -> None:
        make_folder(self.samples)
        make_folder(self.checkpoints)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the advisory lock, and remove unfinished files of a killed process.

        The lock ends with its process. Raises OutputError (9) if another process holds it or the folder is removed
        meanwhile, InputError (4) for links and special files in the folder.
        """
        own.check_inside(self.path)
        try:
            descriptor = open_own(self.path / ".lock", os.O_RDWR)
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
            self._home = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            own.sweep(self.path, self.samples, self.checkpoints, self.best, self.teacher_cache)
            checkpoint.discard_unfinished(self.checkpoints)
            try:
                yield
            except OutputError:
                self.check_there()  # if the folder was removed, that is the reason for the error
                raise
        finally:
            if self._home is not None:
                os.close(self._home)
                self._home = None
            os.close(descriptor)

    def write_json(self, path: Path, values: dict) -> None:
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
