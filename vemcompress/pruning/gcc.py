"""GCC's criterion: one threshold on the norms' scales, or on the weights' L1 norms if there are no scales (Li et al.,
NeurIPS 2021).

Its generators are trained with a penalty on these values before (`gan.sparsity`).
"""

from typing import Literal

from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.l1 import norms_of
from vemcompress.pruning.scale import Scale


class GCC(Pruner):
    """As published, scales are compared with their sign, so negative ones go first. If several convolutions produce
    a channel, as on a residual trunk, the mean of the weights' norms counts. Every layer keeps its best channel.
    """

    class Settings(Pruner.Settings):
        name: Literal["gcc"] = "gcc"
        by: Literal["threshold", "ratio"] = "threshold"

    def scores(self, network: Generator) -> dict[str, Tensor]:
        tensors = network.state_dict()
        if any(group.scale in tensors for group in network.groups()):
            return Scale(Scale.Settings(signed=True)).scores(network)
        norms = {group.name: norms_of(group, tensors) for group in network.groups()}
        return {name: sum(found) / len(found) for name, found in norms.items() if found}
