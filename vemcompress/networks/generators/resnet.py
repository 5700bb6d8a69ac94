"""The CycleGAN generator (Johnson's ResNet) and its mobile form with separable residual blocks.

Zhu et al., ICCV 2017. The mobile form is GAN-Compression's (Li et al., CVPR 2020), which OMGD and VEM use as student.
"""

import re
from collections.abc import Generator as Generated
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import (
    Activation,
    Generator,
    ImageConfig,
    Padding,
    Taps,
    check_number,
    expands_shorthands,
    norm_layer,
    take_shorthand,
)
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import Width

MAX_BLOCKS, MAX_DOWNS = 64, 5


class ResNetConfig(ImageConfig):
    """`widths`: widths of (stem, down1, trunk, up1, up2), with more for more downsampling. `blocks`: inner width of
    each residual block, or their number. `padding`: padding of the convolutions that use reflection padding as
    published; files do not store it.

    `width = n` stands for (n, 2n, 4n, 2n, n) and blocks of inner width 4n. pix2pixHD downsamples more often: `downs =
    3` stands for (n, 2n, 4n, 8n, 4n, 2n, n).

    `channels = "16_16_32_16_32_32_16_16"` stands for the widths of one of GAN-Compression's sub-networks (see
    `entries`), with `legacy = true` in the older form, where the inner width applies to every third block only.
    """

    counted: ClassVar = ("blocks", "blocks")
    replaces: ClassVar = {"width": ("widths",), "downs": ("widths",), "channels": ("widths", "blocks")}
    published_blocks: ClassVar[int] = 9
    ends: ClassVar[int] = 7  # kernel size of the first and the last convolution

    family: Literal["resnet"] = "resnet"
    widths: tuple[Width, ...] = Field(strict=False, min_length=5, max_length=2 * MAX_DOWNS + 1)
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)
    padding: Padding = "reflect"

    @expands_shorthands
    def _expand_width(cls, values):
        channels, legacy = values.pop("channels", None), values.pop("legacy", False)
        if channels is not None:
            if not {"width", "widths"}.isdisjoint(values):
                raise ValueError("channels excludes width and widths; give only one of them")
            values |= entries(channels, values.get("blocks", 9), legacy=legacy is True)
        values = expand_width(values)
        blocks, widths = values.get("blocks", cls.published_blocks), values.get("widths")
        if not isinstance(blocks, list | tuple):
            check_number("blocks", blocks, 1, MAX_BLOCKS)
            if isinstance(widths, list | tuple) and len(widths) % 2:
                values["blocks"] = (widths[len(widths) // 2],) * blocks
        return values

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """Keep the number of downsamplings too when only `width` changes."""
        kept, widths = super().under(below, above), below.get("widths")
        if "width" in above and above["width"] != below.get("width") and isinstance(widths, list):
            kept["downs"] = len(widths) // 2
        return kept

    def check(self) -> None:
        if len(self.widths) % 2 == 0:
            raise ValueError("the number of widths must be odd, because it upsamples as often as it downsamples")

    @property
    def downs(self) -> int:
        """The number of downsamplings, and of upsamplings."""
        return len(self.widths) // 2

    @property
    def padding_mode(self) -> str:
        """`padding` in the terms of PyTorch's convolutions."""
        return "zeros" if self.padding == "zero" else self.padding

    def student(self, width: int) -> "MobileResNetConfig":
        """A mobile ResNet with as many downsamplings and blocks."""
        return self._mobile(width, self.downs, len(self.blocks))

    def _mobile(self, width: int, downs: int, blocks: int) -> "MobileResNetConfig":
        shape = MobileResNetConfig(width=width, downs=downs, blocks=blocks)
        return shape.with_channels(self.in_channels, self.out_channels)

    @property
    def _stages(self) -> tuple[str, ...]:
        """The names of `widths`."""
        downs = range(1, self.downs)
        return ("stem", *(f"down{i}" for i in downs), "trunk", *(f"up{i + 1}" for i in range(self.downs)))

    def widths_by_group(self) -> dict[str, int]:
        blocks = {f"block{i + 1}": inner for i, inner in enumerate(self.blocks)}
        return self._around(dict(zip(self._stages, self.widths, strict=True)), blocks)

    def _around(self, stages: dict, blocks: dict) -> dict:
        """The values of stages and blocks, by name, from input to output."""
        names = self._stages
        before, after = names[: self.downs + 1], names[self.downs + 1 :]
        return {name: stages[name] for name in before} | blocks | {name: stages[name] for name in after}

    def genes(self) -> dict[str, dict[str, int]]:
        """As published: stem, down1, trunk, each third of the residual blocks, up1, up2."""
        count = len(self.blocks)
        thirds: dict[str, dict[str, int]] = {}
        for i in range(count):
            thirds.setdefault(f"blocks{i * 3 // count + 1}", {})[f"block{i + 1}"] = 2**self.downs
        factors = (2 ** min(i, 2 * self.downs - i) for i in range(len(self.widths)))
        return self._around({name: {name: factor} for name, factor in zip(self._stages, factors, strict=True)}, thirds)

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            "widths": tuple(widths[name] for name in self._stages),
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
        }

    def _block(self, trunk: int, inner: int, pixels: int) -> Iterator[Cost]:
        for inputs, outputs in ((trunk, inner), (inner, trunk)):
            yield conv(inputs, outputs, 3, pixels, bias=self.biased)
            yield norm(self.norm, outputs, pixels)

    def _step(self, inputs: int, outputs: int, height: int, width: int, up: bool = False) -> Iterator[Cost]:
        """The costs of a down- or upsampling to maps of this size."""
        pixels = height * width
        if up:
            yield conv_transposed(inputs, outputs, 3, pixels // 4, bias=self.biased)
        else:
            yield conv(inputs, outputs, 3, pixels, bias=self.biased)
        yield norm(self.norm, outputs, pixels)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        height, width = yield from self._before_head(height, width)
        yield conv(self.widths[-1], self.out_channels, self.ends, height * width)

    def _before_head(self, height: int, width: int) -> Generated[Cost, None, tuple[int, int]]:
        """The costs of all layers but the last; returns the size of the last layer's input."""
        stem, trunk = self.widths[0], self.widths[self.downs]
        yield conv(self.in_channels, stem, self.ends, height * width, bias=self.biased)
        yield norm(self.norm, stem, height * width)
        for inputs, outputs in pairwise(self.widths[: self.downs + 1]):
            height, width = -(-height // 2), -(-width // 2)
            yield from self._step(inputs, outputs, height, width)
        yield from self._middle(trunk, height, width)
        for inputs, outputs in pairwise(self.widths[self.downs :]):
            height, width = 2 * height, 2 * width
            yield from self._step(inputs, outputs, height, width, up=True)
        return height, width

    def _middle(self, trunk: int, height: int, width: int) -> Iterator[Cost]:
        for inner in self.blocks:
            yield from self._block(trunk, inner, height * width)


def expand_width(values: dict) -> dict:
    """A Config's values with `widths` instead of the shorthands `width` and `downs`. Raises ValueError."""
    width, downs = take_shorthand(values, "widths", "downs", 2, (2, MAX_DOWNS))
    if width is not None:
        down = [width * 2**i for i in range(downs + 1)]
        values["widths"] = (*down, *reversed(down[:-1]))
    return values


def entries(text: str, blocks: int = 9, *, legacy: bool = False) -> dict[str, tuple[int, ...]]:
    """`widths` and `blocks` of a ResNetConfig from GAN-Compression's notation, such as "16_16_32_16_32_32_16_16".

    The entries are the widths of stem, down1, trunk, the residual blocks' inner layers (one entry for all, or one for
    each third of them), up1 and up2, without the factors 1, 2, 4, 4, 2 and 1 by which the full network multiplies them.
    In the `legacy` form the inner entry is that of blocks 1, 4, 7, ..., and the others are as wide as the trunk. Raises
    ValueError for other numbers of entries.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[1-9]\d{0,5}(_[1-9]\d{0,5})*", text):
        raise ValueError('channels must be whole numbers with "_" between them, such as "24_24_24_32_20_16"')
    if isinstance(blocks, list | tuple):
        raise ValueError("with channels, blocks must be the number of blocks")
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
    """As `ResNetConfig`; the residual convolutions are depthwise 3x3, instance norm, pointwise 1x1. `activation`:
    "relu6" bounds all maps, which suits int8.
    """

    family: Literal["mobile_resnet"] = "mobile_resnet"
    activation: Activation = "published"

    def _block(self, trunk: int, inner: int, pixels: int) -> Iterator[Cost]:
        for inputs, outputs in ((trunk, inner), (inner, trunk)):
            yield conv(inputs, inputs, 3, pixels, groups=inputs)
            yield norm("instance", inputs, pixels)
            yield conv(inputs, outputs, 1, pixels)
            yield norm(self.norm, outputs, pixels)


class Block(nn.Module):
    activate = staticmethod(F.relu)

    def __init__(self, conv1: nn.Module, norm1: nn.Module, conv2: nn.Module, norm2: nn.Module):
        super().__init__()
        self.conv1, self.norm1, self.conv2, self.norm2 = conv1, norm1, conv2, norm2

    def forward(self, x: Tensor) -> Tensor:
        h = self.activate(self.norm1(self.conv1(x)))
        return x + self.norm2(self.conv2(h))


class _SeparableConv(nn.Module):
    """Depthwise 3x3 after reflection padding, instance norm (always), pointwise 1x1."""

    def __init__(self, inputs: int, outputs: int, padding_mode: str):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, padding_mode=padding_mode, groups=inputs)
        self.norm = InstanceNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.norm(self.depthwise(x)))


def block_taps(blocks: int, downs: int = 2) -> tuple[str, ...]:
    """Tap names of a network with this many downsamplings, blocks, and as many upsamplings."""
    steps = range(1, downs + 1)
    names = (f"block{i + 1}" for i in range(blocks))
    return (*(f"down{i}" for i in steps), *names, *(f"up{i}" for i in steps))


def block_places(blocks: int, downs: int = 2) -> tuple[str, ...]:
    """The taps after the last downsampling and after each third of the blocks."""
    return (f"down{downs}", *(f"block{max(1, round(blocks * third / 3))}" for third in (1, 2, 3)))


class ResNet(Generator):
    """Reflection-padded 7x7, strided convolutions, residual blocks, as many transposed convolutions, 7x7, tanh.
    Taps: `down1`, `down2`, ... (after ReLU), `block1` to `blockN`, `up1`, `up2`, ...
    """

    config_class = ResNetConfig
    transposed = True  # whether the upsampling layers are transposed convolutions
    activate = staticmethod(F.relu)

    def __init__(self, config: ResNetConfig):
        super().__init__(config)
        self.multiple = 2**config.downs
        self.min_size = 2 * self.multiple  # the trunk's padding needs 2 pixels
        self.stem, self.stem_norm = self._end(config.in_channels, config.widths[0]), self._normalise(config.widths[0])
        for i, (inputs, outputs) in enumerate(pairwise(config.widths[: config.downs + 1]), 1):
            self.add_module(f"down{i}", self._down(inputs, outputs))
            self.add_module(f"down{i}_norm", self._normalise(outputs))
        self.blocks = nn.ModuleList(self._block(config.widths[config.downs], inner) for inner in config.blocks)
        for i, (inputs, outputs) in enumerate(pairwise(config.widths[config.downs :]), 1):
            self.add_module(f"up{i}", self._up(inputs, outputs))
            self.add_module(f"up{i}_norm", self._normalise(outputs))
        self.head = self._end(config.widths[-1], config.out_channels, bias=True)

    def _end(self, inputs: int, outputs: int, bias: bool | None = None) -> nn.Conv2d:
        """The first or the last convolution."""
        size, bias = self.config.ends, self.config.biased if bias is None else bias
        return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode=self.config.padding_mode, bias=bias)

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
        bias, mode = self.config.biased, self.config.padding_mode
        return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=mode, bias=bias)

    @property
    def taps(self) -> tuple[str, ...]:
        return block_taps(len(self.blocks), self.config.downs)

    @property
    def places(self) -> tuple[str, ...]:
        return block_places(len(self.blocks), self.config.downs)

    def groups(self) -> tuple[Group, ...]:
        """`stem`, `down1`, ..., the residual `trunk`, each block's inner width as `block1`, ..., `up1`, ..."""
        slots, scaled = self._slots(), self.config.norm != "instance"
        return tuple(
            Group(name, width, slots[name][0], slots[name][1] if scaled else None, bypassed="block" in name)
            for name, width in self.config.widths_by_group().items()
            if width
        )

    def _slots(self) -> dict[str, tuple[tuple[Slot, ...], str]]:
        """By group, the slots of its channels, and the name of the norm weight that scales them."""
        downs = self.config.downs
        trunk, inner = self._residual_groups()
        found = {"stem": ((*writes("stem"), *passes("stem_norm"), *reads(self._entry("down1"))), "stem_norm.weight")}
        for i in range(1, downs):
            found[f"down{i}"] = (*self._stage(f"down{i}"), *reads(self._entry(f"down{i + 1}"))), f"down{i}_norm.weight"
        entries = [reads(self._entry(f"up{i + 1}"), transposed=self.transposed) for i in range(downs)]
        found["trunk"] = (*self._stage(f"down{downs}"), *trunk, *entries[0]), f"down{downs}_norm.weight"
        for i, after in enumerate((*entries[1:], self._after_ups()), 1):
            found[f"up{i}"] = (*self._stage(f"up{i}"), *after), f"up{i}_norm.weight"
        return found | inner

    def _after_ups(self) -> tuple[Slot, ...]:
        """Further slots of the channels of the last upsampling."""
        return reads("head")

    def _residual_groups(self, prefix: str = "") -> tuple[list[Slot], dict[str, tuple[tuple[Slot, ...], str]]]:
        """The trunk's slots in the residual blocks; and, by group, the slots of the channels within them and the
        name of the norm weight that scales these. `prefix` is that of the blocks' list and groups.
        """
        trunk, inner = [], {}
        for name, block in self.get_submodule(f"{prefix}blocks").named_children():
            inside = f"{prefix}blocks.{name}"
            conv1, conv2 = (self._residual(f"{inside}.{leaf}") for leaf in ("conv1", "conv2"))
            if not isinstance(block, Block):
                trunk += self._extra(inside)
                continue
            trunk += (*conv1[0], *conv2[1], *passes(f"{inside}.norm2"))
            slots = (*conv1[1], *passes(f"{inside}.norm1"), *conv2[0])
            inner[f"{prefix}block{len(inner) + 1}"] = slots, f"{inside}.norm1.weight"
        return trunk, inner

    def _entry(self, stage: str) -> str:
        """The first convolution of a down- or upsampling stage."""
        return stage

    def _stage(self, name: str) -> tuple[Slot, ...]:
        """The slots within a down- or upsampling stage of the channels that it produces."""
        return (*writes(name, transposed=name.startswith("up") and self.transposed), *passes(f"{name}_norm"))

    @staticmethod
    def _residual(name: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        """The slots of the inputs and of the outputs of a block's convolution."""
        return reads(name), writes(name)

    def _extra(self, name: str) -> tuple[Slot, ...]:
        """The trunk's slots in a block of another kind."""
        raise NotImplementedError

    def _shrunk(self, h: Tensor) -> Tensor:
        """What a downsampling stage computes after its ReLU."""
        return h

    def tap_channels(self, name: str) -> int:
        stages = self.config.widths_by_group()
        return stages["trunk" if name.startswith("block") or name not in stages else name]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        h, taps = self._before_head(x, names)
        return self._image(self.head(h)), taps

    def _before_head(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The input of the last convolution, and the taps."""
        taps = {}

        def tap(name: str, value: Tensor) -> Tensor:
            if name in names:
                taps[name] = value
            return value

        def step(name: str, h: Tensor) -> Tensor:
            return self.activate(getattr(self, f"{name}_norm")(getattr(self, name)(h)))

        h = step("stem", x)
        for i in range(self.config.downs):
            h = tap(f"down{i + 1}", self._shrunk(step(f"down{i + 1}", h)))
        for i, block in enumerate(self.blocks):
            h = tap(f"block{i + 1}", block(h))
        for i in range(self.config.downs):
            h = tap(f"up{i + 1}", step(f"up{i + 1}", h))
        return h, taps

    def _image(self, h: Tensor) -> Tensor:
        """The image from the output of the last convolution."""
        return h.tanh()


class MobileResNet(ResNet):
    """`ResNet` with separable residual convolutions: 83 times fewer parameters at width 16."""

    config_class = MobileResNetConfig

    def __init__(self, config: MobileResNetConfig):
        super().__init__(config)
        if config.activation == "relu6":
            for module in (self, *self.blocks):
                module.activate = F.relu6

    def _residual_conv(self, inputs: int, outputs: int) -> nn.Module:
        return _SeparableConv(inputs, outputs, self.config.padding_mode)

    @staticmethod
    def _residual(name: str) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
        inputs = (*passes(f"{name}.depthwise"), *passes(f"{name}.norm"), *reads(f"{name}.pointwise"))
        return inputs, writes(f"{name}.pointwise")
