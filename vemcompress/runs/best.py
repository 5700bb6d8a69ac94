"""Which checkpoint was the best so far, and a copy of its network that later ones do not push out; and what a run
folder says of its networks."""

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
    """A figure of `images` images; `on` says which they were."""

    name: str
    value: float
    higher_is_better: bool
    on: str = ""
    images: int = 0

    def better_than(self, value: float) -> bool:
        """Whether this one is better than another of the same kind; an equal one is not."""
        return self.value > value if self.higher_is_better else self.value < value

    def as_dict(self) -> dict:
        """What best.json says."""
        values = asdict(self)
        return {"metric": values.pop("name"), **values}


def checked(said) -> dict:
    """What best.json or a checkpoint says of the best. Raises ValueError where it cannot be that."""
    if not isinstance(said, dict):
        raise ValueError("it is no table")
    step, value = said.get("step"), said.get("value")
    fits = {"step": is_count(step), "value": isinstance(value, float) or is_count(value)}
    fits |= {key: isinstance(said.get(key), str) for key in ("metric", "on")}
    if wrong := [key for key, fit in fits.items() if not fit]:
        raise ValueError(f"{wrong[0]!r} is {said.get(wrong[0])!r:.40}")
    return said


Picker = Callable[[nn.Module], Score]


class Best:
    """`best/NAME.safetensors`, and `best/best.json` with the step, what it was picked by, on what, and the value.

    `state` is what best.json says, None before the first judgement; it is kept in checkpoints, so that a resumed run
    picks as an unbroken one. `scores` are all scores until now, each with its step, as metrics.jsonl has them.
    """

    def __init__(self, folder: Path, pick: Picker | None):
        self.folder, self.pick = folder, pick
        self.state: dict | None = None
        self.scores: list[dict] = []

    def judge(self, network: nn.Module, step: int) -> bool:
        """Score a network; True where none was better before."""
        if self.pick is None:
            return False
        score = self.pick(network)
        self.scores.append({"step": step, **score.as_dict()})
        if self.state is not None and not score.better_than(self.state["value"]):
            return False
        self.state = {"step": step, **score.as_dict()}
        return True

    def told(self, step: int) -> str:
        """The score of this step, where it was judged, and the best so far, in a line; empty where there is none."""
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
    best: Copy | None


def look(folder: Path) -> Networks:
    """Raises InputError where best.json is there but cannot be understood."""
    run = made(folder)
    name = run.gives if run else "student"
    return Networks(name, _last_step(folder / "checkpoints"), _best(folder / "best", name))


def _last_step(checkpoints: Path) -> int | None:
    try:
        newest = read_text(checkpoints / "latest").strip()
        step = read_json(checkpoints / Path(newest).name / "state.json")["step"]
        return step if is_count(step) else None
    except (OSError, *MALFORMED):
        return None  # checkpoints may have been removed to save room; the network itself is still whole


def _best(folder: Path, name: str) -> Copy | None:
    told = folder / "best.json"
    if not told.is_file():
        return None
    try:
        said = checked(read_json(told))
        return Copy(folder / f"{name}.safetensors", said["step"], said["metric"], said["on"])
    except (OSError, ValueError) as error:
        raise InputError(f"{told}: cannot be understood ({error}); mend it, or remove the folder best/.") from error
