"""Training images that are lost during a run: a folder was removed, or a disk is gone."""

import errno
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from vemcompress.data.images import ImageError
from vemcompress.errors import InputError

SHARE, LEAST = 10, 1  # a run goes on while at most one image in ten is lost, and always with one lost
_DEVICE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO}


class Vanished:
    """Counts the samples of a stream that are lost. `samples` gives the files of each; a file that never was an image
    does not count."""

    def __init__(self, samples: Sequence[tuple[Path, ...]]):
        self._samples, self._since = samples, time.time()
        self._lost: set[int] = set()
        self._lock = threading.Lock()
        self._looked = 0

    def check(self, index: int, error: ImageError) -> None:
        """Sample `index` cannot be read. Raises InputError where too many are lost."""
        if not self._is_lost(error):
            return
        with self._lock:
            self._lost.add(index)
            if len(self._lost) >= 2 * self._looked:  # each look is at all of the files
                self._looked = len(self._lost)
                gone = (i for i, files in enumerate(self._samples) if not all(map(_is_there, files)))
                self._lost.update(gone)
            lost, total = len(self._lost), len(self._samples)
        if lost > max(LEAST, total // SHARE):
            raise InputError(
                f"{error.path.parent}: {lost} of {total} images that were there when the run began cannot be read any "
                f"more (one is {error.path.name}: {error.reason}); put the data back. The last checkpoint is kept: go "
                "on with --resume."
            )

    def _is_lost(self, error: ImageError) -> bool:
        """Whether the file has changed since the run began, or cannot be reached."""
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
