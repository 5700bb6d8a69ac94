"""File names as text. A name is bytes and not always UTF-8; Python holds other bytes as surrogates, which recipes
and JSON cannot store.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

# Special words for a file in a recipe: the one that belongs to the teacher; a new network; a teacher known only by its
# outputs (the other side of each pair).
OF_TEACHER, NEW, PAIRS = "teacher", "new", "pairs"
AUTO = "auto"  # a value that the machine decides

_URI = "file:///"


def shown(text: str | os.PathLike) -> str:
    r"""A name for people and JSON: bytes that are not UTF-8 become \xNN. The result cannot be used as a name."""
    try:
        data = str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that cannot come from a file name
        data = str(text).encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    r"""A text on one line without terminal control sequences: control characters become \x1b or \n, and bytes that
    are not UTF-8 become \xe9.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown(text))


def stored(path: str | os.PathLike) -> str:
    """A path for recipes: unchanged if it is UTF-8, else an absolute file:///... address (RFC 8089) with %NN for
    each byte that is not UTF-8. `found` restores the path.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Path(path).absolute().as_uri()
    return str(path)


def found(text: str | os.PathLike) -> str:
    """The path that `stored` was given, or that of any other file:///... address. Other text is returned unchanged."""
    text = str(text)
    return os.fsdecode(unquote_to_bytes(text[len(_URI) - 1 :])) if text.startswith(_URI) else text


@contextmanager
def in_utf8(path: str | os.PathLike) -> Iterator[str]:
    """Context with a UTF-8 name of this file, for libraries that accept no other names. Raises OSError."""
    if stored(path) == str(path):
        yield str(path)
        return
    with Path(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def plain(value: Any) -> Any:
    """Plain values, including tuples and paths, as JSON that every reader accepts: names as `shown`."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return shown(value) if isinstance(value, str | os.PathLike) else value
