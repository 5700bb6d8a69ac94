"""CAGC's criterion: how much a channel matters for the content of images (Liu et al., CVPR 2021)."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vemcompress.evaluation.masks import MaskSettings, open_masks
from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.sensitivity import DrawnSettings, Sensitivity


class Content(Pruner):
    """Replaces some pixels in the content of generated images by salt-and-pepper noise, -1 or 1 in all colours. The
    loss is the sum of |noisy - image|; its gradient goes through the image alone. The score is the absolute
    gradient, summed over `samples` images, `batch` at a time. Images have new noise in each layer. Images of a
    folder of masks are an exception: they have their stored noise, and only they are used.
    """

    files: ClassVar = ("masks",)

    class Settings(Pruner.Settings, DrawnSettings, MaskSettings):
        """`probability`: probability that a pixel is replaced."""

        name: Literal["content"] = "content"
        probability: float = Field(0.05, gt=0, le=1)

    def scores(self, network: Generator) -> dict[str, Tensor]:
        found = Sensitivity(network, self.settings.name, self.settings.seed, self.device)
        scores = found.zeros()
        for images, masks in self._drawn(found) if found.judges else ():
            loss = noise_loss(images, self.settings.probability, found.random, masks)
            for name, sizes in found.of(loss).items():
                scores[name] += sizes
        return scores

    def _drawn(self, found: Sensitivity) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches of images, with masks unless everything is content."""
        masks = open_masks(self.settings, found.network, self.device)
        if masks is not None and masks.vectors is not None:
            settings = self.settings.but(samples=min(self.settings.samples, len(masks.vectors)))
            for start in range(0, settings.samples, settings.batch):
                chosen = slice(start, min(settings.samples, start + settings.batch))
                yield found.network(masks.vectors[chosen].to(self.device)), masks.known[chosen].to(self.device)
                self.told(chosen.stop, settings.samples)
            return
        for z in found.batches(self.settings, self.told):
            images = found.images(z)
            yield images, None if masks is None else masks(images.detach())


def noise_loss(images: Tensor, probability: float, random: torch.Generator, masks: Tensor | None = None) -> Tensor:
    """The sum of |noisy - image| over N x C x H x W in [-1, 1], a scalar. Only replaced pixels contribute, and only
    those inside the `masks`, N x 1 x H x W.
    """
    shape = len(images), 1, *images.shape[2:]
    pattern = (torch.randint(0, 2, shape, generator=random) * 2.0 - 1.0).to(images)
    replaced = (torch.rand(shape, generator=random) < probability).to(images)
    return ((pattern - images).abs() * (replaced if masks is None else replaced * masks)).sum()
