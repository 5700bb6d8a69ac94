"""GAN-Compression's criterion: the L1 norm of the weights that produce a channel (Li et al., CVPR 2020). CAGC calls
it l1-in.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from vemcompress.networks.base import Generator
from vemcompress.networks.groups import narrowed
from vemcompress.networks.slots import Group
from vemcompress.pruning.base import Pruner


class L1(Pruner):
    """If several convolutions produce a channel, as on a residual trunk, their norms are added.

    The paper ranks channels within a layer, so the default is "ratio".
    """

    class Settings(Pruner.Settings):
        name: Literal["l1"] = "l1"

    def scores(self, network: Generator) -> dict[str, Tensor]:
        tensors, found = network.state_dict(), {}
        for group in network.groups():
            norms = norms_of(group, tensors)
            if norms:
                found[group.name] = sum(norms)
        return found

    def selected(self, network: Generator, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """The channels that a student of these widths, by group, copies from its teacher, as published.

        Layer after layer, the channels with the largest norms are chosen, counting only weights that read chosen
        channels. The largest come first, so that a supernet's narrow sub-networks have them. The first layer that
        produces a trunk's channels decides for the trunk.
        """
        groups, taken = network.groups(), {}
        for group in groups:
            norms = norms_of(group, narrowed(network.state_dict(), groups, taken))
            if norms and group.name in widths:
                taken[group.name] = norms[0].sort(descending=True, stable=True).indices[: widths[group.name]]
        return taken


def norms_of(group: Group, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The L1 norms of a group's channels in each layer that produces them."""
    found = []
    for slot in group.slots:
        if slot.role == "write" and slot.tensor in tensors and slot.tensor.endswith(".weight"):
            weight = tensors[slot.tensor].movedim(slot.axis, 0)
            weight = weight[slot.start : slot.start + group.size * slot.each]
            found.append(weight.float().abs().reshape(group.size, -1).sum(1))
    return found
