"""The CycleGAN generator (Johnson's ResNet) and its mobile form with separable residual blocks.

Zhu et al., ICCV 2017; the mobile form is GAN-Compression's (Li et al., CVPR 2020), which OMGD and VEM distil into.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Generator, ImageConfig, Taps, check_number, check_width, norm_layer
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import Width

MAX_BLOCKS = 64
_WIDTHS = ("stem", "down1", "trunk", "up1", "up2")


class ResNetConfig(ImageConfig):
    """Widths (stem, down1, trunk, up1, up2) and each residual block's inner width. `width = n` stands for (n, 2n, 4n,
    2n, n) and `blocks` blocks of inner width 4n; `blocks` may be a number.

    `channels = "16_16_32_16_32_32_16_16"` stands for the widths of one of GAN-Compression's sub-networks (`entries`),
    with `legacy = true` in the older form, in which the inner width is that of each third block alone.
    """

    counted: ClassVar = ("blocks", "blocks")
    replaces: ClassVar = {"width": ("widths",), "channels": ("widths", "blocks")}

    family: Literal["resnet"] = "resnet"
    widths: tuple[Width, Width, Width, Width, Width] = Field(strict=False)
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        if not isinstance(values, dict):
            return values
        values = dict(values)
        channels, legacy = values.pop("channels", None), values.pop("legacy", False)
        if channels is not None:
            if not {"width", "widths"}.isdisjoint(values):
                raise ValueError("channels excludes width and widths; give the one or the other")
            values |= entries(channels, values.get("blocks", 9), legacy=legacy is True)
        values = expand_width(values)
        blocks, widths = values.get("blocks", 9), values.get("widths")
        if not isinstance(blocks, list | tuple):
            check_number("blocks", blocks, 1, MAX_BLOCKS)
            if isinstance(widths, list | tuple) and len(widths) == len(_WIDTHS):
                values["blocks"] = (widths[_WIDTHS.index("trunk")],) * blocks
        return values

    def student(self, width: int) -> "MobileResNetConfig":
        """A mobile ResNet of as many blocks."""
        return MobileResNetConfig(
            width=width, blocks=len(self.blocks), in_channels=self.in_channels, out_channels=self.out_channels
        )

    def widths_by_group(self) -> dict[str, int]:
        blocks = {f"block{i + 1}": inner for i, inner in enumerate(self.blocks)}
        stem, down1, trunk, up1, up2 = self.widths
        return {"stem": stem, "down1": down1, "trunk": trunk, **blocks, "up1": up1, "up2": up2}

    def genes(self) -> dict[str, dict[str, int]]:
        """As published: stem, down1, trunk, each third of the residual blocks, up1, up2."""
        count = len(self.blocks)
        thirds: dict[str, dict[str, int]] = {}
        for i in range(count):
            thirds.setdefault(f"blocks{i * 3 // count + 1}", {})[f"block{i + 1}"] = 4
        return (
            {"stem": {"stem": 1}, "down1": {"down1": 2}, "trunk": {"trunk": 4}}
            | thirds
            | {
                "up1": {"up1": 2},
                "up2": {"up2": 1},
            }
        )

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            "widths": tuple(widths[name] for name in _WIDTHS),
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
        }

    def _block(self, trunk: int, inner: int, pixels: int) -> Iterator[Cost]:
        for inputs, outputs in ((trunk, inner), (inner, trunk)):
            yield conv(inputs, outputs, 3, pixels, bias=self.biased)
            yield norm(self.norm, outputs, pixels)

    def _step(self, inputs: int, outputs: int, height: int, width: int, up: bool = False) -> Iterator[Cost]:
        """A step down or up to maps of this size."""
        pixels = height * width
        if up:
            yield conv_transposed(inputs, outputs, 3, pixels // 4, bias=self.biased)
        else:
            yield conv(inputs, outputs, 3, pixels, bias=self.biased)
        yield norm(self.norm, outputs, pixels)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        stem, down1, trunk, up1, up2 = self.widths
        half = -(-height // 2), -(-width // 2)
        quarter = h, w = -(-half[0] // 2), -(-half[1] // 2)
        yield conv(self.in_channels, stem, 7, height * width, bias=self.biased)
        yield norm(self.norm, stem, height * width)
        yield from self._step(stem, down1, *half)
        yield from self._step(down1, trunk, *quarter)
        yield from self._middle(trunk, *quarter)
        yield from self._step(trunk, up1, 2 * h, 2 * w, up=True)
        yield from self._step(up1, up2, 4 * h, 4 * w, up=True)
        yield conv(up2, self.out_channels, 7, 16 * h * w)

    def _middle(self, trunk: int, height: int, width: int) -> Iterator[Cost]:
        for inner in self.blocks:
            yield from self._block(trunk, inner, height * width)


def expand_width(values: dict) -> dict:
    """A Config's values with `widths` in the place of the shorthand `width`. Raises ValueError."""
    width = values.pop("width", None)
    if width is not None:
        if "widths" in values:
            raise ValueError("width and widths exclude each other; give one")
        check_width(width)
        values["widths"] = (width, 2 * width, 4 * width, 2 * width, width)
    return values


