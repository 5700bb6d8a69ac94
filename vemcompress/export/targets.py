"""The files that an export writes: formats, names and endings, checked before the export starts."""

from collections.abc import Sequence
from pathlib import Path

from vemcompress.errors import UsageError
from vemcompress.export.formats import FORMATS, Format
from vemcompress.export.formats.job import PRECISIONS
from vemcompress.system.files import check_target


def targets(path: Path, formats: str | Sequence[str], precision: str, uint8: bool) -> list[tuple[Format, Path]]:
    """Each format with its file: `path` itself or, with several formats, its name with each format's ending.

    Raises UsageError (2), ExportError (7) for a library that is not installed, and OutputError (9).
    """
    formats = [formats] if isinstance(formats, str) else formats
    if unknown := [name for name in formats if name not in FORMATS]:
        tip = " TensorFlow Lite is litert." if unknown[0].lower() in ("tflite", "tensorflow") else ""
        raise UsageError(f"format '{unknown[0]}' is not known; choose from {', '.join(FORMATS)}.{tip}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision '{precision}' is not known; choose from {', '.join(PRECISIONS)}.")
    forms = [FORMATS[name] for name in dict.fromkeys(formats)]
    if not forms:
        raise UsageError(f"no format: choose from {', '.join(FORMATS)}.")
    found = [(form, _file(path, form, len(forms) == 1)) for form in forms]
    for form, target in found:
        for file in form.files(target):
            check_target(file, f"student{form.suffix}", folder=form.is_folder)
        if form.is_folder:
            _check_package(target)
    for form in forms:
        form.check(precision, uint8)
    return found


def _file(path: Path, form: Format, alone: bool) -> Path:
    own = ending(path)
    if path.is_dir() and not own:
        raise UsageError(f"{path}: is a folder; give the name of a file, such as {path / f'student{form.suffix}'}.")
    if alone and own.lower() not in ("", form.suffix):
        raise UsageError(f"{path}: --format {form.name} writes {form.suffix} files; give that ending.")
    if alone and (own or (form.name == "onnx" and path.suffix)):  # an ONNX file may have another ending
        return path
    return path.with_name(path.name.removesuffix(own) + form.suffix)


def _check_package(path: Path) -> None:
    """An existing folder at the place of a package must be a package or empty, because it is replaced as a whole."""
    if path.is_dir() and not (path / "Manifest.json").is_file() and any(path.iterdir()):
        raise UsageError(f"{path}: is a folder with other files, which would be lost; choose another name.")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file, but a package is a folder; choose another name.")


def ending(path: Path) -> str:
    """The ending of `path`, as written, if it belongs to a format; else ""."""
    suffixes = sorted((form.suffix for form in FORMATS.values()), key=len, reverse=True)
    return next((path.name[-len(suffix) :] for suffix in suffixes if path.name.lower().endswith(suffix)), "")
