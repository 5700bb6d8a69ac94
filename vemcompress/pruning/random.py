"""Random channels: the baseline for every pruning criterion."""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.system.settings import Seed


class Random(Pruner):
    """Uniform random scores; the same seed gives the same channels. All groups lose the same share unless `by` is
    "threshold".
    """

    class Settings(Pruner.Settings):
        """`seed`: seed of the random scores."""

        name: Literal["random"] = "random"
        seed: Seed = 0

    def scores(self, network: Generator) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(self.settings.seed)
        return {group.name: torch.rand(group.size, generator=draw) for group in network.groups()}
