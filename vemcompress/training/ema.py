"""Exponential moving average (EMA) of a network's weights, which often generates better images than the last
weights.
"""

from copy import deepcopy

import torch
from torch import nn


class Average(nn.Module):
    """A frozen copy in evaluation mode whose parameters follow those of `network`: p <- decay p + (1 - decay) q.

    Call `follow` after each update of the network (`Update.after`). Buffers, such as running statistics, are copied. A
    checkpoint needs both: the average as the artifact, and the trained network as a companion.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        self.decay, self.average = decay, deepcopy(network).eval().requires_grad_(False)
        self._network = [network]  # in a list, so that it is not a submodule of the average

    def train(self, mode: bool = True) -> "Average":
        """Does nothing: the average stays in evaluation mode."""
        return self

    @torch.no_grad()
    def follow(self) -> None:
        network = self._network[0]
        mine, others = list(self.average.parameters()), list(network.parameters())
        torch._foreach_lerp_(mine, others, 1 - self.decay)
        for buffer, other in zip(self.average.buffers(), network.buffers(), strict=True):
            buffer.copy_(other)
