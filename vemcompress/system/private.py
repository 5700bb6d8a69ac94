"""Removes this machine's folders from texts and plain values, for files that others will read."""

import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vemcompress.system import names
from vemcompress.system.files import parse_json

_PATH = re.compile(r"(?i:file:/)|~?[/\\]|[A-Za-z]:[/\\]")  # the start of an absolute path
_ADDRESS = re.compile(r"(?!file:)[A-Za-z][\w+.-]+://", re.I)  # of a page or a repository, not of a file
_SENTENCE = re.compile(r"[:;] |\. ")  # text that has one of these is not a single path
_BEFORE = r"(?<![\w/\\.~-])"  # in front of a path in a sentence: a blank, a quote, a colon, ...
_END = r"\s/\\'\"`,;:|<>()\[\]"  # ends a name
_NAME = rf"[^{_END}]+"
_FOLDER = rf"{_NAME}(?: [A-Z][^{_END}]*)*[/\\]"  # its name may have blanks before capitals, such as "Program Files"
_WITHIN = re.compile(
    rf"(?:(?i:file:/+)(?:[A-Za-z]:[/\\])?|{_BEFORE}~[/\\])(?:{_FOLDER})*{_NAME}[/\\]?"
    rf"|{_BEFORE}(?:(?:[A-Za-z]:)?[/\\]|\\\\)(?:{_FOLDER})+{_NAME}[/\\]?"
)
_SOURCES = ("source", "teacher_source", "roots")  # keys whose paths may be relative


def last_name(source: str) -> str:
    """The last name of a path. An address such as hf://user/repo, or other text, is returned unchanged."""
    path = names.found(source)
    if _ADDRESS.match(path):
        return source
    parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".", "..", "~")]
    return names.shown(parts[-1]) if parts else ""


def without_folders(value: Any, key: str = "") -> Any:
    """Plain values in which each path is replaced by its last name: a text that is an absolute path, a path of two
    names or more inside a sentence, and any path under a key such as `source`. Keys do not change.

    A folder with blanks in a sentence is removed as a whole if it is the home folder, the current one or that for
    temporary files, or if its words start with capitals. The last name is kept with the words that follow it.
    """
    if isinstance(value, dict):
        return {name: without_folders(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key in _SOURCES or (_PATH.match(value) and not _SENTENCE.search(value)):
        return last_name(value)
    return _WITHIN.sub(lambda found: last_name(found[0]), _shortened(value))


def _shortened(text: str) -> str:
    """The text with ~ instead of the home folder, the current folder and that for temporary files, whatever characters
    they contain."""
    folders = [os.path.expanduser("~")]  # noqa: PTH111 (Path.home raises if there is no home)
    for find in (os.getcwd, tempfile.gettempdir):
        with suppress(OSError):  # the folder was deleted, or cannot be written
            folders.append(find())
    for folder in sorted(folders, key=len, reverse=True):
        if Path(folder).name:
            text = re.sub(rf"(?:(?i:file:(?://)?(?:localhost)?)|{_BEFORE}){re.escape(folder)}(?=[/\\])", "~", text)
    return text


def metadata_without_folders(metadata: dict[str, str]) -> dict[str, str]:
    """A file's metadata, some of it JSON, without this machine's folders."""
    found = {}
    for name, text in metadata.items():
        try:
            value = parse_json(text)
            cleaned = without_folders(value, name)
            found[name] = text if cleaned == value else json.dumps(cleaned)
        except ValueError:
            found[name] = without_folders(text, name)
    return found
