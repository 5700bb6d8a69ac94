"""Where a judge's images come from: read anew in each pass, or decoded once and kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vemcompress.data.images import ImageError
from vemcompress.data.samples import Batch, Samples, batches
from vemcompress.errors import InputError
from vemcompress.evaluation.checks import Checks
from vemcompress.evaluation.gather import evaluating, output_of
from vemcompress.evaluation.metric import Real
from vemcompress.system import distributed

OnEvent = Callable[[dict], None]

BATCH = 8


class Source(Protocol):
    """This rank's images on a device, of the size that they are measured at."""

    device: torch.device
    real: Real

    def inputs(self) -> Iterator[Batch]:
        """What networks are fed, with what lies beside it: `target` and, where they are that, `real` images."""

    def real_images(self) -> Iterator[Batch]:
        """The real images alone, uint8, B x 3 x H x W."""

    def check(self, count: int, *, real: bool = False) -> None:
        """All ranks have read the inputs, or the real images, so many of them. Raises InputError for none."""


@dataclass
class Reading:
    """Images that are read in each pass, with an event for each batch. `unreadable` collects path: reason."""

    samples: Samples
    real: Real
    batch: int
    device: torch.device
    report: OnEvent
    unreadable: dict[str, str] = field(default_factory=dict)

    def inputs(self) -> Iterator[Batch]:
        total = len(distributed.share(len(self.samples.paths)))
        read = self.samples.batches(self.batch, self.device, self._on_bad)
        for batch in self._told("generate", total, read):
            yield _with_real(batch) if self.real.targets else batch

    def real_images(self) -> Iterator[Batch]:
        mine = [self.real.paths[i] for i in distributed.share(len(self.real.paths))]
        read = _pictures(mine, self.samples.size, self.batch, self._on_bad, self.device)
        return self._told("real", len(mine), read)

    def check(self, count: int, *, real: bool = False) -> None:
        """Hear of the other ranks' unreadable images, too."""
        paths = self.real.paths if real else self.samples.paths
        for part in distributed.collected(self.unreadable):
            for path in part.keys() - self.unreadable.keys():
                self._note(path, part[path])
        if not count:
            path = next(str(path) for path in paths if str(path) in self.unreadable)
            raise InputError(
                f"none of {len(paths)} images could be read (the first, {path}: {self.unreadable[path]}); give other "
                "images."
            )

    def _told(self, stage: str, total: int, read: Iterator[Batch]) -> Iterator[Batch]:
        done = 0
        for batch in read:
            yield batch
            done += len(batch.files)
            self.report({"event": "eval", "stage": stage, "done": done, "total": total})

    def _on_bad(self, error: ImageError) -> None:
        self._note(str(error.path), error.reason)

    def _note(self, path: str, reason: str) -> None:
        self.unreadable[path] = reason
        self.report({"event": "eval", "stage": "unreadable", "path": path, "reason": reason})


class Kept:
    """The readable images of a set, decoded once, with what a `remembered` network made of them.

    `targets`: whether those of pairs are compared with. Raises InputError where no image can be read.
    """

    def __init__(self, samples: Samples, real: Real, device: torch.device, report: OnEvent, *, targets: bool):
        def on_bad(error: ImageError) -> None:
            report({"event": "skipped", "path": str(error.path), "reason": error.reason})

        self.real, self.device = real, device
        self._samples, self._on_bad, self._targets = samples, on_bad, targets
        self._kept = distributed.together(lambda: list(samples.decoded(2 * BATCH, on_bad)))
        self._made: dict[str, list[Tensor]] = {}
        if not sum(distributed.collected(len(self._kept))):
            raise InputError(f"none of {len(samples.paths)} images to pick the best by can be read; give other images.")

    @torch.no_grad()
    def remember(self, role: str, network: nn.Module) -> None:
        """Have a network's images, kept on the CPU, beside the inputs from now on. Raises NumericalError."""
        checks = Checks("cpu")
        with evaluating(network):
            self._made[role] = distributed.together(
                lambda: [output_of(network, role, b.x, b.files, checks).cpu() for b in self._batches()]
            )

    def inputs(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._batches()):
            made = {role: images[number].to(self.device) for role, images in self._made.items()}
            yield replace(batch, others=made | (batch.others if self._targets else {}))

    def real_images(self) -> Iterator[Batch]:
        if self.real.targets:
            yield from map(_with_real, self._batches())
        else:
            mine = [self.real.paths[i] for i in distributed.share(len(self.real.paths))]
            yield from _pictures(mine, self._samples.size, BATCH, self._on_bad, self.device)

    def check(self, count: int, *, real: bool = False) -> None:
        """They are there."""

    def _batches(self) -> Iterator[Batch]:
        for start in range(0, len(self._kept), BATCH):
            yield self._samples.collate(self._kept[start : start + BATCH], self.device)


def _with_real(batch: Batch) -> Batch:
    return replace(batch, others=batch.others | {"real": batch.others["target"]})


def _pictures(paths: Sequence[Path], size: int, batch: int, on_bad, device: torch.device) -> Iterator[Batch]:
    for names, images in batches(paths, size, batch, on_bad, device):
        yield Batch(names, None, {"real": images})
