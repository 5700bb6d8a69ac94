"""Image sources of a judge: files that are read in each pass, or decoded once and kept; latent vectors are drawn
once."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from vemcompress.data.images import ImageError, tell_notes
from vemcompress.data.samples import Batch, LatentSamples, Samples, batches
from vemcompress.errors import InputError
from vemcompress.evaluation.gather import Gather, Gathered, Views, sweep
from vemcompress.evaluation.metric import Real
from vemcompress.system import distributed
from vemcompress.system.events import Event


@dataclass
class Source:
    """This rank's images on the device, read in each pass, with an event per batch. `unreadable`: reasons by path."""

    samples: Samples | LatentSamples
    real: Real
    batch: int
    device: torch.device
    report: Event
    unreadable: dict[str, str] = field(default_factory=dict)

    def inputs(self) -> Iterator[Batch]:
        """The input batches of the networks. `others` has the `target`, also as `real` if the targets are the real
        images."""
        total = len(distributed.share(len(self.samples.paths)))
        for batch in self._told("generate", total, self.samples.batches(self.batch, self.device, self.on_bad)):
            yield self._with_real(batch)

    def real_images(self) -> Iterator[Batch]:
        """Batches of the images of `real.paths`, as `others`."""
        mine = [self.real.paths[i] for i in distributed.share(len(self.real.paths))]
        read = batches(mine, self.samples.side, self.batch, self.on_bad, self.device, self.samples.crop)
        return self._told("real", len(mine), (Batch(names, None, {"real": images}) for names, images in read))

    def check(self, count: int, *, real: bool = False) -> None:
        """After all ranks have read `count` inputs or real images, collect the unreadable ones of all ranks. Raises
        InputError if no image could be read."""
        for part in distributed.collected(self.unreadable):
            for path in part.keys() - self.unreadable.keys():
                self.on_bad(ImageError(path, part[path]))
        if not count:
            paths = self.real.paths if real else self.samples.paths
            path = next(str(path) for path in paths if str(path) in self.unreadable)
            raise InputError(
                f"none of {len(paths)} images could be read (the first, {path}: {self.unreadable[path]}); give other "
                "images."
            )

    def on_bad(self, error: ImageError) -> None:
        self.unreadable[str(error.path)] = error.reason
        self.report({"event": "eval", "stage": "unreadable", "path": str(error.path), "reason": error.reason})

    def _told(self, stage: str, total: int, read: Iterator[Batch]) -> Iterator[Batch]:
        done = 0
        for batch in read:
            yield batch
            done += len(batch.files)
            tell_notes(self.report)
            self.report({"event": "eval", "stage": stage, "done": done, "total": total})

    def _with_real(self, batch: Batch) -> Batch:
        return replace(batch, others=batch.others | {"real": batch.others["target"]}) if self.real.targets else batch


class Outputs(Gather):
    """Collects the images themselves, on the CPU."""

    def __init__(self):
        self.images: list[Tensor] = []

    def add(self, views: Views, role: str) -> None:
        self.images.append(views[role].images.cpu())


@dataclass
class Kept(Source):
    """The readable inputs, decoded once, with the stored images of remembered networks. It reports no progress.
    `targets`: whether the targets of pairs are needed. Raises InputError if no image can be read."""

    targets: bool = False

    def __post_init__(self):
        self._samples = distributed.together(lambda: list(self.samples.decoded(2 * self.batch, self.on_bad)))
        self._made: dict[str, list[Tensor]] = {}
        tell_notes(self.report)
        if not sum(distributed.collected(len(self._samples))):
            count = len(self.samples.paths)
            raise InputError(f"none of {count} images to choose the best by can be read; give other images.")

    def remember(self, role: str, network: nn.Module) -> None:
        """Compute a network's images once, and supply them with the inputs from now on. Raises NumericalError."""
        made = Outputs()
        sweep(self.inputs(), {role: network}, Gathered({(role, "outputs"): made}), self.device)
        self._made[role] = made.images

    def inputs(self) -> Iterator[Batch]:
        for number, start in enumerate(range(0, len(self._samples), self.batch)):
            batch = self._with_real(self.samples.collate(self._samples[start : start + self.batch], self.device))
            others = {role: images for role, images in batch.others.items() if role != "target" or self.targets}
            made = {role: images[number].to(self.device) for role, images in self._made.items()}
            yield replace(batch, others=others | made)

    def check(self, count: int, *, real: bool = False) -> None:
        """Nothing to check: all images were read before."""

    def on_bad(self, error: ImageError) -> None:
        self.report({"event": "skipped", "path": str(error.path), "reason": error.reason})

    def _told(self, stage: str, total: int, read: Iterator[Batch]) -> Iterator[Batch]:
        return read
