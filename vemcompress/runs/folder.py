"""A run folder: who may write to it, its log, and what is in it."""

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
    `environment.json`, and teachers that learnt here; `evaluation.json`, what `eval` told last; `latency.json`, what
    the quickstart measured; `tensorboard/`, made from the logs; `teacher_cache/`, which may be deleted between runs.
    One process writes at a time."""

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
        self.given_images = self.path / "given_images"  # those that were given from Python

    def artifact(self, name: str) -> Path:
        """Where the newest network of this name is: `student`, `teacher`, `discriminator`, ..."""
        return self.path / f"{name}.safetensors"

    def check_new(self) -> None:
        """Raises UsageError (2) where something already exists, OutputError (9) where one may not look."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path}: is a file; give another folder to --out.")
            free = not self.path.is_dir() or self._only_leftovers()
        except OSError as error:
            raise output_error(self.path, error) from error
        if not free:
            raise UsageError(
                f"{self.path}: already exists; continue it with --resume {self.path}, or give another --out."
            )

    def _only_leftovers(self) -> bool:
        """Whether there is but what a run leaves that was killed before it had a recipe."""
        begun = (self.samples, self.checkpoints)
        inside = (path for folder in begun if folder.is_dir() for path in folder.iterdir())
        rest = [path for path in (*self.path.iterdir(), *inside) if not own.is_leftover(path)]
        return {path.name for path in rest} <= {".lock", self.given_images.name, *(folder.name for folder in begun)}

    def check_existing(self) -> None:
        """Raises InputError (4) where there is no run to continue, or it is not as it was written, OutputError (9)
        where one may not look."""
        try:
            there = self.recipe.is_file()
            begun = not there and self.path.is_dir() and self._only_leftovers()
        except OSError as error:
            raise output_error(self.path, error) from error
        if begun:
            raise InputError(
                f"{self.path}: no run to resume here, it was stopped before it had a recipe; start it anew, with "
                f"--out {self.path}."
            )
        if not there:
            raise InputError(f"{self.path}: no run to resume here (no recipe.toml); check the folder's name.")
        own.check_inside(self.path)
        self.check_recipe()

    def write_recipe(self, text: str) -> None:
        """With its SHA-256 in a last line, by which `check_recipe` knows it. Raises OutputError."""
        data = text.encode()
        write_atomically(self.recipe, data + _SUM + hashlib.sha256(data).hexdigest().encode() + b"\n")

    def check_recipe(self) -> None:
        """Raises InputError where the recipe is not as it was written. One without its sum, as of an earlier release,
        is taken as it is."""
        try:
            text, told, digest = read_bytes(self.recipe).rpartition(_SUM)
        except OSError as error:
            raise InputError(f"{self.recipe}: cannot be read ({error.strerror or error}).") from error
        if told and digest.strip() != hashlib.sha256(text).hexdigest().encode():
            raise InputError(
                f"{self.recipe}: was changed by hand or damaged since the run wrote it; put it back (and change keys "
                "with --set), or remove its last line, which is its SHA-256, to go on with it as it is."
            )

    def check_there(self) -> None:
        """Raises OutputError where the folder was removed, or another is in its place, since it was locked."""
        if self._home is not None and not is_same(self.path, self._home):
            raise removed(self.path)

    def create(self) -> None:
        make_folder(self.samples)
        make_folder(self.checkpoints)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the advisory lock; a dead process cannot leave it behind, and what it left half written is removed.

        Raises OutputError (9) if another holds it, or if the folder is removed meanwhile; InputError (4) for what may
        not lie in a run's folder.
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
                self.check_there()  # where the folder is gone, that is why nothing could be written
                raise
        finally:
            if self._home is not None:
                os.close(self._home)
                self._home = None
            os.close(descriptor)

    def write_json(self, path: Path, values: dict) -> None:
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
