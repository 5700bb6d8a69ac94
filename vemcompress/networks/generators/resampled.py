"""CycleGAN's ResNet generator with other down- and upsampling, as in CUT and two common implementations."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.resnet import ResNet, ResNetConfig


class ResampledResNetConfig(ResNetConfig):
    """As `ResNetConfig`, with other resampling layers.

    `downsample`: "strided" is a strided convolution as in CycleGAN, "reflect" is one with reflection padding, and
    "blur" is a plain one followed by a blur of [1, 2, 1] with stride 2 (Zhang, ICML 2019; CUT, Park et al., ECCV 2020).
    `upsample`: "transposed" is a transposed convolution as in CycleGAN; "nearest" and "bilinear" enlarge the maps
    before a plain convolution. CUT's blurred upsampling is "bilinear".
    """

    family: Literal["resampled_resnet"] = "resampled_resnet"
    downsample: Literal["strided", "reflect", "blur"] = "strided"
    upsample: Literal["transposed", "nearest", "bilinear"] = "transposed"

    def _step(self, inputs: int, outputs: int, height: int, width: int, up: bool = False) -> Iterator[Cost]:
        """Blurs and enlargements count as zero, like padding."""
        pixels = height * width
        if up and self.upsample != "transposed":
            yield conv(inputs, outputs, 3, pixels, bias=self.biased)
            yield norm(self.norm, outputs, pixels)
        elif not up and self.downsample == "blur":
            yield conv(inputs, outputs, 3, 4 * pixels, bias=self.biased)
            yield norm(self.norm, outputs, 4 * pixels)
        else:
            yield from super()._step(inputs, outputs, height, width, up)


class EnlargedConv(nn.Conv2d):
    """A 3x3 convolution of the map enlarged by 2."""

    def __init__(self, inputs: int, outputs: int, mode: str, bias: bool, padding_mode: str = "zeros"):
        super().__init__(inputs, outputs, 3, padding=1, bias=bias, padding_mode=padding_mode)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode=self.mode))


class ResampledResNet(ResNet):
    """`ResNet` with the Config's resampling layers; the same taps and channel groups."""

    config_class: ClassVar = ResampledResNetConfig

    def _down(self, inputs: int, outputs: int) -> nn.Module:
        kind, bias = self.config.downsample, self.config.biased
        mode = self.config.padding_mode if kind == "reflect" else "zeros"
        return nn.Conv2d(inputs, outputs, 3, 1 if kind == "blur" else 2, 1, padding_mode=mode, bias=bias)

    def _up(self, inputs: int, outputs: int) -> nn.Module:
        if not self.transposed:
            return EnlargedConv(inputs, outputs, self.config.upsample, self.config.biased)
        return super()._up(inputs, outputs)

    @property
    def transposed(self) -> bool:
        return self.config.upsample == "transposed"

    def _shrunk(self, h: Tensor) -> Tensor:
        if self.config.downsample != "blur":
            return h
        h = F.avg_pool2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), 2, 1)  # [1, 1] twice is [1, 2, 1]
        return F.avg_pool2d(h, 2)
