"""The exponential moving average of a network's weights, which is often a better generator than its last ones."""

from copy import deepcopy

import torch
from torch import nn


class Average(nn.Module):
    """A frozen copy in evaluation mode whose parameters follow those of `network`: p <- decay p + (1 - decay) q.

    Call `follow` once the network has moved (`Update.after`). Buffers, such as running statistics, are taken over as
    they are. A checkpoint needs both: the average as the artifact, and the network that learns as a companion.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        self.decay, self.average = decay, deepcopy(network).eval().requires_grad_(False)
        self._network = [network]  # in a list: the network is no part of its average

    def train(self, mode: bool = True) -> "Average":
        """It never learns."""
        return self

    @torch.no_grad()
    def follow(self) -> None:
        network = self._network[0]
        mine, others = list(self.average.parameters()), list(network.parameters())
        torch._foreach_lerp_(mine, others, 1 - self.decay)
        for buffer, other in zip(self.average.buffers(), network.buffers(), strict=True):
            buffer.copy_(other)
