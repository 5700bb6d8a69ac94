"""Reading a recipe: by name or path, what it extends, what overrides it."""

import re
import tomllib
from pathlib import Path

from pydantic import ValidationError

from vemcompress.errors import RecipeError
from vemcompress.gans import GANS
from vemcompress.recipe.schema import Recipe
from vemcompress.recipe.sentences import nearest, sentence

TAGS = {
    "algorithm": ("name", "omgd"),
    "information": ("name", "vem"),
    "student": ("family", "auto"),
    "gan": ("name", "pix2pix"),
}

# The layer on top wins: what it sets removes what it excludes, or what was chosen to fit the old value, from below.
REPLACES = {
    "steps": ("epochs",),
    "epochs": ("steps",),
    "width": ("target_macs", "widths", "down", "up"),
    "downs": ("down", "up"),
    "phase_steps": ("phase_epochs",),
    "phase_epochs": ("phase_steps",),
    "target_macs": ("width",),
    "features": ("features_weights", "style", "feature", "channel", "recon"),
    "size": ("load_size",),
}


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
        values = _merge(base, values)
    chosen: dict = {}
    for override in overrides:
        chosen = _join(chosen, _override(override))
    return _validate(_merge(values, chosen), label, text, overrides)


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


def _merge(below: dict, above: dict) -> dict:
    """One layer of tables on another. A table that changes its `name` or `family`, and so its keys, starts anew."""
    merged = dict(below)
    for table, values in above.items():
        old = merged.get(table)
        both = isinstance(old, dict) and isinstance(values, dict)
        merged[table] = _merge_table(old, values, *TAGS.get(table, ("family", None))) if both else values
    return merged


def _merge_table(old: dict, values: dict, tag: str, default: str | None) -> dict:
    resized = "target_macs" in values and "family" not in values
    if resized or (tag in values and values[tag] != old.get(tag, default)):
        return values
    outdated = {gone for key in values if values[key] != old.get(key) for gone in REPLACES.get(key, ())}
    kept = {key: value for key, value in old.items() if key not in outdated}
    if "widths" in outdated:
        kept = _same_depth(old, kept, values)
    return _merge(kept, values)


def _judge_of(gan: str, values: dict) -> dict:
    """A discriminator of which only a part is said is the GAN's own with that part changed."""
    if gan not in GANS:
        return values
    own = GANS[gan].Settings.model_fields["discriminator"].default
    return _merge_table({"family": own.family} | own.model_dump(exclude_unset=True), values, "family", None)


def _same_depth(old: dict, kept: dict, values: dict) -> dict:
    """A network that gets another width keeps its number of blocks or levels, unless that is set too."""
    if isinstance(old.get("blocks"), list) and "blocks" not in values:
        kept["blocks"] = len(old["blocks"])
    if isinstance(old.get("down"), list) and "downs" not in values:
        kept["downs"] = len(old["down"])
    return kept


def _validate(values: dict, name: str, text: str, overrides=()) -> Recipe:
    for table, (tag, default) in TAGS.items():
        if isinstance(values.get(table), dict):
            values[table] = {tag: default} | values[table]
    if isinstance(gan := values.get("gan"), dict) and isinstance(judge := gan.get("discriminator"), dict):
        values["gan"] = gan | {"discriminator": _judge_of(gan["name"], judge)}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # A typing error explains the rest, so it is told first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise RecipeError(f"recipe {name}: {sentence(errors[0], values, text, overrides)}") from error
