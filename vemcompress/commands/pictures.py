"""The result of `generate`, and checks of its output path."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vemcompress.data.images import EXTENSIONS
from vemcompress.errors import OutputError, UsageError


@dataclass
class GenerateResult:
    """The files written, and the inputs skipped with the reasons. `seconds` is the time in the network, without reading
    and writing files, for `images` images."""

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
    """Whether the output is one image file, not a folder. Raises UsageError (2) for an image file that is not a
    .png."""
    if output.suffix.lower() not in EXTENSIONS or _is_folder(output):
        return False
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: images are written as PNG; give a name ending in .png, or a folder.")
    return True


def check_writable(folder: Path) -> None:
    """Check that the folder can be written, before any network runs. `save_png` creates it with the first image."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{folder}: cannot be created ({reason}); choose another place.") from error
    if nearest == folder and not nearest.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder for the images.")
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be created ({nearest} is a file); choose another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place.")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # `check_writable` reports the missing permission
        return False
