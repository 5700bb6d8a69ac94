"""OMGD's deep mobile teacher: the student's mobile ResNet with widening residual blocks and more dense convolutions."""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from vemcompress.networks.base import norm_layer
from vemcompress.networks.bottleneck import Bottleneck, bottleneck_costs
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.resnet import MobileResNet, MobileResNetConfig

MIDDLE = 2  # bottlenecks in the middle of the mobile blocks


class DeepMobileResNetConfig(MobileResNetConfig):
    """As `MobileResNetConfig`, with the student's widths; `blocks` are the mobile blocks, the bottlenecks not among
    them."""

    family: Literal["deep_mobile_resnet"] = "deep_mobile_resnet"

    def layers(self, height: int, width: int) -> Iterator[Cost]:
        yield from super().layers(height, width)
        _, down1, trunk, up1, up2 = self.widths
        half = -(-height // 2), -(-width // 2)
        quarter = -(-half[0] // 2), -(-half[1] // 2)
        twice, whole = (tuple(factor * side for side in quarter) for factor in (2, 4))
        for _ in range(MIDDLE):
            yield from bottleneck_costs(trunk, self.norm, *quarter)
        for channels, size in ((down1, half), (trunk, quarter), (up1, twice), (up2, whole)):
            yield from bottleneck_costs(channels, self.norm, *size)
            yield conv(channels, channels, 3, size[0] * size[1], bias=self.norm != "batch")
            yield norm(self.norm, channels, size[0] * size[1])


class DeepMobileResNet(MobileResNet):
    """`MobileResNet` with a `Bottleneck` and a dense 3x3 convolution (norm, ReLU) after every step down and up, and
    two bottlenecks after the first half of the mobile blocks (4 of 9).

    Taps as `ResNet`, all after the stage's last ReLU; `block1`, ... count the bottlenecks of the middle, 11 in all.
    """

    family = "deep_mobile_resnet"

    def __init__(self, config: DeepMobileResNetConfig):
        super().__init__(config)
        _, down1, trunk, up1, up2 = config.widths
        for name, channels in (("down1", down1), ("down2", trunk), ("up1", up1), ("up2", up2)):
            first, normalise = getattr(self, name), getattr(self, f"{name}_norm")
            dense = nn.Conv2d(channels, channels, 3, padding=1, bias=config.norm != "batch")
            setattr(self, name, nn.Sequential(first, normalise, nn.ReLU(), Bottleneck(channels, config.norm), dense))
            setattr(self, f"{name}_norm", norm_layer(config.norm, channels))
        middle = len(config.blocks) // 2
        bottlenecks = (Bottleneck(trunk, config.norm) for _ in range(MIDDLE))
        self.blocks = nn.ModuleList((*self.blocks[:middle], *bottlenecks, *self.blocks[middle:]))
