"""Whole files: written atomically, identified by their SHA-256."""

import errno
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from vemcompress.errors import InputError, OutputError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomically(path: str | Path, data: bytes | memoryview) -> None:
    """Write `data` to `path` so that a reader sees the old file or the complete new one, whatever happens.

    The bytes go to a new file in the same folder, are fsynced, and are renamed over `path`; the folder is fsynced
    last. Raises OutputError (9) where the disk is full, writing is not permitted or the folder is absent; the
    unfinished file is then removed and an earlier `path` is intact.
    """
    path = Path(path)
    # Beside the target, because a rename is only atomic within one file system; short, because names have a limit.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: str | Path, error: OSError) -> OutputError:
    """The one sentence for a failed write."""
    if error.errno in _FULL:
        return OutputError(f"{path}: cannot write, the disk is full: free some space or choose another folder")
    if error.errno in _FORBIDDEN:
        return OutputError(f"{path}: cannot write, no permission: choose a folder that you may write to")
    if error.errno == errno.ENOENT:
        return OutputError(f"{path}: cannot write, the folder does not exist: create it first")
    return OutputError(f"{path}: cannot write ({error.strerror or error}): choose another place")


def check_target(path: str | Path, example: str) -> None:
    """Before minutes of work: can this file be written at all? Raises UsageError (2) and OutputError (9)."""
    path = Path(path)
    try:
        folder, above = path.is_dir(), path.parent.is_dir()
    except OSError as error:
        raise output_error(path, error) from error
    if folder:
        raise UsageError(f"{path}: is a folder; give the name of a file, such as {path / example}.")
    if not above:
        raise OutputError(f"{path}: its folder does not exist; create {path.parent} first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write into {path.parent}; choose another place.")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hex digits; raises InputError (4) where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # a folder that cannot be opened (other systems) has no entry to sync; the file itself is complete
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without folder sync
            raise
    finally:
        os.close(handle)
