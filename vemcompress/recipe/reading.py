"""Reads a recipe by name or path, with its `extends`, its fits to the data, and overrides."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from vemcompress.data.settings import DEGRADED, DataKind
from vemcompress.errors import RecipeError
from vemcompress.recipe.schema import AutoStudent, Recipe, choices, chosen
from vemcompress.recipe.sentences import nearest, sentence, text_of_stage
from vemcompress.recipe.stages import TABLES, Stage, meant
from vemcompress.recipe.toml import DEPTH, NotTOML, parse, parse_file
from vemcompress.system import names
from vemcompress.system.installed import folder, shipped
from vemcompress.system.installed import recipes as installed
from vemcompress.system.settings import BaseSettings, tag_of

# For each table of a recipe: the key that selects its class, and its default value.
TAGS = {table: tag for table in Recipe.model_fields for tag in map(tag_of, choices(Recipe, table)[:1]) if tag}


def general() -> list[str]:
    """Names of the recipes that are not rows of the paper's tables."""
    return [name for name in shipped() if not name.startswith("paper/")]


def find(name: str | Path) -> Path:
    """A recipe's file: a path that ends in .toml, or the name of a shipped recipe or a plugin's."""
    text = str(name)
    if text.endswith(".toml"):
        if "\0" in text or not os.path.lexists(text):
            raise RecipeError(f"recipe {names.printable(text[:100])}: no such file; see `vemcompress recipes list`.")
        return Path(text)
    if text in shipped():
        return folder() / f"{text}.toml"
    if text not in (known := installed()):
        listed = [*general(), "paper/NAME", *list(known)[len(shipped()) :]]
        hint = nearest(text, [*known], listed=listed)
        raise RecipeError(f"recipe '{names.printable(text[:100])}' is not known{hint}")
    return known[text]


def read(name: str | Path, overrides: Sequence[str] = (), *, kind: str | None = None) -> Recipe:
    """Read a recipe by name or path, with its `extends` and `key=value` overrides. Raises RecipeError (3).

    An override applies to every stage; `stages.NAME.key=value` applies to one stage. A recipe may adapt to its data:
    the tables of its `fits.KIND` apply if `data.kind` is KIND, or if no kind is stated and `kind` is KIND. Those of
    `fits.degraded` apply if `data.degrade` is set, and those for pairs also for label maps. `fits.KIND.stages.NAME` has
    those of a stage.
    """
    path = find(name)
    label = str(name) if str(name).endswith(".toml") else path.stem
    values, text = parse_file(path)
    values.setdefault("name", names.shown(path.stem))
    if "extends" in values:
        parent = values.pop("extends")
        if not isinstance(parent, str):
            raise RecipeError(f"recipe {label}: extends must be the name of one recipe, in quotes.")
        base, _ = parse_file(find(parent))
        if "extends" in base:
            raise RecipeError(
                f"recipe {label}: extends '{parent}', which extends another one; only one level is allowed."
            )
        values = _merge(_tagged(base), values)
    changes = _changes(overrides)
    own = changes.pop("stages", {})
    values, fitting = _fitted(values, changes, kind, label)
    own = _join(fitting, own) if isinstance(own, dict) else own
    values = _with_stages(_merge(_tagged(values), changes), changes, own, label)
    recipe = _validate(_tagged(values), f"recipe {label}", text, overrides)
    for stage in recipe.stages:
        of_stage(recipe, stage, label, text, overrides)
    return recipe


def _fitted(values: dict, changes: dict, kind: str | None, label: str) -> tuple[dict, dict]:
    """The layer with the tables that fit the kind of data, and the tables for its stages."""
    values = dict(values)
    fits = values.pop("fits", {})
    kinds = (*get_args(DataKind), DEGRADED)
    if not isinstance(fits, dict) or not all(isinstance(table, dict) for table in fits.values()):
        raise RecipeError(f"recipe {label}: [fits] must have tables, such as [fits.paired.gan].")
    if unknown := next((key for key in fits if key not in kinds), None):
        raise RecipeError(f"recipe {label}: unknown kind of data '{unknown:.60}' in [fits]{nearest(unknown, [*kinds])}")
    data = [layer["data"] for layer in (values, changes) if isinstance(layer.get("data"), dict)]
    found = ([kind] + [layer["kind"] for layer in data if "kind" in layer])[-1] or "single"
    if any("degrade" in layer for layer in data):
        found = DEGRADED
    fit = fits.get(found) or (fits.get("paired") if found == "labels" else None) or {}
    own = fit.get("stages", {})
    tables = {key: table for key, table in fit.items() if key != "stages"}
    return _merge(_tagged(values), _spelled(tables)), own if isinstance(own, dict) else {}


