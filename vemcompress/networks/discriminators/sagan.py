"""The SAGAN discriminator (Zhang et al., ICML 2019) in GCC's form."""

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.attention import SelfAttention, attended_taps, attention_costs, forward_attended
from vemcompress.networks.base import ImageInput, LatentInput, Taps
from vemcompress.networks.cost import Cost, conv
from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig
from vemcompress.networks.discriminators.gates import Gate
from vemcompress.networks.spectral import SpectralConv2d

ATTENDED = 2  # the last layers have attention


class SAGANDiscriminatorConfig(DiscriminatorConfig):
    """SAGAN's discriminator. `layers`: convolutions of stride 2, with n, 2n, 4n, ... channels; a last one gives a
    score for each 4 x 4 of the last map: one score for images of 4 * 2^layers px.
    """

    norms: ClassVar = False
    follows: ClassVar = frozenset({"norm", "layers"})

    family: Literal["sagan"] = "sagan"
    layers: int = Field(4, ge=ATTENDED, le=8)

    @property
    def min_size(self) -> int:
        return 4 * 2**self.layers

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * 2**i for i in range(self.layers))

    def left_open(self) -> set[str]:
        return super().left_open() | ({"layers"} - self.model_fields_set)

    def for_images(self, takes: ImageInput | LatentInput) -> Self:
        if "layers" in self.model_fields_set or takes.kind != "latent":
            return self
        return self.but(layers=max(2, (takes.image // 4).bit_length() - 1))

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        inputs = self.in_channels
        for i, outputs in enumerate(self.widths):
            height, width = height // 2, width // 2
            yield conv(inputs, outputs, 4, height * width)
            if i >= self.layers - ATTENDED:
                yield from attention_costs(outputs, max(1, outputs // 8), height * width)
            inputs = outputs
        yield conv(inputs, 1, 4, max(0, height - 3) * max(0, width - 3))


class SAGANDiscriminator(Discriminator):
    """4x4 convolutions with spectral norm and LeakyReLU 0.1, self-attention after the last two, and a plain 4x4
    convolution to the score. Taps: `l1`, ... before the attention, `attn1` and `attn2` after it.
    """

    config_class = SAGANDiscriminatorConfig

    def __init__(self, config: SAGANDiscriminatorConfig):
        super().__init__(config)
        inputs, keys = (config.in_channels, *config.widths), [max(1, width // 8) for width in config.widths]
        self.convs = nn.ModuleList(SpectralConv2d(inputs[i], width, 4, 2, 1) for i, width in enumerate(config.widths))
        self.gates = nn.ModuleList(nn.Identity() for _ in self.convs)
        pairs = list(zip(config.widths, keys, strict=True))[-ATTENDED:]
        self.attentions = nn.ModuleList(SelfAttention(width, key) for width, key in pairs)
        self.head = nn.Conv2d(config.widths[-1], 1, 4)

    @property
    def taps(self) -> tuple[str, ...]:
        return attended_taps(len(self.convs), ATTENDED)

    @property
    def places(self) -> tuple[str, ...]:
        return "l2", "attn2"

    def select(self, threshold: float) -> None:
        """Add gates between convolution and LeakyReLU."""
        self.gates = nn.ModuleList(Gate(conv.out_channels, threshold) for conv in self.convs)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        pairs = zip(self.convs, self.gates, strict=True)
        layers = [lambda h, conv=conv, gate=gate: F.leaky_relu(gate(conv(h)), 0.1) for conv, gate in pairs]
        h, taps = forward_attended(x, layers, self.attentions, names)
        return self.head(h), taps
