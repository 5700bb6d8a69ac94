"""Names of files as text: a name is bytes, not always UTF-8, held as surrogates that no recipe or JSON can hold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

# Words of a recipe that stand for a file: the one that belongs to the teacher; a new network; a teacher of which only
# its outputs are known, the other sides of pairs.
OF_TEACHER, NEW, PAIRS = "teacher", "new", "pairs"

_URI = "file:///"


def shown(text: str | os.PathLike) -> str:
    r"""For people and JSON: bytes that are not UTF-8 become \xNN. The result cannot be used as a name."""
    try:
        data = str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that no file's name has
        data = str(text).encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    r"""On one line, without what would steer a terminal: control characters as \x1b or \n, bytes that are not UTF-8 as
    \xe9."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown(text))


def stored(path: str | os.PathLike) -> str:
    """For recipes: a path of UTF-8 as it is, another one as an absolute file:///... address (RFC 8089) with %NN for
    each byte that is not UTF-8. `found` gives the path back."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Path(path).absolute().as_uri()
    return str(path)


def found(text: str | os.PathLike) -> str:
    """The path that `stored` was given, or that of any other file:///... address; other text as it is."""
    text = str(text)
    return os.fsdecode(unquote_to_bytes(text[len(_URI) - 1 :])) if text.startswith(_URI) else text


@contextmanager
def in_utf8(path: str | os.PathLike) -> Iterator[str]:
    """While inside, a UTF-8 name of this file, for libraries that take no other names. Raises OSError."""
    if stored(path) == str(path):
        yield str(path)
        return
    with Path(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def plain(value: Any) -> Any:
    """Plain values, tuples and paths among them, as JSON that every reader takes: names as `shown`."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return shown(value) if isinstance(value, str | os.PathLike) else value
