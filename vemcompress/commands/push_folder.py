"""The folder of `push --out`: checked first, then written."""

from pathlib import Path

from vemcompress.commands.model_card import CARD
from vemcompress.errors import UsageError
from vemcompress.system.files import make_folder, output_error, read_text, write_atomically

_OURS = "\nlibrary_name: vemcompress\n"  # in the header of the cards that push writes


def earlier_files(folder: Path, model: Path) -> set[str]:
    """The names of the files that an earlier push wrote into `folder`; none if it is new or empty. Raises UsageError
    if it holds other files or the file `model`, and OutputError if it cannot be read."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file; give a new folder with --out.")
        if folder.resolve() in (model.parent.resolve(), model.resolve().parent):
            raise UsageError(f"{folder}: holds the model itself ({model.name}); give a new folder with --out.")
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise output_error(folder, error) from error
    card = _card(folder)
    if present and card is None:
        raise UsageError(f"{folder}: is not empty and was not written by push; give a new folder with --out.")
    others = sorted(name for name in present if name != CARD and f"`{name}`" not in card)  # the card lists its files
    if others:
        raise UsageError(f"{folder}: holds other files ({others[0]}); give a new folder with --out.")
    return present


def _card(folder: Path) -> str | None:
    """The model card that an earlier push wrote into the folder, or None."""
    try:
        card = read_text(folder / CARD)
    except (OSError, ValueError):
        return None
    return card if _OURS in card else None


def write_folder(folder: Path, files: dict[str, bytes], removed: list[str]) -> Path:
    """Remove the files of an earlier push named in `removed`, then write `files`. Raises OutputError."""
    make_folder(folder)
    try:
        for name in removed:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    for name, data in files.items():
        write_atomically(folder / name, data)
    return folder
