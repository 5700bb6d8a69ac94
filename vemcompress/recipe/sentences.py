"""Validation errors as sentences: what is wrong, where, and the nearest known key."""

import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from vemcompress.recipe.schema import Recipe, choices
from vemcompress.system.keys import KEYS, TrainKeys
from vemcompress.system.settings import TAG_KEYS, BaseSettings, says

COMMON = KEYS[TrainKeys]


def sentence(error: dict, values: dict, text: str, overrides: Sequence[str]) -> str:
    """A validation error as a sentence: what is wrong, in which table, on which line or by which override, and the
    nearest known key.
    """
    path = [str(part) for part in error["loc"] if _is_key(part, values, error)]
    table, key = ".".join(path[:-1]), path[-1] if path else ""
    where = f" in [{table}]" if table else ""
    tag = error.get("ctx", {}).get("discriminator", "").strip("'")
    listed = any(isinstance(part, int) for part in error["loc"])  # which of several tables of one name is unknown
    place = where + _origin([*path, tag] if tag else path, text if not listed else "", overrides)
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key:.60}'{place}{_meant(path, values)}"
    if error["type"] in ("union_tag_invalid", "literal_error"):
        expected = error["ctx"].get("expected_tags") or error["ctx"].get("expected")
        found = error["input"].get(tag) if tag else error["input"]
        return f"'{found!s:.60}' is not possible for {key or 'it'}{place}; use one of {expected}."
    if error["type"] == "union_tag_not_found":
        return f"{key or 'recipe'}{place}: does not state its {error['ctx']['discriminator']}; add it."
    if error["type"] in ("value_error", "missing"):
        return (f"{key}{place}: " if key else "") + f"{error['msg'].removeprefix('Value error, ')}."
    message = error["msg"].removeprefix("Input ")
    return f"{key or 'recipe'}{place}: {message}, not {json.dumps(error['input'], default=str)[:60]}."


def _origin(path: list[str], text: str, overrides: Sequence[str]) -> str:
    """Where a key comes from: an override of it, of something in it, or of a table around it; or a line of the text."""
    for override in reversed(overrides):
        words = override.partition("=")[0].strip()
        own = re.sub(r"^stages\.\w+\.", "", words).split(".")
        if all(a == b for a, b in zip(own, path, strict=False)):
            return f" (--set {words})"
    line = line_of(text, path) or line_of(text, path[:-1])
    return f" (line {line})" if line else ""


def _is_key(part, values: dict, error: dict) -> bool:
    """Pydantic puts a union's tag into the location; it is not a key of the file."""
    return isinstance(part, str) and not (part in _tags(values) and part in error["loc"][1:])


def _tags(values: dict) -> set[str]:
    """Every `name`, `family` and `method` of the tables, including nested tables."""
    tables = [value for value in values.values() if isinstance(value, dict)]
    own = {str(table[key]) for table in tables for key in TAG_KEYS if key in table}
    return own.union(*map(_tags, tables))


def _meant(path: list[str], values: dict) -> str:
    """Suggestions for an unknown key: one of another table, or else the nearest in its own."""
    *table, key = path
    found = [COMMON[key]] if key in COMMON else []
    others = [".".join(other) for other in _paths(Recipe) if other[-1] == key and list(other[:-1]) != table]
    found += sorted(others, key=lambda name: name.count("."))
    if key in {other[-1] for other in _paths(Recipe) if list(other[:-1]) == table}:
        found = []  # a key of another method than the selected one
    depth = min((name.count(".") for name in found), default=0)
    found = [name for name in dict.fromkeys(found) if name.count(".") <= depth][:2]  # no deeper ones
    return f". Did you mean {' or '.join(map(repr, found))}?" if found else nearest(key, _known(table, values))


def _paths(kind: type[BaseSettings], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key in the tables."""
    for key in kind.model_fields:
        yield (*above, key)
        for own in choices(kind, key) if key != "stages" else ():
            yield from _paths(own, (*above, key))


def _known(path: list[str], values: dict) -> list[str]:
    """The keys of the table at `path`; for a tagged union, those of the selected class."""
    options, chosen = [Recipe], values
    for key in path:
        options = [o for option in options for o in choices(option, key)]
        chosen = chosen.get(key, {}) if isinstance(chosen, dict) else {}
    chosen, names = chosen if isinstance(chosen, dict) else {}, []
    for option in options:
        if len(options) == 1 or says(chosen, option):
            names += option.model_fields
            names += ["width"] if "family" in option.model_fields else []  # a network's shorthand
    return list(dict.fromkeys(names))


def nearest(word: str, known: list[str], listed: list[str] | None = None) -> str:
    """The known name that is most similar to this word, or else all of them, or those `listed`."""
    close = get_close_matches(word[:100], known, 1, 0.5)
    return f". Did you mean '{close[0]}'?" if close else f". Known: {', '.join(listed or known)}."


def text_of_stage(text: str, name: str) -> str:
    """The lines of a recipe's text in which this stage makes changes, as if they were a recipe; all others are
    empty.
    """
    found, block, own = [], [], False
    for line in [*text.splitlines(), "[[stages]]"]:
        if re.match(r"\s*\[(?!\s*stages\.)", line):  # the start of a stage, or of another table
            found += block if own else [""] * len(block)
            block, own = [], False
        own = own or bool(re.match(rf"\s*name\s*=\s*[\"']{re.escape(name)}[\"']", line))
        block.append("" if line.lstrip()[:2] == "[[" else re.sub(r"^(\s*\[?\s*)(stages\.)?recipe\.", r"\1", line))
    return "\n".join(found)


def line_of(text: str, path: list[str]) -> int | None:
    """The line of a key in the file, found by its table's header; None if the file does not contain it."""
    current: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]", line):
            current = [part.strip() for part in header[1].split(".")]
            if path == current:
                return number
        elif path and (key := re.match(r"\s*([\w.]+)\s*=", line)) and path == [*current, *key[1].split(".")]:
            return number
    return None
