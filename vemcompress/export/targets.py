"""Which files an export writes: their formats, names and endings, checked before any work."""

from collections.abc import Sequence
from pathlib import Path

from vemcompress.errors import UsageError
from vemcompress.export.formats import FORMATS, Format
from vemcompress.export.formats.base import PRECISIONS
from vemcompress.system.files import check_target


def targets(
    path: Path, formats: Sequence[str], precision: str, uint8: bool, size: object = None
) -> list[tuple[Format, Path]]:
    """Each format with its file: `path` itself, or where there are several its name with each format's ending.

    Raises UsageError (2), ExportError (7) for a library that is not installed, and OutputError (9).
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"format '{unknown[0]}' is not known; choose from {', '.join(FORMATS)}.")
    if precision not in PRECISIONS:
        raise UsageError(f"precision '{precision}' is not known; choose from {', '.join(PRECISIONS)}.")
    forms = [FORMATS[name] for name in dict.fromkeys(formats)]
    if not forms:
        raise UsageError(f"no format: choose from {', '.join(FORMATS)}.")
    found = [(form, _file(path, form, len(forms) == 1)) for form in forms]
    for form, target in found:
        check_target(target, f"student{form.suffix}", folder=form.is_folder)
    for form in forms:
        form.check(precision, uint8)
    return found


def _file(path: Path, form: Format, alone: bool) -> Path:
    own = ending(path)
    if alone and own.lower() not in ("", form.suffix):
        raise UsageError(f"{path}: --format {form.name} writes {form.suffix} files; give that ending.")
    other = form.name == "onnx" and (path.suffix or path.is_dir())  # such a file may have another ending
    if alone and (own or other):
        return path
    return path.with_name(path.name.removesuffix(own) + form.suffix)


def ending(path: Path) -> str:
    """The ending of `path` that a format knows, as it is written there; "" where there is none."""
    suffixes = sorted((form.suffix for form in FORMATS.values()), key=len, reverse=True)
    return next((path.name[-len(suffix) :] for suffix in suffixes if path.name.lower().endswith(suffix)), "")
