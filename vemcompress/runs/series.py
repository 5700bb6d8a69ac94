"""Several runs in one folder, one after the other: the seeds of one recipe, the stages of a pipeline, or the runs of a
matrix of recipes."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vemcompress.errors import InputError, UsageError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.own import check_inside, is_leftover
from vemcompress.system import distributed
from vemcompress.system.files import MALFORMED, make_folder, output_error, read_json, write_atomically

KINDS = {"seeds": "seed", "stages": "stage", "matrix": "run"}  # the kind of a series, and the word for one item
NAMES = {"stages": r"[a-z][a-z0-9_]*", "matrix": r"\w[\w.-]{0,199}"}  # valid names of items, which are names of folders
LARGEST = 2**31 - 1  # the limit of the recipe's train.seed


def is_series(folder: str | Path, kind: str) -> bool:
    """Whether a folder has the runs of several seeds, the stages of a pipeline, or the runs of a matrix."""
    try:
        return (Path(folder) / f"{kind}.json").is_file()
    except OSError:
        return False


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Raises UsageError for an empty list, a repeated seed, or a value that is not a seed."""
    seeds = list(seeds)
    if not seeds:
        raise UsageError("--seeds: no seed given; write them as 1,2,3.")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed <= LARGEST:
            raise UsageError(f"--seeds: {seed!r} is not a seed; give whole numbers from 0 to {LARGEST}.")
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UsageError(
            f"--seeds: {twice[0]} is listed twice, which would give the same run twice; use different numbers."
        )
    return seeds


class Series:
    """A list on disk, `seeds.json`, `stages.json` or `matrix.json`, and a run folder for each of its `items`, in order.

    The folders are `seed-N`; `1-NAME`, `2-NAME`, ...; or the names of a matrix's runs. Items in `done` have nothing to
    resume; stages in `skipped` have no folder.
    """

    def __init__(self, path: str | Path, kind: str, items: Sequence, done: Sequence = (), skipped: dict | None = None):
        self.path, self.kind, self.one = Path(path), kind, KINDS[kind]
        self.items, self.done = check_seeds(items) if kind == "seeds" else list(items), list(done)
        self.skipped: dict[str, str] = skipped or {}  # stages whose product the user brings, and why
        self.list, self.recipe = self.path / f"{kind}.json", self.path / "recipe.toml"  # of the whole pipeline
        self.recipes: dict[str, str] = {}  # for a new matrix, the text of each run's recipe

    @classmethod
    def read(cls, path: str | Path, kind: str) -> "Series":
        """Read a series. Raises InputError if its list is missing or not valid."""
        file = Path(path) / f"{kind}.json"
        try:
            said = read_json(file)
            items = said[kind]
            if not isinstance(items, list):
                raise ValueError(f"{kind} is not a list")
            if kind in NAMES and not all(re.fullmatch(NAMES[kind], name, re.ASCII) for name in items):
                raise ValueError(f"a {KINDS[kind]} has an invalid name")
            skipped = {name: str(why) for name, why in said.get("skipped", {}).items() if name in items}
            return cls(path, kind, items, [item for item in said["done"] if item in items], skipped)
        except (OSError, *MALFORMED, UsageError) as error:
            example = {"seeds": [1, 2, 3], "stages": ["teach", "distill"], "matrix": ["omgd-vem-seed1"]}[kind]
            example = json.dumps({kind: example, "done": []})
            raise InputError(f"{file}: is not valid ({error}); correct it, for example: {example}.") from error

    def run(self, item: int | str) -> RunFolder:
        numbered = {"seeds": f"seed-{item}", "matrix": str(item)}
        return RunFolder(self.path / (numbered.get(self.kind) or f"{self.items.index(item) + 1}-{item}"))

    def recipe_of(self, item: str) -> Path:
        """The recipe of a run of a matrix."""
        return self.path / f"{item}.toml"

    def begun(self) -> list[RunFolder]:
        """The runs that can be resumed."""
        return [run for run in map(self.run, self.items) if run.recipe.is_file()]

    def last_done(self) -> RunFolder:
        """The run of the last item that is done. Raises InputError if there is none, or its folder was removed."""
        done = [item for item in self.items if item in self.done]
        if not done:
            raise InputError(f"{self.path}: no {self.one} is done yet; continue with --resume {self.path}.")
        self.check_there(done[-1])
        return self.run(done[-1])

    def check_there(self, item: int | str) -> None:
        """Raises InputError if an item is done and its folder was removed."""
        run = self.run(item)
        if item in self.done and not run.recipe.is_file():
            raise InputError(
                f"{run.path}: is missing, but {self.one} {item} is done and its product belongs to this pipeline; put "
                f"the folder back, or start a new run with --recipe {self.recipe}."
            )

    def mark_done(self, item: int | str) -> None:
        if item not in self.done:
            self.done.append(item)
            distributed.by_writer(self._write)

    def check_new(self) -> None:
        """Raises UsageError if the folder exists and has more than a start leaves that was killed at once."""
        own = {*self._own(), *(self.run(item).path.name for item in self.items)}
        try:
            found = list(self.path.iterdir()) if self.path.is_dir() else []
            there = {path.name for path in found if not is_leftover(path)}
        except OSError as error:
            raise output_error(self.path, error) from error
        if not there or there - own:
            RunFolder(self.path).check_new()
        if self.begun():
            raise UsageError(
                f"{self.path}: already exists; continue it with --resume {self.path}, or give another --out."
            )
        for item in self.items:
            self.run(item).check_new()

    def check_existing(self) -> None:
        """Raises InputError if the folder of a resumed series has links or special files, or if its recipe was
        changed."""
        check_inside(self.path)
        if self.recipe.is_file():
            RunFolder(self.path).check_recipe()

    @contextmanager
    def started(self, recipe: str | None = None) -> Iterator[None]:
        """Hold the folder, with its list and its own `recipe` written. If an error comes before the first run begins,
        everything is removed."""
        made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        make_folder(self.path)
        try:
            with RunFolder(self.path).locked():
                self._write()
                if recipe is not None:
                    RunFolder(self.path).write_recipe(recipe)
                for item, text in self.recipes.items():
                    write_atomically(self.recipe_of(item), text.encode())
                yield
        except BaseException:
            if not self.begun():
                self._take_away(made)
            raise

    def _own(self) -> tuple[str, ...]:
        recipes = {"stages": [self.recipe], "matrix": map(self.recipe_of, self.items)}
        return (self.list.name, ".lock", *(path.name for path in recipes.get(self.kind, ())))

    def _write(self) -> None:
        skipped = {"skipped": self.skipped} if self.skipped else {}
        text = json.dumps({self.kind: self.items, "done": self.done} | skipped)
        write_atomically(self.list, f"{text}\n".encode())

    def _take_away(self, folders: list[Path]) -> None:
        with suppress(OSError):  # an error in the removal must not hide the first error
            for name in self._own():
                (self.path / name).unlink(missing_ok=True)
            for folder in folders:
                folder.rmdir()
