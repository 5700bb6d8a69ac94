"""Channels drawn at random: what every criterion has to beat."""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.system.settings import Seed


class Random(Pruner):
    """Uniform scores; equal seeds give equal channels. All groups are narrowed alike unless `by` is "threshold"."""

    class Settings(Pruner.Settings):
        name: Literal["random"] = "random"
        seed: Seed = 0

    def scores(self, network: Generator) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(self.settings.seed)
        return {group.name: torch.rand(group.size, generator=draw) for group in network.groups()}
