"""run.json of a run folder: the command that made it, and the network it produces."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vemcompress.system.files import read_json, write_atomically

FILE = "run.json"
COMMANDS = ("distill", "teach", "prune", "search")
NAMES = {"distill": "student", "teach": "teacher"}  # the product of each command in the first release


@dataclass(frozen=True)
class Made:
    """The `command` that made a run, and the name of the network that it `gives`, whose file is NAME.safetensors."""

    command: str
    gives: str

    def write(self, folder: Path) -> None:
        """Write run.json. Raises OutputError."""
        write_atomically(folder / FILE, (json.dumps({"version": 1, **asdict(self)}, indent=2) + "\n").encode())


def made(folder: Path) -> Made | None:
    """The content of a folder's run.json; None if it is not a run folder. Runs of the first release have no
    run.json; their environment.json or files are used instead.
    """
    said = _read(folder / FILE)
    if said.get("command") in COMMANDS and said.get("gives") in ("student", "teacher"):
        return Made(said["command"], said["gives"])
    environment = _read(folder / "environment.json")
    command = "distill" if "student" in environment else "teach" if "networks" in environment else None
    if command is None:
        there = (command for command, name in NAMES.items() if (folder / f"{name}.safetensors").is_file())
        command = next(there, None)
    return command and Made(command, NAMES[command])


def never_picked(path: Path) -> str | None:
    """Why a run's best network, best/NAME.safetensors, does not exist, and what to use; None for other paths."""
    run = path.parent.parent
    if path.parent.name != "best" or path.exists() or (told := made(run)) is None:
        return None
    if path.stem != told.gives or not (last := run / f"{told.gives}.safetensors").is_file():
        return None
    return (
        f"{path}: no best checkpoint was picked in this run, because no image was held out (data.held_out) or "
        f"train.best_by is none; use the last one, {last}."
    )


def _read(path: Path) -> dict:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
