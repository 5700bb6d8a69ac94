"""The evaluation pass: every network runs once on each batch, and all metrics use the same outputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vemcompress.data.samples import Batch
from vemcompress.errors import InputError, NumericalError
from vemcompress.evaluation.frechet import double_device
from vemcompress.system import distributed

# How outputs are converted to bytes, in words for protocols.
BYTES = "outputs to 8 bits by truncation of (x + 1) / 2 * 255"


# Makes the error for results that are not finite; the argument marks the finite ones.
Error = Callable[[Tensor], Exception]


class Checks:
    """Checks that results are finite. On CUDA the check of a batch is read one batch later, while the device is busy
    with the next one; elsewhere at once. An error is raised at most one batch late, and not after `finish`."""

    def __init__(self, device: torch.device | str):
        self._device = torch.device(device)
        self._late = self._device.type == "cuda"
        self._new: list[tuple[Tensor, Error]] = []
        self._old: list[tuple[Tensor, Error]] = []
        self._done: torch.cuda.Event | None = None

    def add(self, results: Tensor, error: Error) -> None:
        """Check results B x ... later. `error` makes the exception from B booleans, at least one of which is False."""
        finite = torch.isfinite(results).flatten(1).all(1)
        if not self._late:
            _look(finite, error)
        else:
            self._new.append((finite.to("cpu", non_blocking=True), error))

    def turn(self) -> None:
        """Call this when a batch is queued; it checks the batch before. Raises the error given to `add`."""
        if not self._late:
            return
        if self._done is not None:
            self._done.synchronize()  # not the whole device, which is busy with the new batch
        self._old, old = self._new, self._old
        self._new = []
        self._done = torch.cuda.Event()
        self._done.record(torch.cuda.current_stream(self._device))
        for finite, error in old:
            _look(finite, error)

    def finish(self) -> None:
        """Check all remaining batches."""
        self.turn()
        self.turn()


def _look(finite: Tensor, error: Error) -> None:
    if not finite.all():
        raise error(finite)


class View:
    """One role's images of a batch, B x C x H x W, as a network's floats in about [-1, 1] or as uint8. The forms that
    metrics need are made when they are first used."""

    def __init__(self, images: Tensor):
        self.images = images

    @cached_property
    def rgb(self) -> Tensor:
        """B x 3 x H x W, uint8; with four channels, the first three. Raises InputError for images that do not have 1, 3
        or 4 channels."""
        images = self.images if self.images.dtype == torch.uint8 else to_bytes(self.images)
        if (channels := images.shape[1]) not in (1, 3, 4):
            raise InputError(
                f"the generator gives {channels} channels, but feature networks compare images of 1, 3 or 4; choose "
                "metrics without features."
            )
        return images[:, :3].expand(-1, 3, -1, -1)

    @cached_property
    def unit(self) -> Tensor:
        """B x C x H x W, floats in [0, 1], on a device that supports float64."""
        images = self.images.to(double_device(self.images.device))
        return images.float() / 255 if images.dtype == torch.uint8 else (images.float() + 1) / 2


class Views(dict[str, View]):
    """The images of a batch by role, their label maps, and `checks` for values that must be finite."""

    def __init__(self, images: Mapping[str, Tensor], checks: Checks, truths: Sequence[Tensor] = ()):
        super().__init__({role: View(of_role) for role, of_role in images.items()})
        self.checks, self.truths = checks, truths


class Gather(Protocol):
    """Collects data for a metric from one role's images, batch by batch."""

    def add(self, views: Views, role: str) -> None:
        """Add a batch of the role's images; `views` also has those of the other roles."""

    def merge(self) -> None:
        """Add the data of the other ranks."""

    def settle(self) -> None:
        """Called after the last image: compute what several scores share. Raises InputError for too few images."""


class Gathered(dict[tuple[str, str], Gather]):
    """The collected data by role and name. `images` is the number of inputs, `real` that of real images, None if there
    are none."""

    images: int = 0
    real: int | None = None

    def add(self, views: Views) -> None:
        for (role, _), gather in self.items():
            if role in views:
                gather.add(views, role)

    def merge(self) -> None:
        for gather in self.values():
            gather.merge()


@torch.no_grad()
def sweep(batches: Iterable[Batch], networks: Mapping[str, nn.Module], gathered: Gathered, device: torch.device) -> int:
    """Run every network once on this rank's batches in evaluation mode, and gather. Returns the number of images over
    all ranks. Raises NumericalError if an output is not finite, InputError if compared images differ in shape."""
    checks = Checks(device)

    def share() -> int:
        count = 0
        with evaluating(*networks.values()):
            for batch in batches:
                made = {role: network(batch.x) for role, network in networks.items()}
                for role, images in made.items():
                    checks.add(images, partial(_not_finite, role, batch.files))
                gathered.add(Views(_alike(made, batch.others), checks, batch.truths))
                checks.turn()
                count += len(batch.files)
        checks.finish()
        return count

    return sum(distributed.collected(distributed.together(share)))


def _alike(made: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return all images. Raises InputError if one that is compared with the first has another shape."""
    first = next(iter(made.values()), None)
    for role, images in (made | others).items():
        if first is not None and role != "real" and images.shape != first.shape:
            whose, advice = f"the {role}", "evaluate a student with its own teacher"
            if role == "target":
                whose, advice = "its ground truth", "give a generator of images of the input's size"
            sizes = ["x".join(map(str, of.shape[1:])) for of in (first, images)]
            raise InputError(f"the student gives images of {sizes[0]} and {whose} of {sizes[1]}; {advice}.")
    return made | others


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, and restore every module's own mode afterwards."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _not_finite(role: str, files: Sequence[Path], finite: Tensor) -> NumericalError:
    bad = files[int((~finite).nonzero()[0, 0])]
    return NumericalError(f"the {role} gives NaN or Inf for {bad}; its weights are damaged, use another checkpoint.")


def to_bytes(images: Tensor) -> Tensor:
    """Convert a network's output in [-1, 1] to uint8 by truncation of (x + 1) / 2 * 255, as in OMGD's protocol."""
    return ((images.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
