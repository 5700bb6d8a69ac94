"""CAGC's criterion: how much a channel matters for the content of images (Liu et al., CVPR 2021)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.sensitivity import Sensitivity
from vemcompress.system.settings import Seed


class Content(Pruner):
    """Salt and pepper, -1 or 1 in all colours, takes the place of some pixels of drawn images; the loss is the sum of
    |noisy - image|, whose gradient goes through the image alone. Its gradients' sizes are summed over `samples` images,
    `batch` at a time. Without a mask of the content all pixels are content.
    """

    class Settings(Pruner.Settings):
        """`probability` is that of a pixel to be replaced."""

        name: Literal["content"] = "content"
        samples: int = Field(400, ge=1, le=1_000_000)
        batch: int = Field(10, ge=1, le=4096)
        probability: float = Field(0.05, gt=0, le=1)
        seed: Seed = 0

    def scores(self, network: Generator) -> dict[str, Tensor]:
        settings = self.settings
        found = Sensitivity(network, settings.name, settings.seed)
        scores = found.zeros()
        for start in range(0, settings.samples if found.judges else 0, settings.batch):
            images = found.images(found.latents(min(settings.batch, settings.samples - start)))
            for name, sizes in found.of(noise_loss(images, settings.probability, found.random)).items():
                scores[name] += sizes
        return scores


def noise_loss(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """The sum of |noisy - image| over N x C x H x W in [-1, 1]; pixels that stay as they are have no part in it."""
    shape = len(images), 1, *images.shape[2:]
    pattern = torch.randint(0, 2, shape, generator=random) * 2.0 - 1.0
    replaced = torch.rand(shape, generator=random) < probability
    return ((pattern - images).abs() * replaced).sum()
