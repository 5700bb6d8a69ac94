"""Checkpoints that survive a kill at any moment: written beside, summed, synced, renamed; `latest` is swapped last."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from safetensors.torch import load as load_tensors
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.system.files import output_error, write_atomically

KEPT = 2
NEEDED = ("optimizers.safetensors", "state.json")  # of every run, whatever it trains


def save(folder: Path, step: int, files: dict[str, bytes]) -> Path:
    """Write `folder/step-000123/` with these files and a manifest of their SHA-256 sums; keep the newest two.

    Raises OutputError where it cannot be written; what was there stays.
    """
    target = folder / f"step-{step:06d}"
    beside = target.with_name(f"{target.name}.tmp")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files = files | {"manifest.json": (json.dumps(sums, indent=2) + "\n").encode()}
    try:
        _write(beside, files)
        if target.exists():  # left by a run that was killed before `latest` was swapped
            shutil.rmtree(target)
        beside.rename(target)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise output_error(target, error) from error
    write_atomically(folder / "latest", f"{target.name}\n".encode())
    for old in _steps(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def discard_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written. For the holder of the run's lock alone: another may be at it."""
    for leftover in folder.glob("step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def latest(folder: Path, needed: Collection[str] = NEEDED) -> Path | None:
    """The newest complete checkpoint, None where there is none. Raises InputError where all are damaged.

    One without a file of the names `needed` is not complete.
    """
    candidates = list(reversed(_steps(folder)))
    pointer = folder / "latest"
    if pointer.is_file():
        named = folder / pointer.read_text(errors="replace").strip()
        candidates.sort(key=lambda path: path != named)
    for candidate in candidates:
        if not damage(candidate, needed):
            return candidate
    if candidates:
        found = damage(candidates[0], needed)
        raise InputError(f"{candidates[0]}: {found}; no other checkpoint is whole. Start a new run.")
    return None


def damage(checkpoint: Path, needed: Collection[str] = ()) -> str | None:
    """What is wrong with a checkpoint, None if it is whole: it has the files `needed`, and all agree with their sums.

    A state.json must hold a whole number, `step`.
    """
    try:
        sums = json.loads((checkpoint / "manifest.json").read_bytes())
        if not isinstance(sums, dict) or not sums:
            return "manifest.json names no files"
        if absent := [name for name in needed if name not in sums]:
            return f"manifest.json does not name {absent[0]}"
        for name, expected in sums.items():
            if hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() != expected:
                return f"{name} does not match its sum in manifest.json"
        if "state.json" in sums and not _has_step(json.loads((checkpoint / "state.json").read_bytes())):
            return "state.json does not tell the step"
    except (OSError, ValueError, RecursionError) as error:
        return f"manifest.json or a file of it cannot be read ({error})"
    return None


def _has_step(state) -> bool:
    return isinstance(state, dict) and type(state.get("step")) is int


def tensors_from(path: Path) -> dict[str, Tensor]:
    return load_tensors(path.read_bytes())


def _write(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(folder)


def _steps(folder: Path) -> list[Path]:
    found = (p for p in folder.glob("step-*") if p.is_dir() and p.suffix != ".tmp")
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
