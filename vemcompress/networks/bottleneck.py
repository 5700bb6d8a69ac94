"""The widening residual block that makes OMGD's deep teachers deep (Ren et al., ICCV 2021)."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.base import Norm, norm_layer
from vemcompress.networks.cost import Cost, conv
from vemcompress.networks.cost import norm as norm_cost

EXPANSION = 4


class Bottleneck(nn.Module):
    """x + f(x) on n channels: 1x1 to 4n, 3x3, 1x1 back to n, 3x3, each with its norm, ReLU between.

    As published, the reflection padding of the first 3x3 is put before the 1x1, so the norm between them has the
    padded border in its statistics.
    """

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        inner, bias = EXPANSION * channels, norm != "batch"
        self.convs = nn.ModuleList(
            (
                nn.Conv2d(channels, inner, 1, padding=1, padding_mode="reflect", bias=bias),
                nn.Conv2d(inner, inner, 3, bias=bias),
                nn.Conv2d(inner, channels, 1, bias=bias),
                nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias),
            )
        )
        self.norms = nn.ModuleList(norm_layer(norm, layer.out_channels) for layer in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, (layer, normalise) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = normalise(layer(h))
            if i < 3:
                h = F.relu(h)
        return x + h


def bottleneck_costs(channels: int, norm: Norm, height: int, width: int) -> Iterator[Cost]:
    """The cost of every layer of a `Bottleneck` on maps of this size."""
    inner, bias = EXPANSION * channels, norm != "batch"
    pixels, padded = height * width, (height + 2) * (width + 2)
    shapes = ((channels, inner, 1, padded), (inner, inner, 3, pixels), (inner, channels, 1, pixels))
    for inputs, outputs, kernel, where in (*shapes, (channels, channels, 3, pixels)):
        yield conv(inputs, outputs, kernel, where, bias=bias)
        yield norm_cost(norm, outputs, where)
