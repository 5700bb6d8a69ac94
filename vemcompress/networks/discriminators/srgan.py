"""SRGAN's discriminator (Ledig et al., CVPR 2017), for images of any size as in leftthomas/SRGAN."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.base import Taps
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig, Stage, judge

_TIMES = (1, 1, 2, 2, 4, 4, 8, 8)  # multiples of the width; every second convolution has stride 2
_HIDDEN = 16


class SRGANDiscriminatorConfig(DiscriminatorConfig):
    """SRGAN's discriminator: widths n, n, 2n, 2n, 4n, 4n, 8n, 8n, and 16n after the mean over pixels; BatchNorm in
    all but the first.
    """

    norms: ClassVar = False

    family: Literal["srgan"] = "srgan"

    @property
    def min_size(self) -> int:
        return 16

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        inputs = self.in_channels
        for i, times in enumerate(_TIMES):
            if i % 2:
                height, width = -(-height // 2), -(-width // 2)
            yield conv(inputs, times * self.width, 3, height * width)
            yield norm("batch" if i else "none", times * self.width, height * width)
            inputs = times * self.width
        yield conv(inputs, _HIDDEN * self.width, 1, 1)
        yield conv(_HIDDEN * self.width, 1, 1, 1)


class SRGANDiscriminator(Discriminator):
    """3x3 convolutions with LeakyReLU 0.2, of alternating stride 1 and 2; then the mean over pixels, and two 1x1
    convolutions: one score per image.
    """

    config_class = SRGANDiscriminatorConfig

    def __init__(self, config: SRGANDiscriminatorConfig):
        super().__init__(config)
        widths = [config.in_channels, *(times * config.width for times in _TIMES)]
        stages = []
        for i, outputs in enumerate(widths[1:]):
            layer = nn.Conv2d(widths[i], outputs, 3, stride=1 + i % 2, padding=1)
            stages.append(Stage(layer, nn.BatchNorm2d(outputs) if i else None))
        hidden = _HIDDEN * config.width
        stages += [Stage(nn.Conv2d(widths[-1], hidden, 1), None), Stage(nn.Conv2d(hidden, 1, 1), None, last=True)]
        self.stages = nn.ModuleList(stages)

    @property
    def taps(self) -> tuple[str, ...]:
        """Only the taps that are maps."""
        return tuple(f"layer{i + 1}" for i in range(len(_TIMES)))

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        maps, taps = judge(self.stages[: len(_TIMES)], x, names)
        return judge(self.stages[len(_TIMES) :], F.adaptive_avg_pool2d(maps, 1), ())[0], taps
