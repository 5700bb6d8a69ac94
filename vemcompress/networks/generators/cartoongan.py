"""The CartoonGAN generator (Chen et al., CVPR 2018) in its published PyTorch layout."""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from vemcompress.networks.base import Generator, Norm
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.generators.resnet import Block, ResNet, ResNetConfig
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Slot, passes, reads, writes

EPS = 1e-9  # published: population variance with this eps


class CartoonGANConfig(ResNetConfig):
    """As `ResNetConfig`; each down and up stage has a second 3x3 convolution; norms are affine instance norms."""

    family: Literal["cartoongan"] = "cartoongan"
    norm: Norm = "instance_affine"

    def layers(self, height: int, width: int) -> Iterator[Cost]:
        stem, down1, trunk, up1, up2 = self.widths
        half = -(-height // 2), -(-width // 2)
        quarter = -(-half[0] // 2), -(-half[1] // 2)
        full, half, quarter = height * width, half[0] * half[1], quarter[0] * quarter[1]
        yield conv(self.in_channels, stem, 7, full)
        yield norm(self.norm, stem, full)
        for inputs, outputs, pixels in ((stem, down1, half), (down1, trunk, quarter)):
            yield conv(inputs, outputs, 3, pixels)
            yield conv(outputs, outputs, 3, pixels)
            yield norm(self.norm, outputs, pixels)
        for inner in self.blocks:
            yield from self._block(trunk, inner, quarter)
        for inputs, outputs, pixels in ((trunk, up1, quarter), (up1, up2, 4 * quarter)):
            yield conv_transposed(inputs, outputs, 3, pixels)
            yield conv(outputs, outputs, 3, 4 * pixels)
            yield norm(self.norm, outputs, 4 * pixels)
        yield conv(up2, self.out_channels, 7, 16 * quarter)


class CartoonGAN(ResNet):
    """A ResNet generator with doubled down and up stages. Taps as `ResNet`: `down1`, `down2`, `block1`.., `up1`, `up2`.

    The published network works in BGR; loading reverses the channels of its first and last convolution, so that this
    one takes and returns RGB.
    """

    config_class = CartoonGANConfig

    def __init__(self, config: CartoonGANConfig):
        Generator.__init__(self, config)  # other layers than ResNet's, the same forward
        stem, down1, trunk, up1, up2 = config.widths

        def normalise(channels: int) -> nn.Module:
            return InstanceNorm2d(channels, eps=EPS, affine=True)

        def residual(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

        def up(inputs: int, outputs: int) -> nn.Module:
            return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

        self.stem = nn.Conv2d(config.in_channels, stem, 7, padding=3, padding_mode="reflect")
        self.stem_norm = normalise(stem)
        self.down1 = nn.Sequential(nn.Conv2d(stem, down1, 3, 2, 1), nn.Conv2d(down1, down1, 3, 1, 1))
        self.down1_norm = normalise(down1)
        self.down2 = nn.Sequential(nn.Conv2d(down1, trunk, 3, 2, 1), nn.Conv2d(trunk, trunk, 3, 1, 1))
        self.down2_norm = normalise(trunk)
        self.blocks = nn.ModuleList(
            Block(residual(trunk, inner), normalise(inner), residual(inner, trunk), normalise(trunk))
            for inner in config.blocks
        )
        self.up1 = nn.Sequential(up(trunk, up1), nn.Conv2d(up1, up1, 3, 1, 1))
        self.up1_norm = normalise(up1)
        self.up2 = nn.Sequential(up(up1, up2), nn.Conv2d(up2, up2, 3, 1, 1))
        self.up2_norm = normalise(up2)
        self.head = nn.Conv2d(up2, config.out_channels, 7, padding=3, padding_mode="reflect")

    def _entry(self, stage: str) -> str:
        return f"{stage}.0"

    def _stage(self, name: str) -> tuple[Slot, ...]:
        """Both convolutions of a stage have one width, so the n-th channels of the two go together."""
        first = writes(f"{name}.0", transposed=name.startswith("up"))
        return (*first, *reads(f"{name}.1"), *writes(f"{name}.1"), *passes(f"{name}_norm"))
