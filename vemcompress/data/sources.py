"""Which images a user means by `--data`: flat folders, unpaired sets (trainA/, testA/, ...) and single files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vemcompress.data.images import list_images
from vemcompress.errors import InputError

FLAT, FILE = "flat folder", "file"
_SPLIT = re.compile(r"(train|val|valid|test)[A-Z]?")


class Found(NamedTuple):
    """Images in a fixed order, and for every root which of its parts they came from: a split's name, FLAT or FILE."""

    paths: list[Path]
    used: tuple[str, ...]


def find_images(roots: Sequence[str | os.PathLike], split: str = "trainA") -> list[Path]:
    """The images of all roots, root by root in natural order, none twice.

    A root is an image file, a flat folder, or the root of an unpaired set, whose `split` folder is then taken. Raises
    InputError for a root that is absent, has no images, or has splits but not this one.
    """
    return locate(roots, split).paths


def locate(roots: Sequence[str | os.PathLike], split: str = "trainA") -> Found:
    """As `find_images`, with the part of each root that was taken."""
    return _find(roots, (split,))


def find_test_images(roots: Sequence[str | os.PathLike], split: str = "testA") -> Found:
    """As `find_images`, for evaluation: where an unpaired set has no testA, its valA; `used` says what was taken."""
    return _find(roots, (split, "valA") if split == "testA" else (split,))


def _find(roots: Sequence[str | os.PathLike], splits: tuple[str, ...]) -> Found:
    if isinstance(roots, str | os.PathLike):
        roots = [roots]
    if not roots:
        raise InputError("no data: name at least one folder of images.")
    try:
        parts = [_in_root(Path(root), splits) for root in roots]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions.") from error
    paths = dict.fromkeys(path for found, _ in parts for path in found)
    return Found(list(paths), tuple(used for _, used in parts))


def _in_root(root: Path, splits: tuple[str, ...]) -> tuple[list[Path], str]:
    if root.is_file():
        return [root], FILE
    for split in splits:
        if (root / split).is_dir():
            return list_images(root / split), split
    try:
        return list_images(root), FLAT
    except InputError:
        present = splits_of(root)
        if not present:
            raise
        wanted = " or ".join(f"{split}/" for split in splits)
        raise InputError(
            f"{root}: no {wanted} in this folder, which has {', '.join(present)}; name another split, or give one of "
            "these folders itself."
        ) from None


def splits_of(root: Path) -> list[str]:
    """The folders of a root whose names are splits (`trainA/`, `test/`, ...), sorted; none if it is no folder."""
    if not root.is_dir():
        return []
    return sorted(f"{p.name}/" for p in root.iterdir() if _SPLIT.fullmatch(p.name) and p.is_dir())
