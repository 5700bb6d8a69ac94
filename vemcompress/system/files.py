"""File access: size-limited reading of regular files, atomic writing, strict JSON, SHA-256."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vemcompress.errors import InputError, OutputError, UsageError, VemError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_PAGE = 64 << 10  # bytes; a disk with less free space counts as full
SMALL = 16 << 20  # bytes; limit for a JSON file, a recipe, a pointer
LARGE = 8 << 30  # bytes; limit for a log, the tensors of a run
MALFORMED = (ValueError, LookupError, TypeError, AttributeError)  # errors when JSON has an unexpected structure


def open_regular(path: str | Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading. Raises OSError.

    FIFOs and devices are refused, because reading them could block or never end. Links to regular files are followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # does not block on a FIFO
    try:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        if limit is not None and about.st_size > limit:
            raise OSError(errno.EFBIG, f"has {about.st_size:,} bytes, more than {limit:,}", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_own(path: str | Path, flags: int) -> int:
    """Open a run's file for writing, or create it. Returns the descriptor. Raises OSError.

    Links and special files are refused, because the data would be written elsewhere.
    """
    if Path(path).is_symlink():
        raise OSError(errno.ELOOP, "is a link", str(path))
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def is_same(path: str | Path, descriptor: int) -> bool:
    """Whether `path` still refers to the opened file or folder."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(descriptor))
    except OSError:
        return False


def read_bytes(path: str | Path, limit: int = SMALL) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError."""
    with open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # the file has grown since it was opened
        raise OSError(errno.EFBIG, f"has more than {limit:,} bytes", str(path))
    return data


def read_text(path: str | Path, limit: int = SMALL) -> str:
    """The UTF-8 text of a regular file of at most `limit` bytes. Raises OSError, and ValueError for invalid UTF-8."""
    return read_bytes(path, limit).decode("utf-8")


def parse_json(data: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything that is not strict JSON.

    Besides invalid syntax, it refuses NaN, numbers beyond float64 (1e999), integers of thousands of digits, lone
    surrogates (they cannot be written again), and too deep nesting.
    """
    try:
        value = json.loads(data, parse_constant=_refused, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return value


def read_json(path: str | Path, limit: int = SMALL) -> Any:
    """The value of a JSON file. Raises OSError, and ValueError as `parse_json`."""
    return parse_json(read_bytes(path, limit))


def is_count(value: Any) -> bool:
    """Whether a value from a JSON file can be a count, of steps or bytes: a whole number from 0 to 2^63 - 1."""
    return type(value) is int and 0 <= value < 1 << 63


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text:.20} is beyond the largest number")
    return number


def write_atomically(path: str | Path, data: bytes | memoryview, mode: int = 0o666) -> None:
    """Write `data` to `path` so that a reader always sees either the old file or the complete new one.

    The bytes are written to a new file in the same folder and fsynced. Then it is renamed to `path`, and the folder is
    fsynced. Raises OutputError (9) if the disk is full, writing is not permitted or the folder does not exist; the
    unfinished file is then removed, and an earlier `path` is not changed. `mode` is restricted by the umask.
    """
    path = Path(path)
    # In the same folder, because a rename is only atomic within one file system. A short name, because names have a
    # length limit.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from error


class Replaced:
    """Context for replacing several files of one folder together. It gives a temporary folder in which to write them;
    at the end they are moved to `paths`. If the block raises, or a file cannot be moved, the earlier files are kept.

    The first path is the one that readers open. It is removed before the others change and restored last, so that it
    never refers to files of another version. A path may be a folder, but a folder does not replace a file, nor a file a
    folder. Raises OutputError (9).
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.folder = paths[0].parent / f".{secrets.token_hex(8)}.tmp"

    def __enter__(self) -> Path:
        try:
            self.folder.mkdir()
        except OSError as error:
            raise output_error(self.paths[0], error) from error
        return self.folder

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is None:
                self._put_in_place()
            elif isinstance(error, Exception) and not isinstance(error, VemError):
                if is_full(self.folder, error):
                    raise OSError(errno.ENOSPC, "the disk is full") from error
                if isinstance(error, OSError):
                    raise error
        except OSError as failed:
            raise output_error(self.paths[0], failed) from failed
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _put_in_place(self) -> None:
        for file in self.folder.rglob("*"):
            if file.is_dir():
                sync_folder(file)
            else:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        first, *others = self.paths
        for path in self.paths:
            if path.exists() and path.is_dir() != (self.folder / path.name).is_dir():
                raise OSError(errno.EEXIST, f"{path.name} is a {'folder' if path.is_dir() else 'file'}")
        earlier = [(path, self.folder / f"before-{number}") for number, path in enumerate(self.paths) if path.exists()]
        steps = earlier if others or first.is_dir() else []  # a single file is replaced in one step
        steps += [(self.folder / path.name, path) for path in (*others, first)]
        done = []
        try:
            for before, after in steps:
                before.replace(after)
                done.append((before, after))
        except BaseException:
            for before, after in reversed(done):
                after.replace(before)
            raise
        sync_folder(first.parent)


def make_folder(path: str | Path) -> None:
    """Create a folder and its missing parents. Raises OutputError (9)."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def cache_folder() -> Path:
    """The user's cache folder: in XDG_CACHE_HOME if that is an absolute path, else in ~/.cache. It may not exist
    yet. Raises OutputError (9) if the user has no home folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        try:
            cache = Path.home() / ".cache"
        except RuntimeError as error:
            raise OutputError("no home folder for the cache: set HOME or XDG_CACHE_HOME to a folder") from error
    return cache / "vemcompress"


def is_temporary(name: str) -> bool:
    """Whether a file name is one that a killed `write_atomically` leaves behind."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.tmp", name) is not None


def output_error(path: str | Path, error: OSError) -> OutputError:
    """The error for a failed write, as one sentence."""
    if error.errno in _FULL:
        return OutputError(f"{path}: cannot write, the disk is full: free some space or choose another folder")
    if error.errno in _FORBIDDEN:
        return OutputError(f"{path}: cannot write, no permission: choose a folder that you may write to")
    if error.errno == errno.ENOENT:
        return OutputError(f"{path}: cannot write, the folder does not exist: create it first")
    return OutputError(f"{path}: cannot write ({error.strerror or error}): choose another place")


def is_full(folder: Path, error: BaseException) -> bool:
    """Whether an error comes from a full disk: it has that errno, or it is another library's error and the disk is
    full now.
    """
    said = isinstance(error, OSError) and error.errno in _FULL
    return said or shutil.disk_usage(folder).free < _PAGE


def check_target(path: str | Path, example: str, *, folder: bool = False) -> None:
    """Check before long work that this file, or with `folder` this folder, can be written. Raises UsageError (2) and
    OutputError (9).
    """
    path = Path(path)
    try:
        is_folder, above = path.is_dir(), path.parent.is_dir()
    except OSError as error:
        raise output_error(path, error) from error
    if is_folder and not folder:
        raise UsageError(f"{path}: is a folder; give the name of a file, such as {path / example}.")
    if not above:
        raise OutputError(f"{path}: its folder does not exist; create {path.parent} first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write into {path.parent}; choose another place.")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hex digits. Raises InputError (4) if it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, if the file system supports it. Raises OSError."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # some systems cannot open a folder; the file itself is complete
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without folder sync
            raise
    finally:
        os.close(handle)
