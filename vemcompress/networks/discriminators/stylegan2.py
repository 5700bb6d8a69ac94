"""The StyleGAN2 discriminator (Karras et al., CVPR 2020): residual blocks and the standard deviation within a batch."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.errors import UsageError
from vemcompress.networks.base import ImageInput, LatentInput, Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig
from vemcompress.networks.equalised import EqualConv2d, EqualLinear, activated
from vemcompress.system.settings import Channels

SIDES = tuple(2**i for i in range(3, 11))


class StyleGAN2DiscriminatorConfig(DiscriminatorConfig):
    """StyleGAN2's discriminator. `size`: the images' side in pixels. `width`: width of the layers with maps of this
    size; layers of half the size have twice as many channels. `most`: the largest width of a layer. `group`: images
    per group in which the standard deviation is computed.
    """

    norms: ClassVar = False
    follows: ClassVar = frozenset({"norm", "size"})

    family: Literal["stylegan2"] = "stylegan2"
    width: Channels = 128
    size: Literal[8, 16, 32, 64, 128, 256, 512, 1024] = 256
    most: Channels = 512
    group: int = Field(4, ge=1, le=64)

    @model_validator(mode="after")
    def _is_narrow(self):
        if self.width > self.most:
            raise ValueError("width is larger than most; give a smaller width")
        return self

    @property
    def min_size(self) -> int:
        return self.size

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths by the size of the maps, from the images' size to 4 px."""
        return tuple(min(self.most, self.width * 2**i) for i in range(self.size.bit_length() - 2))

    def for_images(self, takes: ImageInput | LatentInput) -> Self:
        if "size" in self.model_fields_set or takes.kind != "latent" or takes.image not in SIDES:
            return self
        return self.but(size=takes.image)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        """The costs at its own image size, the only one that it accepts."""
        pixels = self.size**2
        yield _layer(self.in_channels, self.widths[0], 1, pixels)
        for before, after in pairwise(self.widths):
            yield _layer(before, before, 9, pixels)
            pixels //= 4
            yield _layer(before, after, 9, pixels)
            yield _layer(before, after, 1, pixels, bias=False)
        last = self.widths[-1]
        yield _layer(last + 1, last, 9, pixels)
        yield _layer(16 * last, last, 1, 1)
        yield _layer(last, 1, 1, 1)


def _layer(inputs: int, outputs: int, weights: int, pixels: int, *, bias: bool = True) -> Cost:
    weights *= inputs * outputs
    return Cost(weights * pixels, weights * pixels, 0, weights + (outputs if bias else 0))


class ResidualBlock(nn.Module):
    """A residual block that halves the size."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = EqualConv2d(inputs, inputs, 3)
        self.second = EqualConv2d(inputs, outputs, 3, stride=2)
        self.skip = EqualConv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (activated(self.second(activated(self.first(x)))) + self.skip(x)) / math.sqrt(2)


class StyleGAN2Discriminator(Discriminator):
    """A 1 x 1 convolution, residual blocks down to 4 px, the standard deviation within groups of images as one more
    channel, a 3 x 3 convolution, and two linear layers to the score, B x 1 x 1 x 1.

    Taps: `layer1` after the first convolution, then each block's output. A batch that is not divisible by `group` has
    smaller groups.
    """

    config_class = StyleGAN2DiscriminatorConfig

    def __init__(self, config: StyleGAN2DiscriminatorConfig):
        super().__init__(config)
        widths = config.widths
        self.first = EqualConv2d(config.in_channels, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.last = EqualConv2d(widths[-1] + 1, widths[-1], 3)
        self.hidden = EqualLinear(16 * widths[-1], widths[-1])
        self.score = EqualLinear(widths[-1], 1)

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(f"layer{i + 1}" for i in range(len(self.blocks) + 1))

    def select(self, threshold: float) -> None:
        raise UsageError("stylegan2: this discriminator has no gates, which GCC's masks need; choose another one.")

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        h, taps = activated(self.first(x)), {}
        for i, block in enumerate((None, *self.blocks), start=1):
            h = h if block is None else block(h)
            if f"layer{i}" in names:
                taps[f"layer{i}"] = h
        h = activated(self.last(torch.cat((h, deviation(h, self.config.group)), 1)))
        score = self.score(activated(self.hidden(h.flatten(1))))
        return score[:, :, None, None], taps


def deviation(x: Tensor, group: int = 4) -> Tensor:
    """B x 1 x H x W: the standard deviation over a group of images, averaged over channels and pixels; the same for
    all images of the group. Group k consists of every (B / size)-th image from k on, as published.
    """
    size = next(n for n in range(min(group, len(x)), 0, -1) if len(x) % n == 0)
    parted = x.view(size, -1, *x.shape[1:])
    spread = (parted.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return spread.repeat(size, 1, *x.shape[2:])
