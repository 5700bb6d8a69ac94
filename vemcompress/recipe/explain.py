"""A recipe as TOML with comments on each key: its meaning, from the docstrings of the Settings, and its possible
values.
"""

import inspect
import re
import textwrap
from itertools import takewhile
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vemcompress.recipe.schema import Recipe
from vemcompress.recipe.schema import choices as choices_of
from vemcompress.recipe.stages import Stage
from vemcompress.system.settings import BaseSettings, tag_of

WIDTH = 100  # characters of a comment line
MOST = 2**20  # larger bounds only catch mistakes and are not shown


def explained(recipe: Recipe) -> str:
    """`recipe.toml()` with a comment above each key that has an explanation, and the unset keys below each table."""
    tables = re.split(r"^(?=\[)", recipe.toml(), flags=re.M)
    return "\n".join(filter(None, (_table(recipe, text.strip()) for text in tables)))


def _table(recipe: Recipe, text: str) -> str:
    """The lines of a table, of which the first is its header; "" for an empty one."""
    header = re.match(r"\[+([\w.]+)\]+$", text, re.M)
    kinds = _classes_of(recipe, header[1]) if header else [Recipe]
    if header and header[0] == text and not kinds:
        return ""
    lines, said, written = [], "", []
    for line in text.splitlines():
        if kinds and (key := re.match(r"(\w+) = ", line)) and key[1] in kinds[0].model_fields:
            written.append(key[1])
            told = _of_tag(kinds, key[1]) or meaning(kinds[0], key[1])
            both = "" if told == said else told, choices(kinds[0].model_fields[key[1]])
            lines += _comment(" ".join(filter(None, both)))
            said = told
        lines.append(line)
    left = [key for key in kinds[0].model_fields if key not in written] if header and kinds else []
    return "\n".join([*lines, *_comment(f"Other keys: {', '.join(left)}." if left else ""), ""])


def _classes_of(recipe: Recipe, path: str) -> list[type[BaseSettings]]:
    """The class of the table at this path, followed by its alternatives; empty if it is not Settings, such as a
    stage's changes.
    """
    if path == "stages":
        return [Stage]
    found, others = recipe, []
    for name in path.split("."):
        others, found = (
            choices_of(type(found), name) if isinstance(found, BaseSettings) else [],
            getattr(found, name, None),
        )
    return [type(found), *others] if isinstance(found, BaseSettings) else []


def _of_tag(kinds: list[type[BaseSettings]], key: str) -> str:
    """The names of the alternatives, for the key that selects one."""
    tags = [tag for tag in map(tag_of, kinds[1:]) if tag]
    names = list(dict.fromkeys(name for _, name in tags))
    return f"One of {', '.join(names)}." if len(names) > 1 and tags[0][0] == key else ""


def meaning(kind: type[BaseSettings], key: str) -> str:
    """What the docstring of a class, or of its base class, says about a key: from the sentence that starts with the
    key, or else mentions it, up to the next sentence that mentions a key. "" if there is none.
    """
    bases = [base for base in kind.__mro__ if issubclass(base, BaseSettings) and key in base.model_fields]
    told = [_sentences(paragraph) for base in bases for paragraph in _paragraphs(base)]
    for sign in (re.compile(rf"`{key}`(:| \()"), re.compile(rf"`{key}`")):
        for sentences in told:
            matches = sign.match if ":" in sign.pattern else sign.search
            if (first := next((i for i, sentence in enumerate(sentences) if matches(sentence)), None)) is not None:
                rest = takewhile(lambda sentence: "`" not in sentence, sentences[first + 1 :])
                return " ".join([sentences[first], *rest])
    return ""


def _paragraphs(kind: type) -> list[str]:
    return inspect.cleandoc(vars(kind).get("__doc__") or "").split("\n\n")


def _sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(paragraph.split()))


def choices(field: FieldInfo) -> str:
    """The possible values of a key, if they are few, or its bounds."""
    told = dict.fromkeys(value for part in _parts(field.annotation) for value in _named(part))
    limits = [
        *field.metadata,
        *(limit for part in _parts(field.annotation) for limit in getattr(part, "__metadata__", ())),
    ]
    low, high = (_limit(limits, *names) for names in (("ge", "gt"), ("le", "lt")))
    if len(told) > 1:
        return f"One of {', '.join(told)}."
    if low is not None and high is not None and abs(high) < MOST:
        return f"From {low:g} to {high:g}."
    return ""


def _parts(annotation: Any) -> list[Any]:
    """The parts of a union, with one level of Annotated and optional parts expanded."""
    inner = [part for part in get_args(annotation) if get_origin(annotation) is not Literal]
    return [annotation, *(found for part in inner if not isinstance(part, type) for found in _parts(part))]


def _named(part: Any) -> list[str]:
    values = get_args(part) if get_origin(part) is Literal else ()
    return [f'"{value}"' if isinstance(value, str) else str(value) for value in values]


def _limit(limits: list[Any], *names: str) -> float | None:
    return next((getattr(limit, name) for limit in limits for name in names if hasattr(limit, name)), None)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
