"""The DCGAN discriminator (Radford et al., ICLR 2016)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import nn

from vemcompress.networks.base import ImageInput, LatentInput
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig, Stage


class DCGANDiscriminatorConfig(DiscriminatorConfig):
    """DCGAN's discriminator. `layers`: convolutions of stride 2, with n, 2n, 4n, ... channels. `kernel`: size of the
    last convolution, which gives one score for each such square of the last map: one score for images of kernel *
    2^layers px. `edge_bias`: whether the first and the last convolution have a bias; the others have BatchNorm.
    """

    norms: ClassVar = False
    follows: ClassVar = frozenset({"norm", "layers"})

    family: Literal["dcgan"] = "dcgan"
    layers: int = Field(4, ge=1, le=8)
    kernel: int = Field(4, ge=1, le=8)
    edge_bias: bool = False

    @property
    def min_size(self) -> int:
        return self.kernel * 2**self.layers

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels between the convolutions: of the input, n, 2n, ..., and 1 for the scores."""
        return (self.in_channels, *(self.width * 2**i for i in range(self.layers)), 1)

    def left_open(self) -> set[str]:
        return super().left_open() | ({"layers"} - self.model_fields_set)

    def for_images(self, takes: ImageInput | LatentInput) -> Self:
        if "layers" in self.model_fields_set or takes.kind != "latent":
            return self
        return self.but(layers=max(1, (takes.image // self.kernel).bit_length() - 1))

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        for i, (inputs, outputs) in enumerate(pairwise(self.channels)):
            if i < self.layers:
                height, width = height // 2, width // 2
                yield conv(inputs, outputs, 4, height * width, bias=i == 0 and self.edge_bias)
                yield norm("batch" if i else "none", outputs, height * width)
            else:
                pixels = max(0, height - self.kernel + 1) * max(0, width - self.kernel + 1)
                yield conv(inputs, outputs, self.kernel, pixels, bias=self.edge_bias)


class DCGANDiscriminator(Discriminator):
    """4x4 convolutions with padding 1, BatchNorm and LeakyReLU 0.2; the last one without padding. Taps: `layer1`,
    ... after LeakyReLU.
    """

    config_class = DCGANDiscriminatorConfig

    def __init__(self, config: DCGANDiscriminatorConfig):
        super().__init__(config)
        stages = []
        for i, (inputs, outputs) in enumerate(pairwise(config.channels)):
            last, edge = i == config.layers, i in (0, config.layers)
            shape = (config.kernel, 1, 0) if last else (4, 2, 1)
            layer = nn.Conv2d(inputs, outputs, *shape, bias=edge and config.edge_bias)
            stages.append(Stage(layer, None if edge else nn.BatchNorm2d(outputs), last=last))
        self.stages = nn.ModuleList(stages)
