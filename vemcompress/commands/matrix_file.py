"""The file of a matrix: recipes x add-ons x seeds, with keys for all runs, for one recipe, or for one add-on."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vemcompress import recipe as recipes
from vemcompress.commands import opening
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.information import INFORMATION
from vemcompress.recipe.sentences import line_of, nearest
from vemcompress.recipe.toml import parse_file
from vemcompress.runs.series import check_seeds
from vemcompress.system.keys import as_overrides
from vemcompress.system.names import printable

TABLES = ("matrix", "common", "recipe", "information")
LISTS = {"recipes": str, "information": str, "seeds": int}  # the keys of [matrix], and what their lists hold
MOST = 10_000  # runs
EXAMPLES = {"recipes": '["omgd", "kd"]', "information": '["none", "vem"]', "seeds": "[1, 2]"}
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """One run: the `name` of its folder, a recipe's name or file, and `overrides` as with --set. `teacher` is the
    recipe's teacher in the file, "" for no teacher, or None to use --teacher. `has_data`: whether the file also names
    its data."""

    name: str
    recipe: str
    overrides: tuple[str, ...]
    teacher: str | None
    has_data: bool


@dataclass(frozen=True)
class MatrixFile:
    """The content of a matrix file.

    `recipes` maps the name of each recipe's table to the name of a shipped recipe or a file. The values of the tables
    are stored by `table.key`. Relative paths start from the file's folder, and are made absolute.
    """

    path: Path
    text: str
    recipes: dict[str, str]
    information: list[str]
    seeds: list[int]
    common: dict[str, Any]
    of_recipe: dict[str, dict[str, Any]]
    of_information: dict[str, dict[str, Any]]

    def entries(self) -> Iterator[Entry]:
        """The runs, seed by seed, so that all runs of the first seed come first."""
        for seed in self.seeds:
            for label, recipe in self.recipes.items():
                for information in self.information:
                    own = self.of_recipe[label]
                    values = self.common | own | {"information.name": information}
                    values |= self.of_information[information] | {"train.seed": seed}
                    if "teacher.source" in own:
                        del values["teacher.source"]
                    name = f"{label.replace('/', '-')}-{information}-seed{seed}"
                    teacher, has_data = own.get("teacher.source"), "data.roots" in own
                    yield Entry(name, recipe, tuple(as_overrides(values)), teacher, has_data)

    def explained(self, error: Exception, run: str) -> str:
        """The error of a run, with the line of this file instead of an option that the user did not give."""
        said = str(error)
        for table in self._tables():
            for key in self._values(table):
                line = line_of(self.text, [*table, *key.split(".")])
                said = said.replace(f"(--set {key})", f"({self.path}, line {line})") if line else said
        return f"run {run}: {said}"

    def _tables(self) -> Iterator[tuple[str, ...]]:
        """The tables, those of highest priority first."""
        yield from (("information", name) for name in self.information)
        yield from (("recipe", label) for label in self.recipes)
        yield ("common",)

    def _values(self, table: tuple[str, ...]) -> dict[str, Any]:
        own = {"common": {"": self.common}, "recipe": self.of_recipe, "information": self.of_information}
        return own[table[0]][table[1] if table[1:] else ""]


def read_matrix(path: str | Path) -> MatrixFile:
    """Read a matrix file. Raises InputError (4) if it cannot be read, RecipeError (3) with the line for invalid
    content, and UsageError (2) for a seed that is listed twice."""
    path = Path(path)
    try:
        values, text = parse_file(path)
    except RecipeError as error:
        kind = InputError if isinstance(error.__cause__, OSError) else RecipeError
        raise kind(f"matrix {str(error).removeprefix('recipe ')}") from error
    read = _Reader(path, re.sub("[\"']", "", text), values)
    read.table((), TABLES)
    lists = {key: read.list(key, kind) for key, kind in LISTS.items()}
    recipe = read.recipes(lists["recipes"])
    for name in lists["information"]:
        if name not in INFORMATION:
            raise read.wrong(("matrix", "information"), f"unknown add-on {name[:60]!r}", nearest(name, [*INFORMATION]))
    if len(recipe) * len(lists["information"]) * len(lists["seeds"]) > MOST:
        raise read.wrong(("matrix", "recipes"), f"more than {MOST:,} runs", "; split it into several files.")
    read.table(("recipe",), recipe)
    read.table(("information",), lists["information"])
    return MatrixFile(
        path,
        read.text,
        recipe,
        lists["information"],
        check_seeds(lists["seeds"]),
        read.keys(("common",)),
        {label: read.keys(("recipe", label)) for label in recipe},
        {name: read.keys(("information", name)) for name in lists["information"]},
    )


@dataclass(frozen=True)
class _Reader:
    """The tables of a file. `text` has no quotes, so that a line can be found by its bare key."""

    path: Path
    text: str
    values: dict[str, Any]

    def wrong(self, keys: Sequence[str], what: str, hint: str = ".") -> RecipeError:
        """An error about these keys, with the line number and the next step."""
        line = line_of(self.text, [*keys]) or line_of(self.text, [*keys[:-1]])
        where = f" in [{'.'.join(keys[:-1])}]" if keys[:-1] else ""
        return RecipeError(printable(f"matrix {self.path}: {what}{where}" + (f" (line {line})" if line else "") + hint))

    def table(self, keys: Sequence[str], known: Iterable[str] | None = None) -> dict[str, Any]:
        """The table at these keys, or an empty one. Raises RecipeError if it has keys that are not `known`."""
        found: Any = self.values
        for place, key in enumerate(keys, 1):
            found = found.get(key, {})
            if not isinstance(found, dict):
                raise self.wrong(keys[:place], f"{key[:60]!r} must be a table")
        if known is not None and (unknown := next((key for key in found if key not in known), None)) is not None:
            raise self.wrong((*keys, unknown), f"unknown key {unknown[:60]!r}", nearest(unknown, [*known]))
        return found

    def list(self, key: str, kind: type) -> list:
        found = self.table(("matrix",), LISTS).get(key)
        if not isinstance(found, list) or not found or not all(type(item) is kind for item in found):
            raise self.wrong(("matrix", key), f"{key} must be a non-empty list", f", such as {key} = {EXAMPLES[key]}.")
        if kind is str and (twice := next((item for item in found if found.count(item) > 1), None)):
            raise self.wrong(("matrix", key), f"{twice[:60]!r} is listed twice", "; name each once.")
        return found

    def recipes(self, found: Sequence[str]) -> dict[str, str]:
        """Names or files by the name of their table: the shipped name, or the file's name without .toml."""
        named = {}
        for name in found:
            source = str(self.path.absolute().parent / name) if name.endswith(".toml") else name
            label = Path(name).stem if name.endswith(".toml") else name
            try:
                recipes.find(source)
            except RecipeError as error:
                raise self.wrong(("matrix", "recipes"), str(error).rstrip("."), ".") from error
            if not _NAME.fullmatch(label.replace("/", "-")) or label in named:
                why = "is the name of two" if label in named else "cannot be a folder's name"
                raise self.wrong(("matrix", "recipes"), f"{label[:60]!r} {why}", "; rename the file.")
            named[label] = source
        return named

    def keys(self, table: Sequence[str]) -> dict[str, Any]:
        """The recipe keys of a table, by `table.key`."""
        flat = dict(_flat(self.table(table)))
        if "train.seed" in flat:
            raise UsageError(f"matrix {self.path}: [matrix] sets train.seed; omit it from [{'.'.join(table)}].")
        if "information.name" in flat:
            raise self.wrong((*table, "information", "name"), "[matrix] already sets information.name", "; omit it.")
        return opening.beside(flat, self.path.absolute().parent)


def _flat(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as one level of keys with dots; in TOML, the key data.size without quotes makes a nested table."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
