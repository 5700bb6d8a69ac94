"""DCP-GAN's criterion: how much a channel's importance differs between latent directions (Chung et al., CVPR 2024)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.sensitivity import DrawnSettings, Sensitivity

MAPPED = 10_000  # number of w that the directions are computed from


class Diversity(Pruner):
    """The loss is the sum of |image(w) - image(w + step direction)|, for `samples` w, `batch` at a time. Directions are
    principal components of w, drawn with probabilities proportional to their variance. A channel's score is the sum,
    over batches and directions, of the squared difference between its sensitivity and the mean over the batch's
    directions.

    This follows the published code: both images carry gradients, and each has its own noise. The paper says that 1,000
    samples give the same ranking as 5,000.
    """

    class Settings(Pruner.Settings, DrawnSettings):
        """`samples`: how many w are drawn. `batch`: how many at a time. `directions`: latent directions per batch.
        `step`: length of the step along a direction."""

        name: Literal["diversity"] = "diversity"
        samples: int = Field(5000, ge=1, le=1_000_000)
        batch: int = Field(5, ge=1, le=4096)
        directions: int = Field(10, ge=2, le=512)
        step: float = Field(5.0, gt=0, le=1000)

    def scores(self, network: Generator) -> dict[str, Tensor]:
        settings = self.settings
        if not network.styled:
            raise UsageError(
                f"method diversity: needs the w of a StyleGAN2, and a {network.family} has no w; use content."
            )
        found = Sensitivity(network, settings.name, settings.seed, self.device)
        scores = found.zeros()
        if not found.judges:
            return scores
        with torch.no_grad():
            components, shares = principal(found.network.styles(found.latents(MAPPED)).cpu())
        components = components.to(self.device)
        for z in found.batches(settings, self.told):
            w = found.network.styles(z).detach()
            drawn = torch.multinomial(shares, settings.directions, replacement=True, generator=found.random)
            sizes = [self._along(found, w, components[:, n]) for n in drawn.tolist()]
            for name in scores:
                of_each = torch.stack([size[name] for size in sizes])
                scores[name] += (of_each - of_each.mean(0)).square().sum(0)
        return scores

    def _along(self, found: Sensitivity, w: Tensor, direction: Tensor) -> dict[str, Tensor]:
        moved = w + self.settings.step * direction
        return found.of((found.of_styles(moved) - found.of_styles(w)).abs().sum())


def principal(w: Tensor) -> tuple[Tensor, Tensor]:
    """The principal components of N x D as unit columns, D x D, and the share of the variance along each, D."""
    centred = (w - w.mean(0)).double()
    variances, components = torch.linalg.eigh(centred.T @ centred)
    variances = variances.clamp(min=0)
    return components.to(w.dtype), variances / variances.sum()
