"""Removes channels that training has set to zero, by DMAD's masks (Li et al., 2020) or GAN-Slimming's scales (Wang
et al., ECCV 2020).
"""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.networks.groups import makers
from vemcompress.pruning.base import Pruner


class Zeros(Pruner):
    """A channel stays if at least one of the layers that produce it is not zero there. The scale of the layer's norm
    counts, or the layer's own weights if the norm has none. So a residual trunk keeps what any block writes.

    Both methods are published this way. The shift of a norm whose scale is zero is removed too, although a positive
    shift still has an effect. A group keeps at least its first channel.
    """

    class Settings(Pruner.Settings):
        name: Literal["zeros"] = "zeros"

    decides = True

    def scores(self, network: Generator) -> dict[str, Tensor]:
        """The sum of the absolute values, which is 0 for a removed channel."""
        tensors, found = network.state_dict(), {}
        for group in network.groups():
            sizes = []
            for layer, norm in makers(network, group):
                slot = norm if norm is not None and norm.tensor in tensors else layer
                weight = tensors[slot.tensor].float().abs().movedim(slot.axis, 0)
                weight = weight[slot.start : slot.start + group.size * slot.each]
                sizes.append(weight.reshape(group.size, -1).sum(1))
            if sizes:
                found[group.name] = sum(sizes)
        return found

    def kept(self, network: Generator) -> dict[str, Tensor]:
        found = {}
        for name, scores in self.scores(network).items():
            left = scores.detach().cpu().nonzero().flatten()
            found[name] = left if len(left) else torch.zeros(1, dtype=torch.int64)
        return found
