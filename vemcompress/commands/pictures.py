"""Pictures that `generate` writes: its result, and where they may go."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vemcompress.data.images import EXTENSIONS
from vemcompress.errors import OutputError, UsageError


@dataclass
class GenerateResult:
    """What was written, what was skipped and why, and how long the networks ran (seconds, without files) for how many
    images."""

    written: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    seconds: float = 0.0
    assumed: str = ""
    images: int = 0

    def as_dict(self) -> dict:
        """For --json."""
        return {
            "written": [str(path) for path in self.written],
            "skipped": {str(path): reason for path, reason in self.skipped.items()},
            "seconds": self.seconds,
            "assumed": self.assumed,
            "images": self.images,
        }


def is_file_name(output: Path) -> bool:
    """Whether an output is one picture and no folder. Raises UsageError (2) for one that is no .png."""
    if output.suffix.lower() not in EXTENSIONS or _is_folder(output):
        return False
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: pictures are written as PNG; give a name ending in .png, or a folder.")
    return True


def check_writable(folder: Path) -> None:
    """Refuse before any network runs; the folder itself is made with the first picture, by `save_png`."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{folder}: cannot be made ({reason}); choose another place.") from error
    if nearest == folder and not nearest.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder for the pictures.")
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be made ({nearest} is a file); choose another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place.")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # where one may not look, `check_writable` says so
        return False
