"""Checks that a run folder has no link that leads out of it and no special file, and removes unfinished files."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vemcompress.errors import InputError
from vemcompress.system.files import is_temporary


def check_inside(folder: Path) -> None:
    """Raises InputError for a link that leads out of the folder, and for a pipe, a socket or a device.

    Otherwise a resumed run would write elsewhere, or wait. The folder itself may be a link.
    """
    home = os.path.realpath(folder)
    for entry in _entries(folder):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([home, target]) != home:
                raise InputError(
                    f"{entry.path}: is a link to {target}, which is outside the run folder; replace it by a copy, "
                    "or remove it."
                )
        elif _is_special(entry):
            raise InputError(f"{entry.path}: is not a regular file but a pipe, a socket or a device; remove it.")


def _is_special(entry: os.DirEntry) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:  # another process has just renamed the file
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _entries(folder: str | Path) -> Iterator[os.DirEntry]:
    """Everything in a folder and its sub-folders; links are not followed."""
    waiting = [folder]
    while waiting:
        # A folder that cannot be opened is reported by its reader.
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def is_leftover(path: Path) -> bool:
    """Whether it is an unfinished file or checkpoint folder of a killed process."""
    return is_temporary(path.name) or is_unfinished(path.name)


def is_unfinished(name: str) -> bool:
    """Whether a folder of this name is a checkpoint in the process of being written or removed."""
    return re.fullmatch(r"step-\d{6,}(\.old)?\.tmp", name) is not None


def sweep(*folders: Path) -> None:
    """Remove unfinished files. Only the holder of the run's lock may do this: another process may be writing them."""
    for folder in folders:
        with suppress(OSError):
            for path in list(folder.iterdir()):
                if is_leftover(path) and path.is_file() and not path.is_symlink():
                    path.unlink()
