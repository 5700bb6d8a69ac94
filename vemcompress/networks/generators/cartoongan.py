"""The CartoonGAN generator (Chen et al., CVPR 2018) in its published PyTorch layout."""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from vemcompress.networks.base import Norm
from vemcompress.networks.cost import Cost, conv
from vemcompress.networks.generators.resnet import ResNet, ResNetConfig
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Slot, passes, reads, writes

EPS = 1e-9  # as published, with the population variance


class CartoonGANConfig(ResNetConfig):
    """As `ResNetConfig`; each down and up stage has a second 3x3 convolution; norms are affine instance norms."""

    family: Literal["cartoongan"] = "cartoongan"
    norm: Norm = "instance_affine"

    @property
    def biased(self) -> bool:
        return True

    def _step(self, inputs: int, outputs: int, height: int, width: int, up: bool = False) -> Iterator[Cost]:
        yield from super()._step(inputs, outputs, height, width, up)
        yield conv(outputs, outputs, 3, height * width)


class CartoonGAN(ResNet):
    """A ResNet generator with a second convolution in each down and up stage; taps as in `ResNet`. The published
    network uses BGR; loading reverses the channels of its first and last convolution, so this one uses RGB.
    """

    config_class = CartoonGANConfig

    def _normalise(self, channels: int) -> nn.Module:
        return InstanceNorm2d(channels, eps=EPS, affine=True)

    def _down(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(super()._down(inputs, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1))

    def _up(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(super()._up(inputs, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1))

    def _entry(self, stage: str) -> str:
        return f"{stage}.0"

    def _stage(self, name: str) -> tuple[Slot, ...]:
        """Both convolutions of a stage have the same width, so their n-th channels belong together."""
        first = writes(f"{name}.0", transposed=name.startswith("up"))
        return (*first, *reads(f"{name}.1"), *writes(f"{name}.1"), *passes(f"{name}_norm"))
