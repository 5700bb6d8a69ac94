"""Recipe keys with a short name: an option on the command line, a keyword argument in Python.

There are no slow imports here, because `--help` needs this file.
"""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from vemcompress.errors import UsageError

Overrides = Sequence[str] | Mapping[str, Any]  # `table.key=value` as for --set, or values by key


class TrainKeys(TypedDict, total=False):
    """Keyword arguments of every command that trains. None leaves a key to the recipe.

    `teacher_class` is the user's own class, "module:Class". `teacher_key` names the generator in a file with several.
    `teacher_padding` is needed if the file does not store it, and `teacher_range` is the range of its images.
    """

    direction: Annotated[Literal["AtoB", "BtoA"] | None, "data.direction"]
    size: Annotated[int | None, "data.size"]
    steps: Annotated[int | None, "train.steps"]
    epochs: Annotated[float | None, "train.epochs"]
    batch: Annotated[int | Literal["auto"] | None, "train.batch"]
    micro_batch: Annotated[int | None, "train.micro_batch"]
    lr: Annotated[float | None, "train.lr"]
    seed: Annotated[int | None, "train.seed"]
    precision: Annotated[Literal["fp32", "tf32", "bf16"] | None, "train.precision"]
    compile: Annotated[bool | None, "train.compile"]
    strict: Annotated[bool | None, "train.strict"]
    teacher_class: Annotated[str | None, "teacher.class_path"]
    teacher_key: Annotated[str | None, "teacher.key"]
    teacher_padding: Annotated[str | None, "teacher.padding"]
    teacher_range: Annotated[str | None, "teacher.range"]


class DistillKeys(TrainKeys, total=False):
    """Keyword arguments of `distill`.

    The student has a `width` or a target: `target_macs`, `target_latency` (in ms, or such as "20ms"), or `target_size`
    (in bytes, or such as "500KB"). Latency is measured `on` a runtime with `threads` threads. The width is a multiple
    of `multiple`. `student` is a file to start from, and `student_class` the user's own class, "module:Class".
    """

    width: Annotated[int | None, "student.width"]
    target_macs: Annotated[int | None, "student.target_macs"]
    target_latency: Annotated[float | str | None, "student.target_latency"]
    target_size: Annotated[int | str | None, "student.target_size"]
    on: Annotated[str | None, "student.on"]
    threads: Annotated[int | None, "student.threads"]
    multiple: Annotated[int | None, "student.multiple"]
    student: Annotated[str | PathLike | None, "student.source"]
    student_class: Annotated[str | None, "student.class_path"]


class TeachKeys(TrainKeys, total=False):
    """Keyword arguments of `teach`: `width` and `lr` are the teacher's."""

    width: Annotated[int | None, "teacher.network.width"]
    lr: Annotated[float | None, "gan.lr"]  # type: ignore[misc]


# The recipe key of each name, by kind.
KEYS: dict[type, dict[str, str]] = {
    kind: {name: hint.__metadata__[0] for name, hint in get_type_hints(kind, include_extras=True).items()}
    for kind in (TrainKeys, DistillKeys, TeachKeys)
}


def as_overrides(overrides: Overrides, given: Mapping[str, Any] | None = None, kind: type = TrainKeys) -> list[str]:
    """`overrides` as a list of `key=value`, after the `given` keyword arguments of this kind.

    Raises UsageError for an unknown keyword, and for a value that TOML cannot represent.
    """
    known, found = KEYS[kind], []
    for name, value in (given or {}).items():
        if name not in known:
            close = get_close_matches(name, known, 1, 0.7)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
            other = "Other recipe keys go into overrides, such as {'algorithm.features': 'none'}."
            raise UsageError(f"{name!r} is not an argument; {hint} {other}")
        found += _changes(known[name], value)
    if isinstance(overrides, str) or not isinstance(overrides, Mapping | Sequence):
        raise UsageError("overrides: give a list such as ['train.steps=30'], or a dict such as {'train.steps': 30}.")
    if isinstance(overrides, Mapping):
        return found + [change for key, value in overrides.items() for change in _changes(key, value)]
    if wrong := [override for override in overrides if not isinstance(override, str)]:
        raise UsageError(
            f"overrides: {wrong[0]!r:.60} is not a text such as 'train.steps=30'; write it so, or give a dict."
        )
    return found + list(overrides)


def _changes(key: Any, value: Any) -> list[str]:
    """A value as `key=value`, a table key by key. None leaves the key as it is."""
    if not isinstance(key, str):
        raise UsageError(f"overrides: {key!r:.60} is not a key; write it as 'train.steps'.")
    if isinstance(value, Mapping) and value:
        return [change for name, part in value.items() for change in _changes(f"{key}.{name}", part)]
    return [] if value is None else [f"{key}={_toml(value, key)}"]


def _toml(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | PathLike):
        return _quoted(fspath(value))
    if isinstance(value, Integral) and abs(int(value)) < 2**63:
        return str(int(value))
    if isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        return repr(number) if math.isfinite(number) else str(number)  # the schema refuses infinite numbers
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(name))} = {_toml(part, key)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(part, key) for part in value) + "]"
    what = "a number this large" if isinstance(value, Integral) else f"of type {type(value).__name__}"
    raise UsageError(f"overrides: {key} cannot be {what}; give a number, a text, True or False, or a list of them.")


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in text) + '"'
