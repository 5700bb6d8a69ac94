"""What a run folder gives: its network, the step that it is at, and its best checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

from vemcompress.errors import InputError
from vemcompress.weights.folder import made


@dataclass(frozen=True)
class Best:
    """The best checkpoint's file and step, by which metric it was picked, and `on` which images."""

    path: Path
    step: int
    picked_by: str
    on: str


@dataclass(frozen=True)
class Networks:
    """`name` is the run's own network; `step` is the last one's, None where no checkpoint tells."""

    name: str
    step: int | None
    best: Best | None


def look(folder: Path) -> Networks:
    """Raises InputError where best.json is there but cannot be understood."""
    run = made(folder)
    name = run.gives if run else "student"
    return Networks(name, _last_step(folder / "checkpoints"), _best(folder / "best", name))


def _last_step(checkpoints: Path) -> int | None:
    try:
        newest = (checkpoints / "latest").read_text().strip()
        return int(json.loads((checkpoints / Path(newest).name / "state.json").read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # checkpoints may have been removed to save room; the network itself is still whole


def _best(folder: Path, name: str) -> Best | None:
    told = folder / "best.json"
    if not told.is_file():
        return None
    try:
        said = json.loads(told.read_text())
        return Best(folder / f"{name}.safetensors", int(said["step"]), str(said["metric"]), str(said["on"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{told}: cannot be understood ({error}); mend it, or remove the folder best/.") from error
