"""The DCGAN generator (Radford et al., ICLR 2016): latent vectors to images."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import (
    LatentConfig,
    LatentGenerator,
    Taps,
    check_number,
    expands_shorthands,
    take_shorthand,
)
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.slots import Group, passes, reads, writes
from vemcompress.system.settings import Width

MAX_LEVELS = 8


class DCGANConfig(LatentConfig):
    """`widths`: widths of the layers before the last one. The first has maps of 4 px, and each other one doubles the
    size. `refined`: how many layers after the first are 3x3 convolutions that keep the size. `slope`: slope of the
    LeakyReLU for negative numbers; 0 for ReLU. `linear_first`: whether the first layer has no activation. `head_bias`:
    whether the last layer has a bias.

    `width = 64` stands for (512, 256, 128, 64), and with `levels = 3`, for images of 32 px, for (256, 128, 64).
    """

    counted: ClassVar = ("widths", "levels")
    replaces: ClassVar = {"width": ("widths",)}

    family: Literal["dcgan"] = "dcgan"
    latent: int = Field(100, ge=1, le=4096)
    widths: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=2 * MAX_LEVELS)
    refined: int = Field(0, ge=0, le=MAX_LEVELS)
    slope: float = Field(0.0, ge=0, le=1)
    linear_first: bool = False
    head_bias: bool = False

    @expands_shorthands
    def _expand_width(cls, values):
        width, levels = take_shorthand(values, "widths", "levels", 4, (1, MAX_LEVELS))
        refined = values.get("refined", 0)
        if width is not None:
            check_number("refined", refined, 0, MAX_LEVELS)
            values["widths"] = tuple(width * 2 ** (levels + refined - 1 - i) for i in range(levels + refined))
        return values

    def check(self) -> None:
        if not 1 <= len(self.widths) - self.refined <= MAX_LEVELS:
            raise ValueError(f"the number of widths must be 1 to {MAX_LEVELS} more than refined")

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        kept = super().under(below, above)
        if "levels" in kept:
            kept["levels"] -= kept.get("refined", 0)
        return kept

    @property
    def image(self) -> int:
        return 4 * 2 ** (len(self.widths) - self.refined)

    @property
    def biased(self) -> bool:
        return False

    def student(self, width: int) -> "DCGANConfig":
        """A DCGAN with as many levels and the same activations, without refining convolutions."""
        config = DCGANConfig(width=width, levels=len(self.widths) - self.refined, latent=self.latent, prior=self.prior)
        return config.but(out_channels=self.out_channels, slope=self.slope, head_bias=self.head_bias)

    def widths_by_group(self) -> dict[str, int]:
        return {f"up{i + 1}": width for i, width in enumerate(self.widths)}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {"widths": tuple(widths[f"up{i + 1}"] for i in range(len(self.widths)))}

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        inputs, pixels = self.latent, 1
        for i, level in enumerate(self.widths):
            if 0 < i <= self.refined:
                yield conv(inputs, level, 3, pixels, bias=False)
            else:
                yield conv_transposed(inputs, level, 4, pixels, growth=4 if i else 16, bias=False)
                pixels *= 4 if i else 16
            yield norm("batch", level, pixels)
            inputs = level
        yield conv_transposed(inputs, self.out_channels, 4, pixels, bias=self.head_bias)


class DCGAN(LatentGenerator):
    """4x4 transposed convolutions without biases, from one pixel to 4 px and then by factors of 2, each with
    BatchNorm and ReLU; a last one and tanh. Taps: `up1`, ... after the activations.
    """

    config_class = DCGANConfig

    def __init__(self, config: DCGANConfig):
        super().__init__(config)
        inputs = (config.latent, *config.widths)
        self.ups = nn.ModuleList(self._layer(i, inputs[i], width) for i, width in enumerate(config.widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        self.head = nn.ConvTranspose2d(config.widths[-1], config.out_channels, 4, 2, 1, bias=config.head_bias)

    def _layer(self, i: int, inputs: int, outputs: int) -> nn.Module:
        if self._refines(i):
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.ConvTranspose2d(inputs, outputs, 4, *((2, 1) if i else (1, 0)), bias=False)

    def _activate(self, i: int, h: Tensor) -> Tensor:
        if i == 0 and self.config.linear_first:
            return h
        return F.leaky_relu(h, self.config.slope) if self.config.slope else F.relu(h)

    def _refines(self, i: int) -> bool:
        return 0 < i <= self.config.refined

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(f"up{i + 1}" for i in range(len(self.ups)))

    @property
    def places(self) -> tuple[str, ...]:
        """The map of 8 px, and the last one."""
        last = len(self.ups)
        return tuple(dict.fromkeys((f"up{min(last, self.config.refined + 2)}", f"up{last}")))

    def tap_channels(self, name: str) -> int:
        return self.config.widths[int(name[2:]) - 1]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps, h = {}, self.as_map(x)
        for i, (up, normalise) in enumerate(zip(self.ups, self.norms, strict=True)):
            h = self._activate(i, normalise(up(h)))
            if f"up{i + 1}" in names:
                taps[f"up{i + 1}"] = h
        return self.head(h).tanh(), taps

    def groups(self) -> tuple[Group, ...]:
        """One group per tap."""
        found, last = [], len(self.ups) - 1
        for i, width in enumerate(self.config.widths):
            slots = (*writes(f"ups.{i}", transposed=not self._refines(i)), *passes(f"norms.{i}"))
            after = f"ups.{i + 1}" if i < last else "head"
            slots += reads(after, transposed=not (i < last and self._refines(i + 1)))
            found.append(Group(f"up{i + 1}", width, slots, f"norms.{i}.weight"))
        return tuple(found)
