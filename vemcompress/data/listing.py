"""Lists the images of a folder by extension, in natural order. There is no torch here, as in `images`."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vemcompress.data.images import EXTENSIONS, HEIC, HEIC_HINT
from vemcompress.errors import InputError
from vemcompress.system.events import Event


def natural_key(name: str) -> tuple:
    """Sort key that puts `2.jpg` before `10.jpg`, the same on every file system."""
    parts = re.split(r"([0-9]+)", name.lower())
    return (*((part.zfill(20), "") if part.isdecimal() else ("", part) for part in parts), ("", name))


def list_images(folder: str | os.PathLike, *, recursive: bool = False, on_event: Event | None = None) -> list[Path]:
    """The images of a folder by their extensions (in any case), in natural order of their names, or with `recursive` of
    their paths below the folder. Hidden files and folders are ignored.

    Other contents are reported as {"event": "ignored", "path", "files", "kinds", "folders", "hint"}: the number of
    other files, the number for each extension, the sub-folders with images that were not read, and a hint. Raises
    InputError for a folder that does not exist, cannot be read or has no images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; check the path.")
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give the folder that holds the images.")
    try:
        files, folders = _visible(folder, recursive)
        found = [path for path in files if _looks_like_image(path)]
        inner = [name for name in folders if any(map(_looks_like_image, _below(folder / name, deep=not found)))]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check its permissions.") from error
    kinds = Counter(path.suffix.lower() or "no extension" for path in files)
    kinds.subtract(path.suffix.lower() for path in found)
    kinds = {kind: count for kind, count in kinds.most_common() if count}
    if not found:
        raise _no_images(folder, kinds, inner)
    if on_event and (kinds or inner):
        told = {"files": len(files) - len(found), "kinds": kinds, "folders": inner}
        told["hint"] = HEIC_HINT if HEIC & kinds.keys() else ""
        on_event({"event": "ignored", "path": str(folder), **told})
    return sorted(found, key=lambda p: natural_key(p.relative_to(folder).as_posix()))


def _visible(folder: Path, recursive: bool) -> tuple[list[Path], list[str]]:
    """The files that are not hidden, and the sub-folders that were not read. Raises OSError."""
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raised):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        files += [Path(parent, name) for name in names if not name.startswith(".")]
        if not recursive:
            return files, folders
    return files, []


def _raised(error: OSError) -> None:
    raise error


def _below(folder: Path, deep: bool) -> Iterator[Path]:
    """Some files of a folder, with those of its sub-folders if `deep`; none if it cannot be read."""
    for parent, folders, names in islice(os.walk(folder), 1000 if deep else 1):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names)


def _no_images(folder: Path, kinds: dict[str, int], inner: list[str]) -> InputError:
    if inner:
        named = ", ".join(f"{name}/" for name in inner[:3]) + (", ..." if len(inner) > 3 else "")
        return InputError(
            f"{folder}: no images in this folder itself, but in {named}; give that folder, or read sub-folders "
            "with --set data.recursive=true (for eval, stats and generate: --recursive)."
        )
    if not kinds:
        known = " ".join(sorted(e[1:] for e in EXTENSIONS))
        return InputError(f"{folder}: no images in this folder; put files ending in {known} there.")
    seen = ", ".join(f"{kind} ({count})" for kind, count in islice(kinds.items(), 5))
    hint = HEIC_HINT if HEIC & kinds.keys() else "convert them to PNG or JPEG"
    return InputError(f"{folder}: no readable images in this folder, which has {seen}; {hint}.")


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
