"""Detects runs that have diverged although all numbers are finite: exploding losses, identical images."""

import torch
from torch import Tensor, nn

from vemcompress.errors import NumericalError
from vemcompress.system.events import Event
from vemcompress.system.files import MALFORMED
from vemcompress.training.learner import one_by_one

FIRST = 5  # values of a loss that form its first mean
FACTOR = 1e4  # a loss diverges beyond this many times its first mean
JUMP = 100  # a value beyond this many times the mean so far is not added to it
SHARE, LEAST = 0.01, 0.01  # a first mean counts as at least this share of the first total, and at least this value
LEVEL = 2 / 255  # one level of 8 bits, in [-1, 1]


class Health:
    """Checks every update's loss terms at every step, and a network's images at checkpoints; warns once of each kind.

    A loss diverges beyond 1e4 times its first mean, which is the mean of its first 5 absolute values. A value over 100
    times the mean of those before it is not counted, so a run that explodes at once does not raise its own limit. Some
    terms begin near 0, such as one with a ramp. Therefore the first mean counts as at least 0.01, and at least a
    hundredth of its update's first total. The total is the sum of absolute values, so terms of opposite signs do not
    cancel.

    `found` holds, for each kind, "loss" or "output", what was reported: `step`, `what`, `message`, and for a loss its
    `value` and `first` mean. `strict`: raise NumericalError instead of warning. `state` is stored in checkpoints, so
    that a resumed run is checked like an uninterrupted one.
    """

    def __init__(self, strict: bool, on_event: Event):
        self.strict, self.on_event = strict, on_event
        self.found: dict[str, dict] = {}
        self._first: dict[str, dict[str, list]] = {}  # by update and term: sum and number of the first absolute values

    @property
    def state(self) -> dict:
        """The state as plain values for JSON."""
        return {"found": self.found, "first": self._first}

    @state.setter
    def state(self, state: dict) -> None:
        try:
            self._first = {
                update: {name: [float(total), max(1, int(count))] for name, (total, count) in known.items()}
                for update, known in state["first"].items()
            }
            self.found = {kind: dict(found, message=str(found["message"])) for kind, found in state["found"].items()}
        except (*MALFORMED, OverflowError):  # written by a release without this state
            self.found, self._first = {}, {}

    def look(self, update: str, step: int, names: list[str], values: list[float]) -> None:
        """Check the finite terms of an update. Raises NumericalError if `strict`."""
        if "loss" in self.found:
            return
        known = self._first.setdefault(update, {})
        sizes = dict(zip(names, map(abs, values), strict=False))
        sizes["total"] = sum(sizes.values())
        means = {name: total / count for name, (total, count) in known.items()}
        floor = max(LEAST, SHARE * means.get("total", 0.0))
        ratios = {name: sizes[name] / max(mean, floor) for name, mean in means.items() if name in sizes}
        worst = max(ratios, key=ratios.get, default=None)
        if worst is not None and ratios[worst] > FACTOR:
            what = f"the {update} update's " + ("total loss" if worst == "total" else f"loss term '{worst}'")
            size, first = sizes[worst], means[worst]
            told = f"{what} is {size:.3g}, over {FACTOR:,.0f} times its first mean ({first:.3g})"
            self._tell("loss", step, what, told, value=size, first=first)
            return
        for name, size in sizes.items():
            total, count = known.get(name, (0.0, 0))
            if count < FIRST and ratios.get(name, 0.0) <= JUMP:
                known[name] = [total + size, count + 1]

    def look_at(self, name: str, constant: bool, step: int) -> None:
        """Check a network, given whether it `is_constant`. Raises NumericalError if `strict`."""
        if constant and "output" not in self.found:
            self._tell("output", step, name, f"the {name} makes the same image for different inputs")

    def check(self) -> None:
        """Raises NumericalError if `strict` and a resumed run has diverged before."""
        if self.strict and self.found:
            raise NumericalError(next(iter(self.found.values()))["message"])

    def _tell(self, kind: str, step: int, what: str, told: str, **more: float) -> None:
        message = (
            f"step {step}: {told}, so the run has diverged; start a new one with a lower train.lr (gan.lr for "
            "teachers that are trained), or with lower loss weights."
        )
        if self.strict:
            raise NumericalError(f"{message} The last checkpoint is kept.")
        self.found[kind] = {"step": step, "what": what, "message": message, **more}
        self.on_event({"event": "diverged", "kind": kind, **self.found[kind]})


@torch.no_grad()
def is_constant(network: nn.Module, inputs: Tensor, wanted: Tensor | None = None) -> bool:
    """Whether a network in evaluation mode makes the same image, to half an 8-bit level, for inputs B x C x H x W
    that differ by several levels. If `wanted` images are given, these must differ too.
    """
    differ = all(_spread(images) > 8 * LEVEL for images in (inputs, wanted) if images is not None)
    return differ and _spread(one_by_one(network, inputs)) < LEVEL / 2


def _spread(images: Tensor) -> float:
    """The largest difference between images at one pixel."""
    return (images.amax(0) - images.amin(0)).max().item()
