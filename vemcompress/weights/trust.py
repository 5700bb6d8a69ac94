"""Decides whether code of a user's own class may run. A class is code, and recipes, run folders and weights may come
from others.

A class may be imported in two cases. The user names it in this very command (`named`). Or all files of the working
folder that its import executes were trusted in this way before and have the same SHA-256. This covers the class's own
file, the packages around it and whatever it imports from the working folder. Installed packages are not covered, so a
class from one of them must be named each time. Trusted files are stored in vemcompress/trusted.json in the user's
config folder: {"version": 1, "trusted": {FOLDER: {MODULE: {FILE: SHA-256}}}, "functions": {FOLDER: [PATH]}}.

A function may stand in place of a class. Building a class runs its constructor only, but a trusted file may hold or
import functions that do harm, so each function must have been named itself (`may_call`).
"""

import hashlib
import importlib
import json
import logging
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import accumulate
from pathlib import Path

from vemcompress.errors import InputError, OutputError
from vemcompress.system import launch
from vemcompress.system.files import read_bytes, read_json, write_atomically

Files = dict[str, str]  # name in the working folder -> SHA-256

_NAMED: ContextVar[frozenset[str]] = ContextVar("named", default=frozenset())
_PACKAGES = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), site.getusersitepackages())
_INSTALLED = [Path(path).resolve() for path in _PACKAGES]
_LARGEST = 1 << 30  # bytes of a module's file
_log = logging.getLogger(__name__)


@contextmanager
def named(*class_paths: str | None) -> Iterator[None]:
    """Context in which these classes ("module:Class") may be imported, because the user names them in this command."""
    token = _NAMED.set(_NAMED.get() | {path for path in class_paths if path})
    try:
        yield
    finally:
        _NAMED.reset(token)


@contextmanager
def importing(module: str, class_path: str, source: str) -> Iterator[None]:
    """Context in which the user's `module` may be imported from the working folder. Raises InputError (4) if its
    code is not trusted. If the user names the class and nothing fails inside, it is trusted from then on.
    """
    folder, by_user = Path.cwd().resolve(), class_path in _NAMED.get()
    trusted = None if by_user else _trusted(folder, module)
    if trusted == {}:
        raise InputError(
            f"{source}: its class {class_path:.80} is code that you have not trusted, or that has changed since: to "
            f"allow it, give --teacher-class {class_path:.80} (--student-class for a student)"
        )
    finder = _Finder(folder, trusted)
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        with suppress(ValueError):
            sys.path.remove(str(folder))
    if by_user:
        _remember(folder, module, finder.found)


def may_call(function_path: str) -> bool:
    """Whether the user named this function ("module:function") in this command, or before in this folder."""
    known = _read("functions").get(str(Path.cwd().resolve()))
    return function_path in _NAMED.get() or (isinstance(known, list) and function_path in known)


def remember_call(function_path: str) -> None:
    """Let `may_call` allow a function in later commands, if the user named it in this one."""
    functions, key = _read("functions"), str(Path.cwd().resolve())
    known = functions[key] if isinstance(functions.get(key), list) else []
    if function_path in _NAMED.get() and function_path not in known and not launch.number():
        _write(_read("trusted"), functions | {key: [*known, function_path]}, function_path)


class _Finder:
    """Finds modules in the working folder `folder`, and records their files. If only some files are `trusted`, it
    refuses all others.
    """

    def __init__(self, folder: Path, trusted: Files | None):
        self.folder, self.trusted = folder, trusted
        self.found: Files = {}

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        file = _within(self.folder, spec.origin) if spec is not None and spec.has_location else None
        if file is None or name in sys.builtin_module_names or name.partition(".")[0] == "vemcompress":
            return None
        data = _content(spec.origin)
        if data is not None:
            self.found[file] = _sum(data)
        if self.trusted is not None and (data is None or self.trusted.get(file) != self.found[file]):
            raise InputError(
                f"{spec.origin}: would run with a class that you trust, but has changed since or is new: to allow "
                "it, name the class with --teacher-class (--student-class for a student)"
            )
        if data is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(name, spec.origin, data)
        return spec


class _Source(SourceFileLoader):
    """Compiles the source that was checked, instead of a file in __pycache__."""

    def __init__(self, name: str, path: str, data: bytes):
        super().__init__(name, path)
        self._data = data

    def get_code(self, fullname: str):
        return self.source_to_code(self._data, self.path)


def _within(folder: Path, path: str | None) -> str | None:
    """The file's name in the folder; None for a file elsewhere, or in an installed package."""
    if path is None or any(Path(path).resolve().is_relative_to(installed) for installed in _INSTALLED):
        return None
    found = Path(path), Path(path).parent.resolve() / Path(path).name  # links that point outside belong to the folder
    return next((str(file.relative_to(folder)) for file in found if file.is_relative_to(folder)), None)


def _content(path: str | Path) -> bytes | None:
    """The content of a file; None if it is not a file of its own, such as one inside a zip."""
    try:
        return read_bytes(path, _LARGEST)
    except (OSError, ValueError):
        return None


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _store() -> Path:
    """The path of trusted.json. Raises RuntimeError if the user has no home folder."""
    config = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (config if config.is_absolute() else Path.home() / ".config") / "vemcompress" / "trusted.json"


def _read(part: str) -> dict:
    """A part of trusted.json; empty if the file is missing or damaged."""
    try:
        found = read_json(_store())
    except (OSError, ValueError, RuntimeError):
        return {}
    found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _trusted(folder: Path, module: str) -> Files:
    """The files that were executed when this module was trusted, if all are unchanged; else empty."""
    modules = _read("trusted").get(str(folder))
    files = modules.get(module) if isinstance(modules, dict) else None
    for name, known in files.items() if isinstance(files, dict) else ():
        data = _content(folder / name)
        if data is None or _sum(data) != known:
            return {}
    return files if isinstance(files, dict) else {}


def _remember(folder: Path, module: str, found: Files) -> None:
    """Trust a module imported from the working folder, with all files that it executed there."""
    files = _trusted(folder, module) | found
    for name in accumulate(module.split("."), "{}.{}".format):  # some may have been imported before
        origin = getattr(sys.modules.get(name), "__file__", None)
        file = _within(folder, origin)
        if file is not None and file not in files and (data := _content(origin)) is not None:
            files[file] = _sum(data)
    trusted, key = _read("trusted"), str(folder)
    modules = trusted[key] if isinstance(trusted.get(key), dict) else {}
    if file not in files or modules.get(module) == files or launch.number():
        return
    _write(trusted | {key: modules | {module: files}}, _read("functions"), file)


def _write(trusted: dict, functions: dict, what: str) -> None:
    content = {"version": 1, "trusted": trusted, "functions": functions}
    try:
        store = _store()
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(store, (json.dumps(content, indent=2) + "\n").encode(), mode=0o600)
    except (OSError, RuntimeError, OutputError) as error:
        _log.warning("%s; your trust in %s could not be saved, so name its class in later commands too.", error, what)
