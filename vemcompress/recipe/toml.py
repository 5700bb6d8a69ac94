"""Parses TOML under limits, so that a hostile recipe cannot exhaust memory or time."""

import re
import tomllib
from pathlib import Path
from typing import Any

from vemcompress.errors import RecipeError
from vemcompress.system.files import read_text

BYTES = 1 << 20  # of a recipe
DEPTH = 32  # nested tables and lists
KEYS, ITEMS = 1000, 10_000  # of one table, of one list
BITS = 1024  # of an integer
DIGITS = "has a number with too many digits"

_NAME = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_CHAIN = re.compile(rf"(?<![\w-])(?:{_NAME}){{{DEPTH}}}")  # a.a.a. ...: tomllib needs quadratic time for it


class NotTOML(ValueError):
    """The text is not TOML."""


def parse(text: str) -> dict[str, Any]:
    """The values of a text. Raises NotTOML, and ValueError beyond the limits."""
    if len(text) > BYTES:
        raise ValueError(f"has more than {BYTES:,} characters")
    if _CHAIN.search(text):
        raise ValueError(f"has tables nested more than {DEPTH} levels deep")
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"has tables nested more than {DEPTH} levels deep") from error
    except tomllib.TOMLDecodeError as error:
        raise NotTOML(f"not valid TOML: {error}") from error
    except ValueError as error:  # Python refuses integers of thousands of digits
        raise ValueError(DIGITS) from error
    _check(values)
    return values


def parse_file(path: Path) -> tuple[dict[str, Any], str]:
    """The values of a recipe's file, and its text. Raises RecipeError."""
    try:
        text = read_text(path, BYTES)
        return parse(text), text
    except OSError as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path}: not valid TOML: {error}.") from error
    except ValueError as error:
        raise RecipeError(f"recipe {path}: {error}.") from error


def _check(values: dict) -> None:
    level: list[Any] = [values]
    for _ in range(DEPTH):
        for part in level:
            most, what = (KEYS, "table") if isinstance(part, dict) else (ITEMS, "list")
            if len(part) > most:
                raise ValueError(f"has a {what} of {len(part):,} entries, more than {most:,}")
        parts = [value for part in level for value in (part.values() if isinstance(part, dict) else part)]
        if any(isinstance(value, int) and value.bit_length() > BITS for value in parts):  # too long for a message
            raise ValueError(DIGITS)
        level = [value for value in parts if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(f"has tables nested more than {DEPTH} levels deep")
