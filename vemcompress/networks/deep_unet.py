"""OMGD's deep U-Net teacher: the student's U-Net with two residual blocks after each step down and each step up."""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.base import Taps
from vemcompress.networks.bottleneck import Bottleneck, bottleneck_costs
from vemcompress.networks.cost import Cost
from vemcompress.networks.unet import UNet, UNetConfig

BLOCKS = 2


class DeepUNetConfig(UNetConfig):
    """As `UNetConfig`, with the widths of the student that the teacher stands beside: `width = 16`."""

    family: Literal["deep_unet"] = "deep_unet"

    def up_block(self, level: int) -> int:
        """Channels of the blocks on a level's way up: before the outermost transposed convolution, else after it."""
        return self.up[level - 1] if level else self.deconv_inputs(0)

    def layers(self, height: int, width: int) -> Iterator[Cost]:
        yield from super().layers(height, width)
        for level in range(len(self.down) - 1):
            below = height // 2, width // 2
            for _ in range(BLOCKS):
                yield from bottleneck_costs(self.down[level], self.norm, *below)
                yield from bottleneck_costs(self.up_block(level), self.norm, *((height, width) if level else below))
            height, width = below


class DeepUNet(UNet):
    """`UNet` with two `Bottleneck` blocks on either side of every level but the innermost.

    They follow the down convolution and its norm, so that a skip carries their activated output, and the transposed
    convolution and its norm. The outermost blocks on the way up come before ReLU and transposed convolution, on the
    concatenation of skip and way up. Taps as `UNet`.
    """

    family = "deep_unet"

    def __init__(self, config: DeepUNetConfig):
        super().__init__(config)

        def blocks(channels: int) -> nn.Module:
            return nn.Sequential(*(Bottleneck(channels, config.norm) for _ in range(BLOCKS)))

        levels = range(len(config.down) - 1)
        self.down_blocks = nn.ModuleList(blocks(config.down[level]) for level in levels)
        self.up_blocks = nn.ModuleList(blocks(config.up_block(level)) for level in levels)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps, skips, h, last = {}, [], x, len(self.downs) - 1
        for level, (down, normalise) in enumerate(zip(self.downs, self.down_norms, strict=True)):
            h = normalise(down(h))
            h = F.leaky_relu(self.down_blocks[level](h), 0.2) if level < last else F.relu(h)
            skips.append(h)
            if f"down{level + 1}" in names:
                taps[f"down{level + 1}"] = h
        for level in reversed(range(last + 1)):
            if level < last:
                h = torch.cat((skips[level], h), dim=1)
                h = F.relu(h if level else self.up_blocks[0](h))
            if f"up{level + 1}" in names:
                taps[f"up{level + 1}"] = h
            h = self.up_norms[level](self.ups[level](h))
            if 0 < level < last:
                h = self.up_blocks[level](h)
        return h.tanh(), taps