def defaults(overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with only these `key=value` and default values. Raises RecipeError."""
    return _validate(_tagged(_changes(overrides)), "--set", "", overrides)


def classes_named(overrides: Sequence[str]) -> set[str]:
    """The user's own classes ("module:Class") that `key=value` overrides name as a `class_path`. Errors in the
    overrides are ignored here.
    """
    found, todo = set(), []
    with suppress(RecipeError):
        todo = [_changes(overrides)]
    while todo:
        for key, value in todo.pop().items():
            if isinstance(value, dict):
                todo.append(value)
            elif key == "class_path" and isinstance(value, str):
                found.add(value)
    return found


def of_stage(recipe: Recipe, stage: Stage, label: str = "", text: str = "", overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of one stage alone: the pipeline's recipe with the tables that the stage changes. Raises
    RecipeError with the stage's name and the line in the `text` of the recipe's file, or the override, that caused
    it.
    """
    values = {key: value for key, value in recipe.stated().items() if key not in ("stages", "paper", "description")}
    for table in TABLES:
        if stage.do == table:
            values.setdefault(table, {})
        else:
            values.pop(table, None)
    if stage.replaceable:
        values.pop("masks", None)
    values = _tagged(_merge(_tagged(values), _spelled(stage.recipe)))
    where = f"recipe {label or recipe.name}: stage {stage.name}"
    found = _validate(values, where, text_of_stage(text, stage.name), overrides)
    if found.search is not None and found.search.supernet and stage.student is None:
        raise RecipeError(f"{where}: searches a supernet; name the stage that trains it with student = 'NAME'.")
    if found.search is not None and not found.search.supernet and stage.student is not None:
        raise RecipeError(f"{where}: searches the teacher's own networks and needs no student; omit it.")
    return found


def with_changes(recipe: Recipe, overrides: Sequence[str], stages: list[str]) -> Recipe:
    """A pipeline's recipe with these `key=value`; an override without a stage name applies to each of `stages`.
    Raises RecipeError.
    """
    for override in overrides:
        key, _, rest = override.partition(".")
        named, _, rest = rest.partition(".") if key.strip() == "stages" else ("", "", override)
        tables = {name: _override(rest) for name in ([named] if named else meant(recipe.stages, stages, rest))}
        values = _with_stages(recipe.stated(), {}, tables, recipe.name)
        recipe = _validate(values, f"recipe {recipe.name}", "", overrides)
    for stage in recipe.stages:
        of_stage(recipe, stage)
    return recipe


def _with_stages(values: dict, changes: dict, own: dict, label: str) -> dict:
    """Apply changes of the whole recipe also to the tables of the stages, and `own` changes to single stages."""
    stages = values.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        stages = []  # there are none, or they are invalid and the schema reports it
    known = [str(stage.get("name")) for stage in stages]
    for name, change in own.items() if isinstance(own, dict) else [("NAME", own)]:
        if not isinstance(change, dict):
            raise RecipeError(f"--set stages.{name}: write it as stages.{name}.table.key=value.")
        if name not in known:
            hint = nearest(name, known) if known else "; this recipe has none."
            raise RecipeError(f"recipe {label}: --set stages.{name}: no such stage{hint}")
    found = []
    for name, stage in zip(known, stages, strict=True):
        table = stage.get("recipe", {})
        if isinstance(table, dict):
            same = {key: value for key, value in changes.items() if key in table}
            table = _merge(_merge(_spelled(table), same), _spelled(own.get(name, {})))
        found.append(stage | {"recipe": table})
    return values | ({"stages": found} if found else {})


def _override(text: str) -> dict:
    """`train.batch=8` as nested tables; a value that is not TOML is read as text."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) > DEPTH or not all(re.fullmatch(r"[A-Za-z_]\w{0,99}", part) for part in parts):
        raise RecipeError(
            f"--set {names.printable(text[:100])}: write it as table.key=value, for example --set train.batch=8."
        )
    try:
        parsed = parse(f"value = {value}")
    except NotTOML:
        parsed = {}
    except ValueError as error:
        raise RecipeError(f"--set {names.printable(text[:100])}: {error}.") from error
    parsed = parsed["value"] if parsed.keys() == {"value"} else names.stored(value.strip())
    for part in reversed(parts):
        parsed = {part: parsed}
    return parsed


def _changes(overrides: Sequence[str]) -> dict:
    """All overrides as one layer of tables; for the same key, the last one wins."""
    changes: dict = {}
    for override in overrides:
        changes = _join(changes, _spelled(_override(override)))
    return changes


def _join(tables: dict, more: dict) -> dict:
    """Merge nested tables; for the same key, the later value wins."""
    joined = dict(tables)
    for key, value in more.items():
        both = isinstance(joined.get(key), dict) and isinstance(value, dict)
        joined[key] = _join(joined[key], value) if both else value
    return joined


def _merge(below: dict, above: dict, kind: type[BaseSettings] | None = Recipe) -> dict:
    """Apply one layer of tables to another; both belong to this class."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge_table(old, value, choices(kind, key)) if both else value
    return merged


def _merge_table(old: dict, values: dict, kinds: list[type[BaseSettings]]) -> dict:
    """Apply a table to another. If it changes `name` or `family`, and so the possible keys, it starts from defaults,
    except for keys that both kinds inherit from a shared class.
    """
    tag = next((tag[0] for tag in map(tag_of, kinds) if tag), None)
    anew = AutoStudent in kinds and not values.keys().isdisjoint(AutoStudent.alone) and tag not in values
    if anew:
        return values
    kind = chosen(kinds, old)
    if tag in values and values[tag] != old.get(tag) and (other := chosen(kinds, values)) is not kind:
        shared = _shared(kind, other)
        return {key: value for key, value in old.items() if key in shared} | values
    return _merge(kind.under(old, values) if kind else old, values, kind)


def _shared(one: type[BaseSettings] | None, other: type[BaseSettings] | None) -> set[str]:
    """Keys that two classes inherit from a class marked `shared`, such as how a trained teacher and the student
    share the steps.
    """
    bases = set(one.__mro__) & set(other.__mro__) if one and other else set()
    return {key for base in bases if getattr(base, "shared", False) for key in base.model_fields}


def _spelled(values: dict) -> dict:
    """Replace a table that is given only by its tag, such as prune.method = "NAME", by a full table."""
    found = dict(values)
    for table, kinds in ((table, choices(Recipe, table)) for table in values.keys() & Recipe.model_fields.keys()):
        if isinstance(values[table], dict) and (kind := chosen(kinds, values[table])):
            for key, value in values[table].items():
                tag = next((tag for tag in map(tag_of, choices(kind, key)) if tag), None)
                if isinstance(value, str) and tag:
                    found[table] = found[table] | {key: {tag[0]: value}}
    return found


def _tagged(values: dict) -> dict:
    """The layer with the default tag added to each table that omits it."""
    values = _spelled(values)
    tables = {table: dict([tag]) for table, tag in TAGS.items() if isinstance(values.get(table), dict)}
    return values | {table: tag | values[table] for table, tag in tables.items()}


def _completed(table: dict, kind: type[BaseSettings] | None) -> dict:
    """For tables within a table: a partial one becomes the default with those keys changed."""
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


def _validate(values: dict, label: str, text: str, overrides=()) -> Recipe:
    for table in Recipe.model_fields.keys() & values.keys():
        if isinstance(values[table], dict):
            values[table] = _completed(values[table], chosen(choices(Recipe, table), values[table]))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # A spelling error explains the other errors, so it is reported first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        found = sentence(errors[0], values, text, overrides)
        raise RecipeError(names.printable(f"{label}: {found}"[:2000])) from error
