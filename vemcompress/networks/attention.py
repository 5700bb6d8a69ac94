"""Self-attention over the places of a feature map (SAGAN, Zhang et al., ICML 2019)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.cost import Cost, conv


class SelfAttention(nn.Module):
    """x + gamma v softmax(q^T k)^T of B x C x H x W, without the usual 1 / sqrt; gamma begins at 0.

    q and k have `keys` channels (C // 8 as published), v has C; all are 1x1 convolutions with biases.
    """

    def __init__(self, channels: int, keys: int):
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, keys, 1), nn.Conv2d(channels, keys, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        shares = F.softmax(q.mT @ k, dim=-1)
        return x + self.gamma * (v @ shares.mT).view_as(x)


def attention_costs(channels: int, keys: int, pixels: int) -> Iterator[Cost]:
    """The layers of a SelfAttention and its two products."""
    yield conv(channels, keys, 1, pixels)
    yield conv(channels, keys, 1, pixels)
    yield conv(channels, channels, 1, pixels)
    products = pixels * pixels * (keys + channels)
    yield Cost(products, products, 0, 1)
