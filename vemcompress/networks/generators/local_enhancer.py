"""pix2pixHD's generator with its local enhancer (Wang et al., CVPR 2018, section 3.1).

The global generator alone is a `ResNet` that downsamples three or four times.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Taps, check_width
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.resnet import MAX_BLOCKS, MAX_DOWNS, MobileResNetConfig, ResNet, ResNetConfig
from vemcompress.networks.slots import Slot, passes, reads, writes
from vemcompress.system.settings import Width


class LocalEnhancerConfig(ResNetConfig):
    """`widths`, `blocks` and `downs` are those of the global generator, which works at half the size. `local`: widths
    of the enhancer's first convolution and of its upsampling. `local_blocks`: inner widths of its residual blocks, or
    their number; their trunk is as wide as the global generator's output.

    `width = 32` stands for the published (32, 32) around a global generator of 64, with 3 local blocks.
    """

    replaces: ClassVar = {"width": ("local", "local_blocks")}

    family: Literal["local_enhancer"] = "local_enhancer"
    local: tuple[Width, Width] = Field(strict=False)
    local_blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        if not isinstance(values, dict):
            return values
        values, width = dict(values), values.get("width")
        if width is not None:
            check_width(width)
            values = {"local": (width, width), "downs": 3} | values | {"width": 2 * width}
        values = super()._expand_width(values)
        blocks, widths = values.get("local_blocks", 3), values.get("widths")
        if isinstance(blocks, int) and 1 <= blocks <= MAX_BLOCKS and isinstance(widths, list | tuple) and widths:
            values["local_blocks"] = (widths[-1],) * blocks
        return values

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """Keep the number of local blocks too when only `width` changes."""
        kept, blocks = super().under(below, above), below.get("local_blocks")
        if "width" in above and above["width"] != below.get("width") and isinstance(blocks, list):
            kept["local_blocks"] = len(blocks)
        return kept

    def student(self, width: int) -> MobileResNetConfig:
        """A mobile ResNet with as many blocks as the global generator, which downsamples to the same size."""
        return self._mobile(width, min(self.downs + 1, MAX_DOWNS), len(self.blocks))

    def widths_by_group(self) -> dict[str, int]:
        stem, up = self.local
        blocks = {f"local_block{i + 1}": inner for i, inner in enumerate(self.local_blocks)}
        return {"local_stem": stem} | super().widths_by_group() | blocks | {"local_up": up}

    def genes(self) -> dict[str, dict[str, int]]:
        return {group: {group: 1} for group in self.widths_by_group()}

    def _placed(self, widths: dict[str, int]) -> dict:
        blocks = tuple(widths[f"local_block{i + 1}"] for i in range(len(self.local_blocks)))
        local = {"local": (widths["local_stem"], widths["local_up"]), "local_blocks": blocks}
        return super()._placed(widths) | local

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        (stem, up), trunk = self.local, self.widths[-1]
        yield conv(self.in_channels, stem, self.ends, height * width, bias=self.biased)
        yield norm(self.norm, stem, height * width)
        height, width = -(-height // 2), -(-width // 2)
        yield from self._step(stem, trunk, height, width)
        height, width = yield from self._before_head(height, width)
        for inner in self.local_blocks:
            yield from self._block(trunk, inner, height * width)
        yield from self._step(trunk, up, 2 * height, 2 * width, up=True)
        yield conv(up, self.out_channels, self.ends, 4 * height * width)


class LocalEnhancer(ResNet):
    """The maps of a `ResNet` at half the size are added to those of a first convolution and a downsampling at full
    size. Residual blocks, an upsampling and the last convolution follow.

    Taps: those of the global generator, then `local_down` (the sum of both), `local_block1`, ..., `local_up`. Places
    are the global generator's. Groups: its own, of which the last upsampling also gives the enhancer's trunk,
    `local_stem`, the inner widths of the local blocks, and `local_up`.
    """

    config_class: ClassVar = LocalEnhancerConfig

    def __init__(self, config: LocalEnhancerConfig):
        super().__init__(config)
        self.multiple, self.min_size = 2 * self.multiple, 2 * self.min_size
        (stem, up), trunk = config.local, config.widths[-1]
        self.local_stem, self.local_stem_norm = self._end(config.in_channels, stem), self._normalise(stem)
        self.local_down, self.local_down_norm = self._down(stem, trunk), self._normalise(trunk)
        self.local_blocks = nn.ModuleList(self._block(trunk, inner) for inner in config.local_blocks)
        self.local_up, self.local_up_norm = self._up(trunk, up), self._normalise(up)
        self.head = self._end(up, config.out_channels, bias=True)

    @property
    def taps(self) -> tuple[str, ...]:
        blocks = (f"local_block{i + 1}" for i in range(len(self.local_blocks)))
        return (*super().taps, "local_down", *blocks, "local_up")

    def tap_channels(self, name: str) -> int:
        if name == "local_up":
            return self.config.local[1]
        return self.config.widths[-1] if name.startswith("local") else super().tap_channels(name)

    def _slots(self) -> dict[str, tuple[tuple[Slot, ...], str]]:
        stem = (*writes("local_stem"), *passes("local_stem_norm"), *reads("local_down"))
        up = (*writes("local_up", transposed=True), *passes("local_up_norm"), *reads("head"))
        local = {"local_stem": (stem, "local_stem_norm.weight"), "local_up": (up, "local_up_norm.weight")}
        return super()._slots() | local | self._residual_groups("local_")[1]

    def _after_ups(self) -> tuple[Slot, ...]:
        down = (*writes("local_down"), *passes("local_down_norm"))
        return (*down, *self._residual_groups("local_")[0], *reads("local_up", transposed=True))

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        half = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        of_global, taps = self._before_head(half, names)
        h = F.relu(self.local_stem_norm(self.local_stem(x)))
        h = of_global + F.relu(self.local_down_norm(self.local_down(h)))
        found = {"local_down": h}
        for i, block in enumerate(self.local_blocks):
            h = found[f"local_block{i + 1}"] = block(h)
        h = found["local_up"] = F.relu(self.local_up_norm(self.local_up(h)))
        return self._image(self.head(h)), taps | {name: found[name] for name in names if name in found}
