"""SRGAN's generator, SRResNet (Ledig et al., CVPR 2017), as in leftthomas/SRGAN."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Taps
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.srvgg import MAX_BLOCKS, Conv, Enlarging, EnlargingConfig, expand_blocks
from vemcompress.networks.slots import Group, passes, reads, writes
from vemcompress.system.settings import Width


class SRGANConfig(EnlargingConfig):
    """`trunk`: width of the trunk. `blocks`: inner width of each residual block, or their number, by default the
    paper's 16. `ups`: width after each enlargement by 2. `width = n` stands for n in all of them.
    """

    replaces: ClassVar = {"width": ("trunk", "ups"), "scale": ("ups",)}

    family: Literal["srgan"] = "srgan"
    norm: Literal["batch"] = "batch"
    trunk: Width
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)
    ups: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=3)

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        values = expand_blocks(values, "trunk", 16)
        scale = values.get("scale", 4) if isinstance(values, dict) else None
        if isinstance(scale, int) and isinstance(values.get("trunk"), int) and "ups" not in values:
            values["ups"] = (values["trunk"],) * (scale.bit_length() - 1)
        return values

    def check(self) -> None:
        if self.scale != 2 ** len(self.ups):
            raise ValueError(
                f"scale must be 2, 4 or 8, and ups must have one width for each factor of 2, not {len(self.ups)}"
            )

    def widths_by_group(self) -> dict[str, int]:
        found = {"trunk": self.trunk} | {f"block{i + 1}": width for i, width in enumerate(self.blocks)}
        return found | {f"up{i + 1}": width for i, width in enumerate(self.ups)}

    def _placed(self, widths: dict[str, int]) -> dict:
        return {
            "trunk": widths["trunk"],
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
            "ups": tuple(widths[f"up{i + 1}"] for i in range(len(self.ups))),
        }

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        pixels, trunk = height * width, self.trunk
        yield conv(self.in_channels, trunk, 9, pixels)
        for inner in self.blocks:
            for inputs, outputs in ((trunk, inner), (inner, trunk)):
                yield conv(inputs, outputs, 3, pixels)
                yield norm(self.norm, outputs, pixels)
        yield conv(trunk, trunk, 3, pixels)
        yield norm(self.norm, trunk, pixels)
        inputs = trunk
        for outputs in self.ups:
            yield conv(inputs, 4 * outputs, 3, pixels)
            inputs, pixels = outputs, 4 * pixels
        yield conv(inputs, self.out_channels, 9, pixels)
        yield Cost(parameters=1 + len(self.blocks) + len(self.ups))  # one PReLU slope each


class _Block(nn.Module):
    def __init__(self, config: SRGANConfig, inner: int):
        super().__init__()
        trunk, batch = config.trunk, nn.BatchNorm2d
        self.conv1, self.norm1, self.slope = Conv(trunk, inner), batch(inner), nn.PReLU()
        self.conv2, self.norm2 = Conv(inner, trunk), batch(trunk)

    def forward(self, x: Tensor) -> Tensor:
        h = self.slope(self.norm1(self.conv1(x)))
        return x + self.norm2(self.conv2(h))


class SRGAN(Enlarging):
    """9x9, residual blocks and a 3x3 with a skip around them, a 3x3 with a pixel shuffle for each factor of 2, 9x9,
    tanh: the published (tanh + 1) / 2 in [-1, 1].
    """

    config_class = SRGANConfig

    def __init__(self, config: SRGANConfig):
        super().__init__(config)
        self.stem, self.stem_slope = Conv(config.in_channels, config.trunk, 9), nn.PReLU()
        self.blocks = nn.ModuleList(_Block(config, inner) for inner in config.blocks)
        self.trunk, self.trunk_norm = Conv(config.trunk, config.trunk), nn.BatchNorm2d(config.trunk)
        widths = (config.trunk, *config.ups)
        self.ups = nn.ModuleList(Conv(i, 4 * o) for i, o in zip(widths, config.ups, strict=False))
        self.slopes = nn.ModuleList(nn.PReLU() for _ in config.ups)
        self.head = Conv(widths[-1], config.out_channels, 9)

    def groups(self) -> tuple[Group, ...]:
        """The residual `trunk`, each block's inner width, and the width after each enlargement, where four
        consecutive outputs of the convolution form one channel.
        """
        trunk, inner = [*writes("stem"), *reads("trunk"), *writes("trunk"), *passes("trunk_norm"), *reads("ups.0")], {}
        for i in range(len(self.blocks)):
            at = f"blocks.{i}"
            trunk += (*reads(f"{at}.conv1"), *writes(f"{at}.conv2"), *passes(f"{at}.norm2"))
            inner[f"block{i + 1}"] = (*writes(f"{at}.conv1"), *passes(f"{at}.norm1"), *reads(f"{at}.conv2"))
        found = [Group("trunk", self.config.trunk, tuple(trunk), "trunk_norm.weight")]
        for i, (name, slots) in enumerate(inner.items()):
            found.append(Group(name, self.config.blocks[i], slots, f"blocks.{i}.norm1.weight", bypassed=True))
        readers = [*(f"ups.{i}" for i in range(1, len(self.ups))), "head"]
        for i, width in enumerate(self.config.ups):
            found.append(Group(f"up{i + 1}", width, (*writes(f"ups.{i}", each=4), *reads(readers[i]))))
        return tuple(found)

    def tap_channels(self, name: str) -> int:
        return self.config.trunk

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        first = h = self.stem_slope(self.stem((x + 1) / 2))
        taps = {"stem": h} if "stem" in names else {}
        for i, block in enumerate(self.blocks):
            h = block(h)
            if f"block{i + 1}" in names:
                taps[f"block{i + 1}"] = h
        h = first + self.trunk_norm(self.trunk(h))
        for up, slope in zip(self.ups, self.slopes, strict=True):
            h = slope(F.pixel_shuffle(up(h), 2))
        return self.head(h).tanh(), taps
