"""ESRGAN's generator, RRDBNet (Wang et al., ECCVW 2018), as in Real-ESRGAN and BasicSR."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Taps
from vemcompress.networks.cost import Cost, conv
from vemcompress.networks.generators.srvgg import MAX_BLOCKS, Conv, Enlarging, EnlargingConfig, expand_blocks
from vemcompress.networks.slots import Group, Slot, reads, writes
from vemcompress.system.settings import Width

DENSE = 3  # dense blocks in a residual block
INNER = 4  # convolutions in a dense block before the one that gives the trunk's width
RESIDUAL = 0.2
_SLOPE = 0.2


class RRDBConfig(EnlargingConfig):
    """`trunk`: width of the trunk. `blocks`: growth of each residual block (the width of the four inner convolutions of
    its three dense blocks), or the number of blocks, by default 23. `ups`: width after each enlargement by 2. `last`:
    width before the last convolution. `unshuffle`: squares of this side of the input's pixels become channels first, so
    that scale = 2 ** len(ups) / unshuffle. It is 2 in the published network of scale 2, and 4 in that of scale 1.

    `width = n` stands for a trunk of n with a growth of n / 2.
    """

    replaces: ClassVar = {"width": ("trunk", "ups", "last"), "scale": ("ups", "unshuffle")}

    family: Literal["rrdb"] = "rrdb"
    norm: Literal["none"] = "none"
    trunk: Width
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)
    ups: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=3)
    last: Width
    unshuffle: Literal[1, 2, 4] = 1

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        values = expand_blocks(values, "trunk", 23, share=2)
        if not isinstance(values, dict) or not isinstance(trunk := values.get("trunk"), int):
            return values
        scale = values.get("scale", 4)
        shapes = {1: (2, 4), 2: (2, 2), 4: (2, 1), 8: (3, 1)}  # scale: (enlargements by 2, unshuffle)
        ups, unshuffle = shapes.get(scale, (2, 1)) if isinstance(scale, int) else (2, 1)
        given = {"last": trunk, "ups": (trunk,) * ups} | ({} if "ups" in values else {"unshuffle": unshuffle})
        return given | values

    def check(self) -> None:
        if self.scale * self.unshuffle != 2 ** len(self.ups):
            raise ValueError(f"scale must be 2 ** {len(self.ups)} / {self.unshuffle}, by ups and unshuffle")

    def widths_by_group(self) -> dict[str, int]:
        found = {"trunk": self.trunk} | {f"block{i + 1}": width for i, width in enumerate(self.blocks)}
        return found | {f"up{i + 1}": width for i, width in enumerate(self.ups)} | {"last": self.last}

    def _placed(self, widths: dict[str, int]) -> dict:
        return {
            "trunk": widths["trunk"],
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
            "ups": tuple(widths[f"up{i + 1}"] for i in range(len(self.ups))),
            "last": widths["last"],
        }

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        pixels, trunk = height * width // self.unshuffle**2, self.trunk
        yield conv(self.in_channels * self.unshuffle**2, trunk, 3, pixels)
        for growth in self.blocks * DENSE:
            for i in range(INNER):
                yield conv(trunk + i * growth, growth, 3, pixels)
            yield conv(trunk + INNER * growth, trunk, 3, pixels)
        yield conv(trunk, trunk, 3, pixels)
        for inputs, outputs in zip((trunk, *self.ups), self.ups, strict=False):
            pixels *= 4
            yield conv(inputs, outputs, 3, pixels)
        yield conv(self.ups[-1], self.last, 3, pixels)
        yield conv(self.last, self.out_channels, 3, pixels)


class _Dense(nn.Module):
    """A dense block: each convolution reads all previous maps, and a fifth of the last one's output is added to the
    input.
    """

    def __init__(self, trunk: int, growth: int):
        super().__init__()
        self.convs = nn.ModuleList(Conv(trunk + i * growth, growth) for i in range(INNER))
        self.convs.append(Conv(trunk + INNER * growth, trunk))
        for layer in self.convs:  # as published, so that the trunk is nearly unchanged at first
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(0.1)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.convs[:-1]:
            maps.append(F.leaky_relu(layer(torch.cat(maps, 1)), _SLOPE))
        return x + RESIDUAL * self.convs[-1](torch.cat(maps, 1))


class _Block(nn.Module):
    def __init__(self, trunk: int, growth: int):
        super().__init__()
        self.dense = nn.Sequential(*(_Dense(trunk, growth) for _ in range(DENSE)))

    def forward(self, x: Tensor) -> Tensor:
        return x + RESIDUAL * self.dense(x)


class RRDB(Enlarging):
    """A 3x3, residual blocks of three dense blocks and a 3x3 with a skip around them, a 3x3 after each
    nearest-neighbour enlargement, and two 3x3.
    """

    config_class = RRDBConfig

    def __init__(self, config: RRDBConfig):
        super().__init__(config)
        self.multiple = self.min_size = config.unshuffle
        trunk, widths = config.trunk, (config.trunk, *config.ups)
        self.stem = Conv(config.in_channels * config.unshuffle**2, trunk)
        self.blocks = nn.ModuleList(_Block(trunk, growth) for growth in config.blocks)
        self.trunk = Conv(trunk, trunk)
        self.ups = nn.ModuleList(map(Conv, widths, config.ups))
        self.last, self.head = Conv(widths[-1], config.last), Conv(config.last, config.out_channels)

    def groups(self) -> tuple[Group, ...]:
        """The residual `trunk`; the growth of each block, where the n-th channels of all its convolutions form one
        channel; the width after each enlargement, and the last one.
        """
        config = self.config
        trunk = [*writes("stem"), *reads("trunk"), *writes("trunk"), *reads("ups.0")]
        found = []
        for i, growth in enumerate(config.blocks):
            inner: list[Slot] = []
            for j in range(DENSE):
                at = f"blocks.{i}.dense.{j}.convs"
                for k in range(INNER + 1):
                    trunk += reads(f"{at}.{k}")
                    for earlier in range(k):
                        inner += reads(f"{at}.{k}", start=config.trunk + earlier * growth)
                    if k < INNER:
                        inner += writes(f"{at}.{k}")
                trunk += writes(f"{at}.{INNER}")
            found.append(Group(f"block{i + 1}", growth, tuple(inner), bypassed=True))
        readers = [*(f"ups.{i}" for i in range(1, len(self.ups))), "last"]
        for i, width in enumerate(config.ups):
            found.append(Group(f"up{i + 1}", width, (*writes(f"ups.{i}"), *reads(readers[i]))))
        last = Group("last", config.last, (*writes("last"), *reads("head")))
        return Group("trunk", config.trunk, tuple(trunk)), *found, last

    def tap_channels(self, name: str) -> int:
        return self.config.trunk

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        first = h = self.stem(F.pixel_unshuffle((x + 1) / 2, self.config.unshuffle))
        taps = {"stem": h} if "stem" in names else {}
        for i, block in enumerate(self.blocks):
            h = block(h)
            if f"block{i + 1}" in names:
                taps[f"block{i + 1}"] = h
        h = first + self.trunk(h)
        for up in self.ups:
            h = F.leaky_relu(up(F.interpolate(h, scale_factor=2.0)), _SLOPE)
        return 2 * self.head(F.leaky_relu(self.last(h), _SLOPE)) - 1, taps
