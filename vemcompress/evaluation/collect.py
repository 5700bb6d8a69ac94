"""One pass over the test images: every generator, its fidelity, the features of its outputs and their classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vemcompress.data.images import ImageError
from vemcompress.errors import InputError
from vemcompress.evaluation.batches import batches, to_bytes
from vemcompress.evaluation.checks import Checks
from vemcompress.evaluation.features import Extractor
from vemcompress.evaluation.frechet import double_device
from vemcompress.evaluation.inputs import Batch, Inputs
from vemcompress.evaluation.prepare import Setup
from vemcompress.evaluation.running import evaluating, output_of, same_shape, to_unit
from vemcompress.evaluation.sides import Side
from vemcompress.evaluation.statistics import OnEvent


@dataclass
class Pass:
    """How images are read: side in pixels, batch, device, and where events go. `unreadable` collects path: reason.

    `checks` are looked at once a batch, and at the end of each pass.
    """

    size: int
    batch: int
    device: torch.device
    report: OnEvent
    unreadable: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.checks = Checks(self.device)

    def inputs(self, inputs: Inputs) -> Iterator[Batch]:
        """Batches on the device, with an event for each; InputError where none can be read."""
        read = inputs.batches(self.batch, self.device, self._on_bad)
        return self._told("generate", inputs.paths, ((len(batch.files), batch) for batch in read))

    def real(self, paths: Sequence[Path]) -> Iterator[Tensor]:
        """uint8 images, B x 3 x H x W, likewise."""
        read = batches(paths, self.size, self.batch, self._on_bad, self.device)
        return self._told("real", paths, ((len(names), images) for names, images in read))

    def _told(self, stage: str, paths: Sequence[Path], counted: Iterator) -> Iterator:
        done, known = 0, set(self.unreadable)
        for count, batch in counted:
            yield batch
            self.checks.turn()
            done += count
            self.report({"event": "eval", "stage": stage, "done": done, "total": len(paths)})
        self.checks.finish()
        if not done:
            path, reason = next((p, r) for p, r in self.unreadable.items() if p not in known)
            raise InputError(
                f"none of {len(paths)} images could be read (the first, {path}: {reason}); give other images."
            )

    def _on_bad(self, error: ImageError) -> None:
        self.unreadable[str(error.path)] = error.reason
        self.report({"event": "eval", "stage": "unreadable", "path": str(error.path), "reason": error.reason})


@torch.no_grad()
def generate(networks: dict[str, nn.Module], inputs: Inputs, setup: Setup, reading: Pass) -> tuple[int, dict]:
    """Run every generator once on every image: how many there were, and a `Side` by role, `real` of the targets.

    Raises NumericalError where an output is not finite, InputError where outputs differ in shape.
    """
    sides = {role: _side(role, setup, reading.checks) for role in networks}
    of_real = setup.against_real if setup.real.targets else []
    if of_real or setup.meter:
        sides["real"] = Side(of_real, reading.checks, meter=setup.meter() if setup.meter else None)
    count, exact = 0, double_device(reading.device)
    with evaluating(*networks.values()):
        for batch in reading.inputs(inputs):
            made = {
                role: output_of(network, role, batch.x, batch.files, reading.checks)
                for role, network in networks.items()
            }
            others = _checked(made, batch.targets)
            if setup.plan.fidelity:
                units = {name: to_unit(images.to(exact)) for name, images in (made | others).items()}
            for role, images in made.items():
                sides[role].take(to_bytes(images), batch.truths)
                if setup.plan.fidelity:
                    sides[role].compare(units[role], units)
            if "real" in sides:
                sides["real"].take(batch.targets, batch.truths)
            count += len(batch.files)
    return count, sides


def _side(role: str, setup: Setup, checks: Checks) -> Side:
    """A teacher is not compared with itself."""
    names = [name for name in setup.plan.fidelity if not name.endswith(f"_{role}")]
    return Side(list(setup.extractors.values()), checks, names, setup.meter() if setup.meter else None)


def _checked(made: dict[str, Tensor], targets: Tensor | None) -> dict[str, Tensor]:
    """The targets by their name, if there are any; all must have the student's shape."""
    first = next(iter(made.values()))
    for role, images in made.items():
        same_shape(first, images, f"the {role}", "evaluate a student with its own teacher")
    if targets is None:
        return {}
    same_shape(first, targets, "its ground truth", "give a generator of images of the input's size")
    return {"target": targets}


@torch.no_grad()
def collect(paths: Sequence[Path], extractors: Sequence[Extractor], reading: Pass) -> Side:
    """Real images, read and resized as the inputs are."""
    side = Side(extractors, reading.checks)
    for images in reading.real(paths):
        side.take(images, ())
    return side
