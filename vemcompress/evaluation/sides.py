"""What an evaluation gathers of one set of images while it passes by: features, sums of fidelity, classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vemcompress.evaluation import fidelity
from vemcompress.evaluation.checks import Checks
from vemcompress.evaluation.features import Extractor
from vemcompress.evaluation.miou import Miou
from vemcompress.evaluation.running import as_rgb
from vemcompress.evaluation.statistics import checked_features
from vemcompress.system import distributed

# Rows of features that may stay on the device: 32 MiB of the Inception's, for each side and extractor.
_ROWS = 4096

_FIDELITY = {"ssim": fidelity.ssim, "psnr": fidelity.psnr, "l1": fidelity.l1}


class Features:
    """Features of a growing set of images, by extractor."""

    def __init__(self, extractors: Sequence[Extractor], checks: Checks):
        self._extractors, self._checks, self.count = extractors, checks, 0
        self._rows: dict[str, list[Tensor]] = {e.name: [] for e in extractors}
        self._fresh: dict[str, list[Tensor]] = {e.name: [] for e in extractors}

    def add(self, images: Tensor) -> None:
        """Take in B x 3 x H x W uint8 images on the extractors' device, where a few thousand features wait: fetching
        those of every batch would stall it."""
        self.count += len(images)
        for extractor in self._extractors:
            fresh = self._fresh[extractor.name]
            fresh.append(checked_features(extractor, images, self._checks).float())
            if sum(map(len, fresh)) >= _ROWS:
                self._fetch(extractor.name)

    def merge(self) -> None:
        """Take in the other ranks' rows, each in its place in the images' order."""
        if distributed.ranks() > 1:
            for name in self._rows:
                self._fetch(name)
            counts, parts = zip(*distributed.collected((self.count, self._rows)), strict=True)
            self.count, self._rows = sum(counts), {n: [row for part in parts for row in part[n]] for n in self._rows}

    def matrix(self, name: str) -> Tensor:
        """N x D float32 on the CPU, in the images' order."""
        self._fetch(name)
        return torch.cat(self._rows[name])

    def _fetch(self, name: str) -> None:
        if self._fresh[name]:
            self._rows[name].append(torch.cat(self._fresh[name]).cpu())
            self._fresh[name].clear()


class Side:
    """What is gathered of one generator's images, or of the real ones: features, sums of fidelity, classes."""

    def __init__(
        self, extractors: Sequence[Extractor], checks: Checks, names: Sequence[str] = (), meter: Miou | None = None
    ):
        self.features, self.meter, self.extractors = Features(extractors, checks), meter, extractors
        self._sums: dict[str, float | Tensor] = dict.fromkeys(names, 0.0)

    def take(self, images: Tensor, truths: Sequence[Tensor]) -> None:
        """B x C x H x W, uint8."""
        if self.extractors:
            self.features.add(as_rgb(images))
        if self.meter is not None:
            self.meter.add(as_rgb(images), truths)

    def compare(self, made: Tensor, others: dict[str, Tensor]) -> None:
        """Fidelity to the `teacher` and the `target`, all of them in [0, 1]."""
        for name in self._sums:
            kind, against = name.split("_")
            self._sums[name] = self._sums[name] + _FIDELITY[kind](made, others[against]).sum()  # stays on the device

    def merge(self) -> None:
        """Take in what the other ranks have."""
        self.features.merge()
        if self.meter is not None:
            self.meter.merge()
        if distributed.ranks() > 1:
            self._sums = {name: distributed.total(float(value)) for name, value in self._sums.items()}

    def fidelity(self, images: int) -> dict[str, float]:
        """The means over so many images."""
        return {name: float(value) / images for name, value in self._sums.items()}
