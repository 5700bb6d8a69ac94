"""What may lie in a run's folder: no link that leads out of it, no special file. And what killed writes left there."""

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

    Whoever goes on with the run would write elsewhere, or wait. The folder itself may be a link.
    """
    home = os.path.realpath(folder)
    for entry in _entries(folder):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([home, target]) != home:
                raise InputError(
                    f"{entry.path}: is a link to {target}, which is not in the run's folder, and is not followed; put "
                    "what it leads to in its place, or remove it."
                )
        elif _is_special(entry):
            raise InputError(f"{entry.path}: is not a regular file but a pipe, a socket or a device; remove it.")


def _is_special(entry: os.DirEntry) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:  # a file that another process has just renamed
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _entries(folder: str | Path) -> Iterator[os.DirEntry]:
    """All that is in a folder and the folders in it; links are not followed."""
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:  # what one may not enter is told by its reader
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def is_leftover(path: Path) -> bool:
    """Whether it is what a killed process leaves half written: a file, or the folder of a checkpoint."""
    return is_temporary(path.name) or is_unfinished(path.name)


def is_unfinished(name: str) -> bool:
    """Whether a folder of this name is a checkpoint that was being written or removed."""
    return re.fullmatch(r"step-\d{6,}(\.old)?\.tmp", name) is not None


def sweep(*folders: Path) -> None:
    """Remove unfinished files. For the holder of the run's lock alone: another may be writing them."""
    for folder in folders:
        with suppress(OSError):
            for path in list(folder.iterdir()):
                if is_leftover(path) and path.is_file() and not path.is_symlink():
                    path.unlink()
