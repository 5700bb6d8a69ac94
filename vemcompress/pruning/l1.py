"""GAN-Compression's criterion: the L1 norm of the weights that make a channel (Li et al., CVPR 2020)."""

from typing import Literal

from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner


class L1(Pruner):
    """Of a channel that several convolutions make, as those on a residual trunk, the norms are added up.

    The paper ranks channels within a layer, so the default is "ratio".
    """

    class Settings(Pruner.Settings):
        name: Literal["l1"] = "l1"

    def scores(self, network: Generator) -> dict[str, Tensor]:
        tensors, found = network.state_dict(), {}
        for group in network.groups():
            score = None
            for slot in group.slots:
                if slot.role != "write" or slot.tensor not in tensors or not slot.tensor.endswith(".weight"):
                    continue
                weight = tensors[slot.tensor].movedim(slot.axis, 0)
                weight = weight[slot.start : slot.start + group.size * slot.each]
                norm = weight.float().abs().reshape(group.size, -1).sum(1)
                score = norm if score is None else score + norm
            if score is not None:
                found[group.name] = score
        return found
