"""CAGC's l1-style: the size of the mean style by which a StyleGAN2 multiplies a channel (Liu et al., CVPR 2021)."""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.sensitivity import DrawnSettings, Sensitivity


class L1Style(Pruner):
    """The absolute mean, over `samples` images, of a channel's style in the next convolution; for the last channels,
    in the last layer to RGB.
    """

    class Settings(Pruner.Settings, DrawnSettings):
        name: Literal["l1_style"] = "l1_style"

    @torch.no_grad()
    def scores(self, network: Generator) -> dict[str, Tensor]:
        if not network.styled:
            raise UsageError(
                f"method l1_style: needs the styles of a StyleGAN2, and a {network.family} has none; use l1."
            )
        found = Sensitivity(network, self.settings.name, self.settings.seed, self.device)
        scores = found.zeros()
        for z in found.batches(self.settings, self.told):
            w = found.network.styles(z)
            for name, (_, slot) in found.groups.items():
                scores[name] += found.network.get_submodule(slot.module).modulation(w).sum(0).cpu()
        return {name: total.abs() / self.settings.samples for name, total in scores.items()}
