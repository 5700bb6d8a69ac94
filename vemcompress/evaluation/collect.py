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
from vemcompress.system import distributed


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
        """This rank's batches on the device, with an event for each."""
        read = inputs.batches(self.batch, self.device, self._on_bad)
        total = len(distributed.share(len(inputs.paths)))
        return self._told("generate", total, ((len(batch.files), batch) for batch in read))

    def real(self, paths: Sequence[Path]) -> Iterator[Tensor]:
        """uint8 images, B x 3 x H x W, likewise."""
        mine = [paths[i] for i in distributed.share(len(paths))]
        read = batches(mine, self.size, self.batch, self._on_bad, self.device)
        return self._told("real", len(mine), ((len(names), images) for names, images in read))

    def check(self, paths: Sequence[Path], count: int) -> None:
        """Hear of the other ranks' unreadable images; InputError where of these paths not one was read."""
        for part in distributed.collected(self.unreadable):
            for path in part.keys() - self.unreadable.keys():
                self._note(path, part[path])
        if not count:
            path = next(str(path) for path in paths if str(path) in self.unreadable)
            raise InputError(
                f"none of {len(paths)} images could be read (the first, {path}: {self.unreadable[path]}); give other "
                "images."
            )

    def _told(self, stage: str, total: int, counted: Iterator) -> Iterator:
        done = 0
        for count, batch in counted:
            yield batch
            self.checks.turn()
            done += count
            self.report({"event": "eval", "stage": stage, "done": done, "total": total})
        self.checks.finish()

    def _on_bad(self, error: ImageError) -> None:
        self._note(str(error.path), error.reason)

    def _note(self, path: str, reason: str) -> None:
        self.unreadable[path] = reason
        self.report({"event": "eval", "stage": "unreadable", "path": path, "reason": reason})


@torch.no_grad()
def generate(networks: dict[str, nn.Module], inputs: Inputs, setup: Setup, reading: Pass) -> tuple[int, dict]:
    """Run every generator once on every image: how many there were, and a `Side` by role, `real` of the targets.

    Each rank does its share of the images, and all get the whole. Raises NumericalError where an output is not
    finite, InputError where outputs differ in shape or no image can be read.
    """
    sides = {role: _side(role, setup, reading.checks) for role in networks}
    of_real = setup.against_real if setup.real.targets else []
    if of_real or setup.meter:
        sides["real"] = Side(of_real, reading.checks, meter=setup.meter() if setup.meter else None)
    count = distributed.together(lambda: _share(networks, inputs, setup, reading, sides))
    count = sum(distributed.collected(count))
    reading.check(inputs.paths, count)
    for side in sides.values():
        side.merge()
    return count, sides


def _share(networks: dict[str, nn.Module], inputs: Inputs, setup: Setup, reading: Pass, sides: dict[str, Side]) -> int:
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
    return count


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
    """Real images, read and resized as the inputs are. InputError where none can be read."""
    side = Side(extractors, reading.checks)

    def take_all() -> None:
        for images in reading.real(paths):
            side.take(images, ())

    distributed.together(take_all)
    side.merge()
    reading.check(paths, side.features.count)
    return side
