"""The best checkpoint so far: its score and a copy of its network that later checkpoints do not replace. Also reads
which networks a run folder has."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from vemcompress.errors import InputError
from vemcompress.system.files import MALFORMED, is_count, output_error, read_json, read_text, write_atomically
from vemcompress.weights.folder import made


@dataclass(frozen=True)
class Score:
    """A score on `images` images; `on` says which images."""

    name: str
    value: float
    higher_is_better: bool
    on: str = ""
    images: int = 0

    def better_than(self, value: float) -> bool:
        """Whether this score is better than another of the same metric. An equal one is not."""
        return self.value > value if self.higher_is_better else self.value < value

    def as_dict(self) -> dict:
        """The form in best.json."""
        values = asdict(self)
        return {"metric": values.pop("name"), **values}


def checked(said) -> dict:
    """Check the content of best.json, or a checkpoint's copy of it. Raises ValueError if it is not valid."""
    if not isinstance(said, dict):
        raise ValueError("it is not a table")
    step, value = said.get("step"), said.get("value")
    fits = {"step": is_count(step), "value": isinstance(value, float) or is_count(value)}
    fits |= {key: isinstance(said.get(key), str) for key in ("metric", "on")}
    if wrong := [key for key, fit in fits.items() if not fit]:
        raise ValueError(f"{wrong[0]!r} is {said.get(wrong[0])!r:.40}")
    return said


Picker = Callable[[nn.Module], Score]


class Best:
    """`best/NAME.safetensors`, and `best/best.json` with the step, the metric, the images and the value.

    `state` is the content of best.json, None before the first score. Checkpoints store it, so that a resumed run picks
    like an uninterrupted one. `scores` are all scores so far, each with its step, as in metrics.jsonl.
    """

    def __init__(self, folder: Path, pick: Picker | None):
        self.folder, self.pick = folder, pick
        self.state: dict | None = None
        self.scores: list[dict] = []

    def judge(self, network: nn.Module, step: int) -> bool:
        """Score a network; True if it is the best so far."""
        if self.pick is None:
            return False
        score = self.pick(network)
        self.scores.append({"step": step, **score.as_dict()})
        if self.state is not None and not score.better_than(self.state["value"]):
            return False
        self.state = {"step": step, **score.as_dict()}
        return True

    def summary(self, step: int) -> str:
        """One line with the score of this step, if there is one, and the best score so far; empty without scores."""
        if self.state is None:
            return ""
        metric, best, at = (self.state[key] for key in ("metric", "value", "step"))
        way = "higher is better" if self.state.get("higher_is_better") else "lower is better"
        if at == step:
            return f"{metric} {best:.4g}, the best so far ({way})"
        here = [score["value"] for score in self.scores[-1:] if score["step"] == step]
        if not here:
            return f"best {metric} so far: {best:.4g} at step {at:,} ({way})"
        return f"{metric} {here[0]:.4g} ({way}; best so far: {best:.4g} at step {at:,})"

    def write(self, name: str, artifact: bytes) -> None:
        """Raises OutputError."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        write_atomically(self.folder / f"{name}.safetensors", artifact)
        write_atomically(self.folder / "best.json", (json.dumps(self.state, indent=2) + "\n").encode())


@dataclass(frozen=True)
class Copy:
    """The best checkpoint: its file and step, the metric that picked it, and `on`, the images of the metric."""

    path: Path
    step: int
    picked_by: str
    on: str


@dataclass(frozen=True)
class Networks:
    """`name` is the run's main network; `step` is that of the last checkpoint, None if unknown."""

    name: str
    step: int | None
    best: Copy | None


def look(folder: Path) -> Networks:
    """The networks of a run folder. Raises InputError if best.json exists but is not valid."""
    run = made(folder)
    name = run.gives if run else "student"
    return Networks(name, _last_step(folder / "checkpoints"), _best(folder / "best", name))


def _last_step(checkpoints: Path) -> int | None:
    try:
        newest = read_text(checkpoints / "latest").strip()
        step = read_json(checkpoints / Path(newest).name / "state.json")["step"]
        return step if is_count(step) else None
    except (OSError, *MALFORMED):
        return None  # checkpoints may have been removed to save space; the network is still there


def _best(folder: Path, name: str) -> Copy | None:
    told = folder / "best.json"
    if not told.is_file():
        return None
    try:
        said = checked(read_json(told))
        return Copy(folder / f"{name}.safetensors", said["step"], said["metric"], said["on"])
    except (OSError, ValueError) as error:
        raise InputError(f"{told}: is not valid ({error}); correct it, or remove the folder best/.") from error
