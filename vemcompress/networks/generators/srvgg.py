"""Super-resolution generators: their base class, and the compact SRVGGNetCompact for phones (Real-ESRGAN; Wang et al.,
ICCVW 2021).

Published networks work on images in [0, 1]. Images are converted at input and output, because zero padding makes a
conversion in the weights impossible.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Generator, ImageConfig, ImageInput, Taps, check_number, check_width
from vemcompress.networks.cost import Cost, conv
from vemcompress.networks.slots import Group, passes, reads, writes
from vemcompress.system.settings import SCALES, Width

MAX_BLOCKS = 64


class EnlargingConfig(ImageConfig):
    """The Config of a generator whose images have `scale` times the input's sides."""

    batch: ClassVar[int] = 16
    counted: ClassVar = ("blocks", "blocks")

    scale: Literal[SCALES] = 4

    def student(self, width: int) -> "SRVGGConfig":
        """A compact network with half of its 32 convolutions, as in Real-ESRGAN's smallest network for video."""
        return SRVGGConfig(width=width, scale=self.scale, in_channels=self.in_channels, out_channels=self.out_channels)


class Conv(nn.Conv2d):
    """A 3x3 convolution that keeps the size. It keeps PyTorch's initial weights, as these networks were published:
    they have too many layers without a norm for N(0, 0.02).
    """

    keeps_initial_weights = True

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)


class Enlarging(Generator):
    """B x C x H x W in [-1, 1] to B x C x scale H x scale W, approximately in [-1, 1]. Taps: `stem`, `block1` to
    `blockN`, all at the input's size; places: `stem`, and after each third of the blocks.
    """

    config: EnlargingConfig

    @property
    def takes(self) -> ImageInput:
        return replace(super().takes, scale=self.config.scale)

    @property
    def taps(self) -> tuple[str, ...]:
        return "stem", *(f"block{i + 1}" for i in range(len(self.config.blocks)))

    @property
    def places(self) -> tuple[str, ...]:
        return "stem", *(f"block{max(1, round(len(self.config.blocks) * third / 3))}" for third in (1, 2, 3))


class SRVGGConfig(EnlargingConfig):
    """`stem`: width of the first convolution. `blocks`: width of each following convolution with a PReLU, or their
    number, by default 16. `width = n` stands for (n, ..., n).
    """

    replaces: ClassVar = {"width": ("stem",)}

    family: Literal["srvgg"] = "srvgg"
    norm: Literal["none"] = "none"
    stem: Width
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        return expand_blocks(values, "stem", 16)

    def widths_by_group(self) -> dict[str, int]:
        return {"stem": self.stem} | {f"block{i + 1}": width for i, width in enumerate(self.blocks)}

    def _placed(self, widths: dict[str, int]) -> dict:
        return {"stem": widths["stem"], "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks)))}

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        channels = (self.in_channels, self.stem, *self.blocks, self.out_channels * self.scale**2)
        for inputs, outputs in pairwise(channels):
            yield conv(inputs, outputs, 3, height * width)
        yield Cost(parameters=self.stem + sum(self.blocks))  # PReLU's slopes


def expand_blocks(values, trunk: str, count: int, share: int = 1):
    """A Config's values with the shorthand `width` moved to its field `trunk`. A number of `blocks`, by default
    `count`, becomes a list of widths, each a `share`-th of the trunk. Raises ValueError.
    """
    if not isinstance(values, dict):
        return values
    values = dict(values)
    width = values.pop("width", None)
    if width is not None:
        if trunk in values:
            raise ValueError(f"width and {trunk} exclude each other; give only one")
        check_width(width)
        values[trunk] = width
    blocks = values.get("blocks", count)
    if not isinstance(blocks, list | tuple):
        check_number("blocks", blocks, 1, MAX_BLOCKS)
        if isinstance(values.get(trunk), int):
            values["blocks"] = (max(1, values[trunk] // share),) * blocks
    return values


class SRVGG(Enlarging):
    """3x3 convolutions with a PReLU each, all at the input's size, and a pixel shuffle; the result is added to the
    enlarged input.
    """

    config_class = SRVGGConfig

    def __init__(self, config: SRVGGConfig):
        super().__init__(config)
        widths = (config.stem, *config.blocks)
        self.convs = nn.ModuleList(map(Conv, (config.in_channels, *widths), widths))
        self.slopes = nn.ModuleList(map(nn.PReLU, widths))
        self.head = Conv(widths[-1], config.out_channels * config.scale**2)

    def groups(self) -> tuple[Group, ...]:
        """`stem`, and each block's outputs."""
        readers = [*(f"convs.{i}" for i in range(1, len(self.convs))), "head"]
        return tuple(
            Group(name, width, (*writes(f"convs.{i}"), *passes(f"slopes.{i}"), *reads(readers[i])))
            for i, (name, width) in enumerate(self.config.widths_by_group().items())
        )

    def tap_channels(self, name: str) -> int:
        return self.config.widths_by_group()[name]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps, h = {}, (x + 1) / 2
        for name, layer, slope in zip(self.taps, self.convs, self.slopes, strict=True):
            h = slope(layer(h))
            if name in names:
                taps[name] = h
        detail = F.pixel_shuffle(self.head(h), self.config.scale)
        # Twice the detail, because [0, 1] becomes [-1, 1].
        return F.interpolate(x, scale_factor=float(self.config.scale)) + 2 * detail, taps
