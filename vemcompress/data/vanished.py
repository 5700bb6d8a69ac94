"""Detects training images that are lost during a run, for example because a folder was removed or a disk failed."""

import errno
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from vemcompress.data.images import ImageError
from vemcompress.errors import InputError

SHARE, LEAST = 10, 1  # a run continues while at most one image in ten is lost, or only one
_DEVICE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO}


class Vanished:
    """Counts a stream's lost samples. `samples` lists the files of each. A file that never was an image does not
    count.
    """

    def __init__(self, samples: Sequence[tuple[Path, ...]]):
        self._samples, self._since = samples, time.time()
        self._lost: set[int] = set()
        self._lock = threading.Lock()
        self._looked = 0

    def check(self, index: int, error: ImageError) -> None:
        """Report that sample `index` cannot be read. Raises InputError if too many are lost."""
        if not self._is_lost(error):
            return
        with self._lock:
            self._lost.add(index)
            if len(self._lost) >= 2 * self._looked:  # each check looks at all files
                self._looked = len(self._lost)
                gone = (i for i, files in enumerate(self._samples) if not all(map(_is_there, files)))
                self._lost.update(gone)
            lost, total = len(self._lost), len(self._samples)
        if lost > max(LEAST, total // SHARE):
            raise InputError(
                f"{error.path.parent}: {lost} of {total} images that existed when the run began can no longer be read "
                f"(one is {error.path.name}: {error.reason}); restore the data. The last checkpoint is kept: continue "
                "with --resume."
            )

    def _is_lost(self, error: ImageError) -> bool:
        """Whether the file has changed since the run began, or cannot be accessed."""
        if getattr(error.__cause__, "errno", None) in _DEVICE:
            return True
        try:
            return error.path.stat().st_ctime > self._since
        except OSError:
            return True


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True