def entries(text: str, blocks: int = 9, *, legacy: bool = False) -> dict[str, tuple[int, ...]]:
    """`widths` and `blocks` of a ResNetConfig from GAN-Compression's notation, such as "16_16_32_16_32_32_16_16".

    The entries are the widths of stem, down1, trunk, the residual blocks' insides (one entry for all, or one for each
    third of them), up1 and up2, without the factors 1, 2, 4, 4, 2 and 1 that the full network multiplies them by. In
    the `legacy` form the inner entry is that of blocks 1, 4, 7, ..., and the others are as wide as the trunk.
    Raises ValueError for other numbers of entries.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[1-9]\d{0,5}(_[1-9]\d{0,5})*", text):
        raise ValueError('channels must be whole numbers with "_" between them, such as "24_24_24_32_20_16"')
    if isinstance(blocks, list | tuple):
        raise ValueError("beside channels, blocks must be their number")
    check_number("blocks", blocks, 1, MAX_BLOCKS)
    numbers = [int(part) for part in text.split("_")]
    if len(numbers) not in (6, 8):
        raise ValueError(
            f"channels {text} has {len(numbers)} entries; give 6, or 8 with one for each third of the blocks"
        )
    stem, down1, trunk, *inner, up1, up2 = numbers
    found = [4 * inner[i * len(inner) // blocks] for i in range(blocks)]
    if legacy:
        if len(inner) > 1:
            raise ValueError(f"channels {text} has 8 entries; the legacy form has 6")
        found = [width if i % 3 == 0 else 4 * trunk for i, width in enumerate(found)]
    return {"widths": (stem, 2 * down1, 4 * trunk, 2 * up1, up2), "blocks": tuple(found)}


class MobileResNetConfig(ResNetConfig):
    """As `ResNetConfig`; the residual convolutions are depthwise 3x3, instance norm, pointwise 1x1."""

    family: Literal["mobile_resnet"] = "mobile_resnet"

    def _block(self, trunk: int, inner: int, pixels: int) -> Iterator[Cost]:
        for inputs, outputs in ((trunk, inner), (inner, trunk)):
            yield conv(inputs, inputs, 3, pixels, groups=inputs)
            yield norm("instance", inputs, pixels)
            yield conv(inputs, outputs, 1, pixels)
            yield norm(self.norm, outputs, pixels)


class Block(nn.Module):
    def __init__(self, conv1: nn.Module, norm1: nn.Module, conv2: nn.Module, norm2: nn.Module):
        super().__init__()
        self.conv1, self.norm1, self.conv2, self.norm2 = conv1, norm1, conv2, norm2

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return x + self.norm2(self.conv2(h))


class _SeparableConv(nn.Module):
    """Depthwise 3x3 after reflection padding, instance norm (always), pointwise 1x1."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, padding_mode="reflect", groups=inputs)
        self.norm = InstanceNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.norm(self.depthwise(x)))


def block_taps(blocks: int) -> tuple[str, ...]:
    """Of a network that goes down twice, through so many blocks, and up twice."""
    return ("down1", "down2", *(f"block{i + 1}" for i in range(blocks)), "up1", "up2")


def block_places(blocks: int) -> tuple[str, ...]:
    """After the second down-sampling and each third of the blocks."""
    return ("down2", *(f"block{max(1, round(blocks * third / 3))}" for third in (1, 2, 3)))


