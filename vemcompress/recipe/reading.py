"""Reading a recipe: by name or path, what it extends, what overrides it."""

import re
import tomllib
from pathlib import Path

from pydantic import ValidationError

from vemcompress.errors import RecipeError
from vemcompress.recipe.schema import AutoStudent, Recipe, choices, chosen
from vemcompress.recipe.sentences import nearest, sentence
from vemcompress.system.settings import BaseSettings, tag_of

# By table of a recipe: the key that says of which class it is, and what it is if it does not say.
TAGS = {table: tag for table in Recipe.model_fields for tag in map(tag_of, choices(Recipe, table)[:1]) if tag}


def folder() -> Path:
    """Where the shipped recipes are: inside a wheel, or beside the package in an editable install."""
    packaged = Path(__file__).parents[1] / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def shipped() -> list[str]:
    """Names of the shipped recipes, `paper/...` included."""
    return sorted(p.relative_to(folder()).with_suffix("").as_posix() for p in folder().rglob("*.toml"))


def find(name: str | Path) -> Path:
    """A recipe's file: a path that ends in .toml, or a shipped name."""
    text = str(name)
    if text.endswith(".toml"):
        if not Path(text).is_file():
            raise RecipeError(f"recipe {text}: no such file; see `vemcompress recipes list`.")
        return Path(text)
    if text not in shipped():
        raise RecipeError(f"recipe '{text}' is not known{nearest(text, shipped())}")
    return folder() / f"{text}.toml"


def read(name: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by name or path, with its `extends` and `key=value` overrides. Raises RecipeError (3)."""
    path = find(name)
    label = str(name) if str(name).endswith(".toml") else path.stem
    values, text = _parse(path)
    values.setdefault("name", path.stem)
    if "extends" in values:
        parent = values.pop("extends")
        if not isinstance(parent, str):
            raise RecipeError(f"recipe {label}: extends must be the name of one recipe, in quotes.")
        base, _ = _parse(find(parent))
        if "extends" in base:
            raise RecipeError(f"recipe {label}: extends '{parent}', which extends another; one level is allowed.")
        values = _merge(_tagged(base), values)
    changes: dict = {}
    for override in overrides:
        changes = _join(changes, _override(override))
    return _validate(_tagged(_merge(_tagged(values), changes)), label, text, overrides)


def _parse(path: Path) -> tuple[dict, str]:
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {path}: not valid TOML: {error}.") from error


def _override(text: str) -> dict:
    """`train.batch=8` as nested tables; a value that is not TOML is taken as text."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\s*[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\s*", key):
        raise RecipeError(f"--set {text}: write it as table.key=value, for example --set train.batch=8.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def _join(tables: dict, more: dict) -> dict:
    """Nested tables side by side; the later value of one key wins."""
    joined = dict(tables)
    for key, value in more.items():
        both = isinstance(joined.get(key), dict) and isinstance(value, dict)
        joined[key] = _join(joined[key], value) if both else value
    return joined


def _merge(below: dict, above: dict, kind: type[BaseSettings] | None = Recipe) -> dict:
    """One layer of tables on another, both of this class."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge_table(old, value, choices(kind, key)) if both else value
    return merged


def _merge_table(old: dict, values: dict, kinds: list[type[BaseSettings]]) -> dict:
    """A table on another. One that changes its `name` or `family`, and so its keys, starts anew."""
    tag = next((tag[0] for tag in map(tag_of, kinds) if tag), None)
    anew = AutoStudent in kinds and not values.keys().isdisjoint(AutoStudent.alone) and tag not in values
    if anew or (tag in values and values[tag] != old.get(tag)):
        return values
    kind = chosen(kinds, old)
    return _merge(kind.under(old, values) if kind else old, values, kind)


def _tagged(values: dict) -> dict:
    """The layer with a tag in each table that has left it away."""
    tables = {table: dict([tag]) for table, tag in TAGS.items() if isinstance(values.get(table), dict)}
    return values | {table: tag | values[table] for table, tag in tables.items()}


def _completed(table: dict, kind: type[BaseSettings] | None) -> dict:
    """Of a table's own tables, one of which only a part is said is the default with that part changed."""
    for key in table.keys() & (kind.model_fields if kind else {}):
        own, kinds = kind.model_fields[key].default, choices(kind, key)
        if not isinstance(table[key], dict):
            continue
        if isinstance(own, BaseSettings) and (tag := tag_of(type(own))):
            default = dict([tag]) | own.model_dump(exclude_unset=True)
            table = table | {key: _merge_table(default, table[key], kinds)}
        else:
            table = table | {key: _completed(table[key], chosen(kinds, table[key]))}
    return table


def _validate(values: dict, name: str, text: str, overrides=()) -> Recipe:
    for table in TAGS.keys() & values:
        if isinstance(values[table], dict):
            values[table] = _completed(values[table], chosen(choices(Recipe, table), values[table]))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # A typing error explains the rest, so it is told first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise RecipeError(f"recipe {name}: {sentence(errors[0], values, text, overrides)}") from error
