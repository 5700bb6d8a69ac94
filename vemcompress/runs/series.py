"""The folder of several seeds' runs: which seeds, which of them are done, and who may start there."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vemcompress.errors import InputError, UsageError
from vemcompress.runs.folder import RunFolder
from vemcompress.system import distributed
from vemcompress.weights.files import output_error, write_atomically

LIST = "seeds.json"
LARGEST = 2**31 - 1  # as the recipe's train.seed


def are_in(folder: str | Path) -> bool:
    """Whether it is a folder of several seeds' runs."""
    try:
        return (Path(folder) / LIST).is_file()
    except OSError:
        return False


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Raises UsageError for a list that is empty, or has twice the same or what is no seed."""
    seeds = list(seeds)
    if not seeds:
        raise UsageError("--seeds: there is no seed; write them as 1,2,3.")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed <= LARGEST:
            raise UsageError(f"--seeds: {seed!r} is no seed; take whole numbers from 0 to {LARGEST}.")
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UsageError(f"--seeds: {twice[0]} is there twice, and would give the same run; take different numbers.")
    return seeds


class SeedsFolder:
    """`seeds.json`, and a run folder `seed-N` for each of the `seeds`; those that are `done` have nothing to resume."""

    def __init__(self, path: str | Path, seeds: Sequence[int], done: Sequence[int] = ()):
        self.path, self.seeds, self.done = Path(path), check_seeds(seeds), list(done)

    @classmethod
    def read(cls, path: str | Path) -> "SeedsFolder":
        """Raises InputError where the list is absent or cannot be understood."""
        file = Path(path) / LIST
        try:
            said = json.loads(file.read_text())
            return cls(path, said["seeds"], [seed for seed in said["done"] if seed in said["seeds"]])
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise InputError(
                f'{file}: cannot be understood ({error}); mend it, such as {{"seeds": [1, 2, 3], "done": []}}.'
            ) from error

    def run(self, seed: int) -> RunFolder:
        return RunFolder(self.path / f"seed-{seed}")

    def begun(self) -> list[RunFolder]:
        """The runs that can be resumed."""
        return [run for run in map(self.run, self.seeds) if run.recipe.is_file()]

    def mark_done(self, seed: int) -> None:
        if seed not in self.done:
            self.done.append(seed)
            distributed.by_writer(self._write)

    def check_new(self) -> None:
        """Raises UsageError where something is there, but for what a start leaves that was killed at once."""
        own = {LIST, ".lock", *(self.run(seed).path.name for seed in self.seeds)}
        try:
            there = {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()
        except OSError as error:
            raise output_error(self.path, error) from error
        if not there or there - own:
            RunFolder(self.path).check_new()
        if self.begun():
            raise UsageError(
                f"{self.path}: is there already; continue it with --resume {self.path}, or give another --out."
            )
        for seed in self.seeds:
            self.run(seed).check_new()

    @contextmanager
    def started(self) -> Iterator[None]:
        """Hold the folder, with its list written; nothing is left of it where an error comes before any run begins."""
        made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error
        try:
            with RunFolder(self.path).locked():
                self._write()
                yield
        except BaseException:
            if not self.begun():
                self._take_away(made)
            raise

    def _write(self) -> None:
        write_atomically(self.path / LIST, (json.dumps({"seeds": self.seeds, "done": self.done}) + "\n").encode())

    def _take_away(self, folders: list[Path]) -> None:
        with suppress(OSError):  # what cannot be removed does not hide why nothing began
            for name in (LIST, ".lock"):
                (self.path / name).unlink(missing_ok=True)
            for folder in folders:
                folder.rmdir()
