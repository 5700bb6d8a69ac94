"""CAGC's l1-out: the L1 norm of the weights that read a channel (Liu et al., CVPR 2021). Its l1-in is `l1`."""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.sensitivity import DrawnSettings, Sensitivity, by_channel, readers


class L1Out(Pruner):
    """Uses the next convolution's weights; for the last channels of a StyleGAN2, those of the last layer to RGB. A
    StyleGAN2's kernels are modulated and demodulated; their mean over `samples` images is used.
    """

    class Settings(Pruner.Settings, DrawnSettings):
        name: Literal["l1_out"] = "l1_out"

    def scores(self, network: Generator) -> dict[str, Tensor]:
        groups = readers(network)
        kernels = {slot.tensor: network.get_parameter(slot.tensor).detach() for _, slot in groups.values()}
        if network.styled:
            kernels = self._modulated(network, kernels)
        return {
            name: by_channel(kernels[slot.tensor].float(), group, slot).abs().sum(1)
            for name, (group, slot) in groups.items()
        }

    @torch.no_grad()
    def _modulated(self, network: Generator, kernels: dict[str, Tensor]) -> dict[str, Tensor]:
        found = Sensitivity(network, self.settings.name, self.settings.seed, self.device)
        sums = {name: torch.zeros_like(kernel) for name, kernel in kernels.items()}
        for z in found.batches(self.settings, self.told):
            w = found.network.styles(z)
            for name in sums:
                layer = found.network.get_submodule(name.removesuffix(".weight"))
                sums[name] += layer.kernels(w).sum(0).cpu()
        return {name: total / self.settings.samples for name, total in sums.items()}
