"""What a run is, as TOML: teacher x student x algorithm x information, its data and its training.

The schema is put together from the `Settings` of the networks, algorithms and add-ons themselves. A recipe may leave
open what depends on the teacher (student, batch, C, weights); `resolve.py` fills that in, and the run folder keeps the
result.
"""

from __future__ import annotations

import json
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from vemcompress.algorithms import AnyAlgorithm
from vemcompress.errors import RecipeError
from vemcompress.information import AnyInformation
from vemcompress.information.vem import VEM
from vemcompress.networks import (
    CartoonGANConfig,
    DeepMobileResNetConfig,
    DeepUNetConfig,
    MobileResNetConfig,
    ResNetConfig,
    UNetConfig,
)
from vemcompress.settings import BaseSettings, Betas

TAGS = {"algorithm": ("name", "omgd"), "information": ("name", "vem"), "student": ("family", "auto")}

# The layer on top wins: what it sets removes what it excludes, or what was chosen to fit the old value, from below.
REPLACES = {
    "steps": ("epochs",),
    "epochs": ("steps",),
    "width": ("target_macs", "widths", "down", "up"),
    "target_macs": ("width",),
    "features": ("features_weights", "style", "feature", "channel", "recon"),
    "size": ("load_size",),
}


class TeacherSettings(BaseSettings):
    """`norm = "batch"`: BatchNorm by each image's own statistics, as Pix2Pix is tested."""

    source: str | None = None
    class_path: str | None = None
    norm: Literal["eval", "batch"] = "eval"


class AutoStudent(BaseSettings):
    """A student of the teacher's kind, channels and depth, and of a U-Net's norm. `target_macs` are true MACs."""

    family: Literal["auto"] = "auto"
    width: int | None = Field(None, ge=1)
    target_macs: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_of(self):
        if self.width and self.target_macs:
            raise ValueError("width and target_macs exclude each other; give one")
        return self


AnyStudent = Annotated[
    AutoStudent
    | ResNetConfig
    | MobileResNetConfig
    | UNetConfig
    | CartoonGANConfig
    | DeepUNetConfig
    | DeepMobileResNetConfig,
    Field(discriminator="family"),
]


