"""The folder of `push --out`: checked first, then written."""

from collections.abc import Iterable
from pathlib import Path

from vemcompress.commands.model_card import CARD
from vemcompress.errors import UsageError
from vemcompress.system.files import make_folder, output_error, read_text, write_atomically

_OURS = "\nlibrary_name: vemcompress\n"  # in the header of the cards that push writes


def earlier_files(folder: Path, model: Path, known: Iterable[str]) -> set[str]:
    """The names of the files that an earlier push wrote into `folder`; none if it is new or empty. Raises UsageError
    if it holds the file `model` or files whose names are not `known`, and OutputError if it cannot be read."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file; give a new folder with --out.")
        if folder.resolve() in (model.parent.resolve(), model.resolve().parent):
            raise UsageError(f"{folder}: holds the model itself ({model.name}); give a new folder with --out.")
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise output_error(folder, error) from error
    if present and not _has_our_card(folder):
        raise UsageError(f"{folder}: is not empty and was not written by push; give a new folder with --out.")
    if others := sorted(present.difference(known)):
        raise UsageError(f"{folder}: holds other files ({others[0]}); give a new folder with --out.")
    return present


def _has_our_card(folder: Path) -> bool:
    try:
        return _OURS in read_text(folder / CARD)
    except (OSError, ValueError):
        return False


def write_folder(folder: Path, files: dict[str, bytes], removed: list[str]) -> Path:
    """Write `files`, the card last, then remove the files of an earlier push named in `removed`. Raises
    OutputError."""
    make_folder(folder)
    for name in sorted(files, key=CARD.__eq__):
        write_atomically(folder / name, files[name])
    try:
        for name in removed:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return folder
