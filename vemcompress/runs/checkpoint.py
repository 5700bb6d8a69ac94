"""Checkpoints that survive a kill at any moment. Each is written to a temporary folder with checksums, synced and
renamed; the file `latest` is replaced last."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load as load_tensors
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.runs.own import is_unfinished
from vemcompress.system.events import Event, silent
from vemcompress.system.files import (
    LARGE,
    SMALL,
    is_count,
    open_regular,
    output_error,
    read_bytes,
    read_json,
    read_text,
    sync_folder,
    write_atomically,
)

KEPT = 2
NEEDED = ("optimizers.safetensors", "state.json")  # files of every run's checkpoints
_NAME = re.compile(r"step-\d{6,18}", re.ASCII)


def save(folder: Path, step: int, files: dict[str, bytes]) -> Path:
    """Write `folder/step-000123/` with these files and a manifest of their SHA-256 sums; keep the newest two.

    Raises OutputError if it cannot be written; earlier checkpoints are kept.
    """
    target = folder / f"step-{step:06d}"
    beside = target.with_name(f"{target.name}.tmp")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files = files | {"manifest.json": (json.dumps(sums, indent=2) + "\n").encode()}
    try:
        _write(beside, files)
        _remove(target)  # left by a run that was killed before `latest` was replaced
        beside.rename(target)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise output_error(target, error) from error
    write_atomically(folder / "latest", f"{target.name}\n".encode())
    steps = _steps(folder)
    newest = [found for found in steps if _step(found) <= step][-KEPT:]
    for old in steps:
        if old not in newest:  # a later step remains if the run went back to an earlier checkpoint
            _remove(old)
    return target


def discard_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written or half removed. Only the holder of the run's lock may do this:
    another process may be writing."""
    for leftover in folder.glob("step-*.tmp"):
        if is_unfinished(leftover.name):
            _delete(leftover)
    complete = [step for step in _steps(folder) if not _is_partial(step)]
    for step in _steps(folder):
        if complete and _step(step) < _step(complete[-1]) and step not in complete:
            _remove(step)


def latest(folder: Path, needed: Collection[str] = NEEDED, on_event: Event = silent) -> Path | None:
    """The newest complete checkpoint, None if there is none.

    Raises InputError if all are damaged. A checkpoint is complete if it has all files `needed`. If an earlier one is
    used, a warning says why.
    """
    candidates, named = list(reversed(_steps(folder))), _pointed(folder)
    candidates.sort(key=lambda path: path.name != named)
    lost = named is not None and named not in [path.name for path in candidates]
    told, whole = f"{folder / named}: is missing" if lost else "", None
    for candidate in candidates:
        if not (wrong := damage(candidate, needed)):
            whole = candidate
            break
        told = told or f"{candidate}: {wrong}"
    if candidates and whole is None:
        raise InputError(f"{told}; no other checkpoint is complete. Start a new run.")
    if told:
        taken = (
            f"continuing from {whole.name}, the newest complete one"
            if whole
            else "there is no other, so the run starts again"
        )
        on_event({"event": "warning", "message": f"{told}; {taken}."})
    return whole


def _pointed(folder: Path) -> str | None:
    """The name in `latest`; None if it is not the name of a checkpoint."""
    try:
        name = read_text(folder / "latest", SMALL).strip()
    except (OSError, ValueError):
        return None
    return name if _NAME.fullmatch(name) else None


def damage(checkpoint: Path, needed: Collection[str] = ()) -> str | None:
    """What is wrong with a checkpoint; None if it has the files `needed` and all match their checksums.

    A state.json must have an integer `step`.
    """
    try:
        sums = read_json(checkpoint / "manifest.json")
        if not isinstance(sums, dict) or not sums:
            return "manifest.json names no files"
        if absent := [name for name in needed if name not in sums]:
            return f"manifest.json does not name {absent[0]}"
        for name, expected in sums.items():
            if Path(name).name != name:
                return f"manifest.json names {name!r:.80}, which is no file's name"
            with open_regular(checkpoint / name, LARGE) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return f"{name} does not match its sum in manifest.json"
        if "state.json" in sums and not _has_step(read_json(checkpoint / "state.json")):
            return "state.json has no valid step"
    except (OSError, ValueError) as error:
        return f"manifest.json or a file of it cannot be read ({error})"
    return None


def _is_partial(checkpoint: Path) -> bool:
    """Whether a required file is missing, for example after a kill during removal."""
    try:
        sums = read_json(checkpoint / "manifest.json")
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return isinstance(sums, dict) and not all((checkpoint / Path(name).name).exists() for name in sums)


def _has_step(state) -> bool:
    return isinstance(state, dict) and is_count(state.get("step"))


def tensors_from(path: Path) -> dict[str, Tensor]:
    """Read tensors. Raises OSError, or SafetensorError for a file of another format."""
    return load_tensors(read_bytes(path, LARGE))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    _delete(folder)
    folder.mkdir()  # without parents: a run folder that was removed must not come back
    for name, data in files.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def _remove(path: Path) -> None:
    """Rename the folder before removing it, so that a kill leaves no checkpoint that looks complete."""
    aside = path.with_name(f"{path.name}.old.tmp")
    with suppress(OSError):
        if path.is_symlink() or path.exists():
            _delete(aside)
            path.rename(aside)
            _delete(aside)


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _steps(folder: Path) -> list[Path]:
    """The folders of checkpoints, oldest first."""
    found = (path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