class DataSettings(BaseSettings):
    """`size`: side of the square images in pixels. `load_size`: what they are resized to before the random crop."""

    size: int = Field(256, ge=8, le=4096)
    load_size: int | None = Field(None, ge=8, le=8192)
    flip: bool = True
    split: str = "trainA"
    roots: tuple[str, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _crop_fits(self):
        if self.load_size and self.load_size < self.size:
            raise ValueError(f"load_size {self.load_size} is smaller than size {self.size}")
        return self


class TrainSettings(BaseSettings):
    """`steps` or `epochs`. `constant`: the share of the steps at the full learning rate, before it falls to zero."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    batch: int | None = Field(None, ge=1)
    lr: float = Field(2e-4, gt=0)
    betas: Betas = Field((0.5, 0.999), strict=False)
    constant: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_every: int = Field(1000, ge=1)
    sample_every: int = Field(1000, ge=1)
    log_every: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _one_length(self):
        if self.steps and self.epochs:
            raise ValueError("steps and epochs exclude each other; give one")
        return self


class Recipe(BaseSettings):
    """A whole run. `paper` holds a published table's row and changes nothing."""

    name: str = "unnamed"
    description: str = ""
    teacher: TeacherSettings = TeacherSettings()
    student: AnyStudent = AutoStudent()
    data: DataSettings = DataSettings()
    algorithm: AnyAlgorithm = AnyAlgorithm()
    information: AnyInformation = VEM.Settings()
    train: TrainSettings = TrainSettings()
    paper: dict[str, str | int | float] = Field(default_factory=dict)

    def toml(self) -> str:
        """The recipe as TOML; settings that are open (None) are left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))


def folder() -> Path:
    """Where the shipped recipes are: inside a wheel, or beside the package in an editable install."""
    packaged = Path(__file__).parent / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "recipes"


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
        raise RecipeError(f"recipe '{text}' is not known{_nearest(text, shipped())}")
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
        if not (isinstance(old, dict) and isinstance(values, dict)):
            merged[table] = values
            continue
        tag, default = TAGS.get(table, ("", ""))
        resized = table == "student" and "target_macs" in values and "family" not in values
        if resized or (tag in values and values[tag] != old.get(tag, default)):
            merged[table] = values
            continue
        outdated = {gone for key in values if values[key] != old.get(key) for gone in REPLACES.get(key, ())}
        kept = {key: value for key, value in old.items() if key not in outdated}
        if "widths" in outdated:
            kept = _same_depth(old, kept)
        merged[table] = kept | values
    return merged


def _same_depth(old: dict, kept: dict) -> dict:
    """A student that gets another width keeps its number of blocks or levels."""
    if isinstance(old.get("blocks"), list):
        kept["blocks"] = len(old["blocks"])
    if isinstance(old.get("down"), list):
        kept["downs"] = len(old["down"])
    return kept


def _validate(values: dict, name: str, text: str, overrides=()) -> Recipe:
    for table, (tag, default) in TAGS.items():
        if isinstance(values.get(table), dict):
            values[table] = {tag: default} | values[table]
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # A typing error explains the rest, so it is told first.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise RecipeError(f"recipe {name}: {_sentence(errors[0], values, text, overrides)}") from error


def _sentence(error: dict, values: dict, text: str, overrides) -> str:
    """A validation error in words: what, in which table, on which line, and the nearest known key."""
    path = [str(part) for part in error["loc"] if _is_key(part, values, error)]
    table, key = ".".join(path[:-1]), path[-1] if path else ""
    where = f" in [{table}]" if table else ""
    dotted = ".".join(path)
    overridden = any(dotted.startswith(o.partition("=")[0].strip()) for o in overrides)
    line = None if overridden else _line(text, path)
    place = where + (" (--set)" if overridden else f" (line {line})" if line else "")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'{place}{_nearest(key, _known(path[:-1], values))}"
    if error["type"] in ("union_tag_invalid", "literal_error"):
        expected = error["ctx"].get("expected_tags") or error["ctx"].get("expected")
        found = (
            error["input"].get(error["ctx"]["discriminator"].strip("'")) if "tag" in error["ctx"] else error["input"]
        )
        return f"'{found}' is not possible for {key or 'it'}{place}; use one of {expected}."
    if error["type"] in ("value_error", "missing"):
        return f"{key or 'recipe'}{place}: {error['msg'].removeprefix('Value error, ')}."
    message = error["msg"].removeprefix("Input ")
    return f"{key or 'recipe'}{place}: {message}, not {json.dumps(error['input'], default=str)[:60]}."


def _is_key(part, values: dict, error: dict) -> bool:
    """Pydantic puts a union's tag into the location; it is no key of the file."""
    tags = {str(t.get(k)) for t in values.values() if isinstance(t, dict) for k in ("name", "family")}
    return isinstance(part, str) and not (part in tags and part in error["loc"][1:])


def _known(path: list[str], values: dict) -> list[str]:
    schema: object = Recipe
    for key in path:
        schema = schema.model_fields[key].annotation if hasattr(schema, "model_fields") else schema
    options = getattr(schema, "__args__", (schema,))
    chosen = values.get(path[0], {}) if path else {}
    names = []
    for option in options:
        fields = getattr(option, "model_fields", {})
        tag = fields.get("family") or (fields.get("name") if option is not Recipe else None)
        if tag is None or tag.default in (chosen.get("family"), chosen.get("name")):
            names += fields
    return names


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1, 0.5)
    return f". Did you mean '{close[0]}'?" if close else f". Known: {', '.join(known)}."


def _line(text: str, path: list[str]) -> int | None:
    """The line of a key in the file, found by its table's header; None where the file does not have it."""
    table, current = path[:-1], []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            current = [part.strip() for part in header[1].split(".")]
            if path == current:
                return number
        elif path and current == table and re.match(rf"\s*{re.escape(path[-1])}\s*=", line):
            return number
    return None