class ResNet(Generator):
    """Reflection-padded 7x7, two strided convolutions, residual blocks, two transposed convolutions, 7x7, tanh. Taps:
    `down1`, `down2` (after ReLU), `block1` to `blockN`, `up1`, `up2`."""

    config_class = ResNetConfig
    multiple = 4
    min_size = 8
    transposed = True  # the convolutions of the steps up

    def __init__(self, config: ResNetConfig):
        super().__init__(config)
        stem, down1, trunk, up1, up2 = config.widths
        self.stem = nn.Conv2d(config.in_channels, stem, 7, padding=3, padding_mode="reflect", bias=config.biased)
        self.stem_norm = self._normalise(stem)
        self.down1 = self._down(stem, down1)
        self.down1_norm = self._normalise(down1)
        self.down2 = self._down(down1, trunk)
        self.down2_norm = self._normalise(trunk)
        self.blocks = nn.ModuleList(self._block(trunk, inner) for inner in config.blocks)
        self.up1 = self._up(trunk, up1)
        self.up1_norm = self._normalise(up1)
        self.up2 = self._up(up1, up2)
        self.up2_norm = self._normalise(up2)
        self.head = nn.Conv2d(up2, config.out_channels, 7, padding=3, padding_mode="reflect")

    def _normalise(self, channels: int) -> nn.Module:
        return norm_layer(self.config.norm, channels)

    def _down(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=self.config.biased)

    def _up(self, inputs: int, outputs: int) -> nn.Module:
        bias = self.config.biased
        return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias)

    def _block(self, trunk: int, inner: int) -> Block:
        first = self._residual_conv(trunk, inner), self._normalise(inner)
        return Block(*first, self._residual_conv(inner, trunk), self._normalise(trunk))

    def _residual_conv(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect", bias=self.config.biased)

    @property
    def taps(self) -> tuple[str, ...]:
        return block_taps(len(self.blocks))

    @property
    def places(self) -> tuple[str, ...]:
        return block_places(len(self.blocks))

    def groups(self) -> tuple[Group, ...]:
        """`stem`, `down1`, the residual `trunk`, each block's inner width as `block1`, ..., `up1` and `up2`."""
        down1, down2, up1, up2 = (self._stage(name) for name in ("down1", "down2", "up1", "up2"))
        entry_up = reads(self._entry("up1"), transposed=self.transposed)
        trunk, inner = self._residual_groups()
        slots = {
            "stem": ((*writes("stem"), *passes("stem_norm"), *reads(self._entry("down1"))), "stem_norm.weight"),
            "down1": ((*down1, *reads(self._entry("down2"))), "down1_norm.weight"),
            "trunk": ((*down2, *trunk, *entry_up), "down2_norm.weight"),
            **inner,
            "up1": ((*up1, *reads(self._entry("up2"), transposed=self.transposed)), "up1_norm.weight"),
            "up2": ((*up2, *reads("head")), "up2_norm.weight"),
        }
        scaled = self.config.norm != "instance"
        return tuple(
            Group(name, width, slots[name][0], slots[name][1] if scaled else None, bypassed=name.startswith("block"))
            for name, width in self.config.widths_by_group().items()
            if width
        )

    def _residual_groups(self) -> tuple[list[Slot], dict[str, tuple[tuple[Slot, ...], str]]]:
        """Where the trunk's channels lie in the residual blocks; by group the slots of the channels within them, and
        the weight of the norm that scales these."""
        trunk, inner = [], {}
        for name, block in self.blocks.named_children():
            conv1, conv2 = (self._residual(f"blocks.{name}.{leaf}") for leaf in ("conv1", "conv2"))
            if not isinstance(block, Block):
                trunk += self._extra(f"blocks.{name}")
                continue
            trunk += (*conv1[0], *conv2[1], *passes(f"blocks.{name}.norm2"))
            slots = (*conv1[1], *passes(f"blocks.{name}.norm1"), *conv2[0])
            inner[f"block{len(inner) + 1}"] = slots, f"blocks.{name}.norm1.weight"
        return trunk, inner

    def _entry(self, stage: str) -> str:
        """The convolution that a stage down or up begins with."""
        return stage

    def _stage(self, name: str) -> tuple[Slot, ...]:
        """Where the channels that a stage down or up makes lie within it."""
        return (*writes(name, transposed=name.startswith("up") and self.transposed), *passes(f"{name}_norm"))

    @staticmethod
    def _residual(name: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        """The input and the output channels of a block's convolution."""
        return reads(name), writes(name)

    def _extra(self, name: str) -> tuple[Slot, ...]:
        """The trunk's channels in a block of another kind."""
        raise NotImplementedError

    def _shrunk(self, h: Tensor) -> Tensor:
        """What a step down does after its ReLU."""
        return h

    def tap_channels(self, name: str) -> int:
        _, down1, trunk, up1, up2 = self.config.widths
        return {"down1": down1, "up1": up1, "up2": up2}.get(name, trunk)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps = {}

        def tap(name: str, value: Tensor) -> Tensor:
            if name in names:
                taps[name] = value
            return value

        h = F.relu(self.stem_norm(self.stem(x)))
        h = tap("down1", self._shrunk(F.relu(self.down1_norm(self.down1(h)))))
        h = tap("down2", self._shrunk(F.relu(self.down2_norm(self.down2(h)))))
        for i, block in enumerate(self.blocks):
            h = tap(f"block{i + 1}", block(h))
        h = tap("up1", F.relu(self.up1_norm(self.up1(h))))
        h = tap("up2", F.relu(self.up2_norm(self.up2(h))))
        return self.head(h).tanh(), taps


class MobileResNet(ResNet):
    """`ResNet` with separable residual convolutions: 83 times fewer parameters at width 16."""

    config_class = MobileResNetConfig

    def _residual_conv(self, inputs: int, outputs: int) -> nn.Module:
        return _SeparableConv(inputs, outputs)

    @staticmethod
    def _residual(name: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        inputs = (*passes(f"{name}.depthwise"), *passes(f"{name}.norm"), *reads(f"{name}.pointwise"))
        return inputs, writes(f"{name}.pointwise")
