"""Which checkpoint was the best so far, and a copy of its network that later ones do not push out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from vemcompress.weights.files import output_error, write_atomically


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


Picker = Callable[[nn.Module], Score]


class Best:
    """`best/NAME.safetensors`, and `best/best.json` with the step, what it was picked by, on what, and the value.

    `state` is what best.json says, None before the first judgement; it is kept in checkpoints, so that a resumed run
    picks as an unbroken one.
    """

    def __init__(self, folder: Path, pick: Picker | None):
        self.folder, self.pick = folder, pick
        self.state: dict | None = None

    def judge(self, network: nn.Module, step: int) -> bool:
        """Score a network; True where none was better before."""
        if self.pick is None:
            return False
        score = self.pick(network)
        if self.state is not None and not score.better_than(self.state["value"]):
            return False
        self.state = {"step": step, **score.as_dict()}
        return True

    def write(self, name: str, artifact: bytes) -> None:
        """Raises OutputError."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        write_atomically(self.folder / f"{name}.safetensors", artifact)
        write_atomically(self.folder / "best.json", (json.dumps(self.state, indent=2) + "\n").encode())
