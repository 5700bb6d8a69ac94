"""AnimeGANv2's generator (Chen et al., 2020), as in bryandlee/animegan2-pytorch."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Generator, ImageConfig, Taps, expands_shorthands, take_width
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.resnet import block_places, block_taps
from vemcompress.networks.joint_norms import LayerNorm2d, passes_jointly
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import Width

MAX_BLOCKS = 16
EXPANSION = 2
# The convolutions around the residual blocks by name, with kernel size and stride; `trunk` is the blocks' output.
BEFORE = {"a1": (7, 1), "a2": (3, 2), "a3": (3, 1), "b1": (3, 2), "b2": (3, 1), "c1": (3, 1)}
AFTER = {"c2": (3, 1), "d1": (3, 1), "d2": (3, 1), "e1": (3, 1), "e2": (3, 1), "e3": (7, 1)}
_NAMES = (*BEFORE, "trunk", *AFTER)
_FACTORS = (1, 2, 2, 4, 4, 4, 8, 4, 4, 4, 2, 2, 1)


class AnimeGAN2Config(ImageConfig):
    """`widths`: widths of (a1, a2, a3, b1, b2, c1, trunk, c2, d1, d2, e1, e2, e3), where the letters are those of
    the published blocks. `blocks`: inner width of each inverted residual block, or their number. `width = n` stands
    for (n, 2n, 2n, 4n, 4n, 4n, 8n, 4n, 4n, 4n, 2n, 2n, n) with 4 blocks that expand by 2; published with n = 32.
    """

    counted: ClassVar = ("blocks", "blocks")
    replaces: ClassVar = {"width": ("widths",)}

    family: Literal["animegan2"] = "animegan2"
    norm: Literal["layer"] = "layer"
    widths: tuple[Width, ...] = Field(strict=False, min_length=len(_NAMES), max_length=len(_NAMES))
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)

    @expands_shorthands
    def _expand_width(cls, values):
        n, count = take_width(values, 4, MAX_BLOCKS)
        if n is not None:
            blocks = (EXPANSION * 4 * n, *((EXPANSION * 8 * n,) * (count - 1)))
            values = {"blocks": blocks, "widths": tuple(n * factor for factor in _FACTORS)} | values
        return values

    def student(self, width: int) -> "AnimeGAN2Config":
        """The same architecture with other widths."""
        shape = AnimeGAN2Config(width=width, blocks=len(self.blocks))
        return shape.with_channels(self.in_channels, self.out_channels)

    def widths_by_group(self) -> dict[str, int]:
        outer = dict(zip(_NAMES, self.widths, strict=True))
        blocks = {f"block{i + 1}": inner for i, inner in enumerate(self.blocks)}
        return {name: outer[name] for name in (*BEFORE, "trunk")} | blocks | {name: outer[name] for name in AFTER}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            "widths": tuple(widths[name] for name in _NAMES),
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
        }

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        outer, inputs, sizes = dict(zip(_NAMES, self.widths, strict=True)), self.in_channels, [(height, width)]
        for name, (kernel, stride) in BEFORE.items():
            if stride == 2:
                sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
            yield from _layer(inputs, outer[name], kernel, sizes[-1])
            inputs = outer[name]
        for inner in self.blocks:
            yield from _layer(inputs, inner, 1, sizes[-1])
            yield from _layer(inner, inner, 3, sizes[-1], depthwise=True)
            yield from _layer(inner, outer["trunk"], 1, sizes[-1])
            inputs = outer["trunk"]
        for name, (kernel, _) in AFTER.items():
            if name in ("d1", "e1"):
                sizes.pop()
            yield from _layer(inputs, outer[name], kernel, sizes[-1])
            inputs = outer[name]
        yield conv(inputs, self.out_channels, 1, height * width, bias=False)


def _layer(inputs: int, outputs: int, kernel: int, size: tuple[int, int], depthwise: bool = False) -> Iterator[Cost]:
    """A convolution and its norm; only depthwise ones have a bias."""
    pixels = size[0] * size[1]
    yield conv(inputs, outputs, kernel, pixels, groups=inputs if depthwise else 1, bias=depthwise)
    yield norm("layer", outputs, pixels)


class Unit(nn.Module):
    """Reflection padding, convolution, layer norm, LeakyReLU 0.2. With stride 2 only the right and the bottom are
    padded.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=groups > 1)
        self.norm = LayerNorm2d(outputs)
        both = kernel // 2
        self.padding = (0, 1, 0, 1) if stride == 2 else (both,) * 4

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, self.padding, mode="reflect") if any(self.padding) else x
        return F.leaky_relu(self.norm(self.conv(padded)), 0.2)


class InvertedBlock(nn.Module):
    """1x1, depthwise 3x3, 1x1 without an activation; with a `skip` the input is added."""

    def __init__(self, inputs: int, inner: int, outputs: int, skip: bool):
        super().__init__()
        self.expand, self.spatial = Unit(inputs, inner, 1), Unit(inner, inner, 3, groups=inner)
        self.project, self.norm = nn.Conv2d(inner, outputs, 1, bias=False), LayerNorm2d(outputs)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.project(self.spatial(self.expand(x))))
        return x + h if self.skip else h


class AnimeGAN2(Generator):
    """Convolutions a to c, two of which downsample; inverted residual blocks, the first without a skip; d and e, before
    each of which the maps are resized (bilinear, corners aligned) to twice their size; 1x1, tanh. Images may have any
    size.

    Taps: `down1` (after a), `down2` (after b), `block1` to `blockN`, `up1` (after d), `up2` (after e).
    """

    config_class = AnimeGAN2Config
    min_size = 8

    def __init__(self, config: AnimeGAN2Config):
        super().__init__(config)
        widths, inputs = dict(zip(_NAMES, config.widths, strict=True)), config.in_channels
        for name, (kernel, stride) in BEFORE.items():
            self.add_module(name, Unit(inputs, widths[name], kernel, stride))
            inputs = widths[name]
        trunk = widths["trunk"]
        self.blocks = nn.ModuleList(
            InvertedBlock(trunk if i else inputs, inner, trunk, skip=i > 0) for i, inner in enumerate(config.blocks)
        )
        inputs = trunk
        for name, (kernel, _) in AFTER.items():
            self.add_module(name, Unit(inputs, widths[name], kernel))
            inputs = widths[name]
        self.head = nn.Conv2d(inputs, config.out_channels, 1, bias=False)

    @property
    def taps(self) -> tuple[str, ...]:
        return block_taps(len(self.blocks))

    @property
    def places(self) -> tuple[str, ...]:
        return block_places(len(self.blocks))

    def tap_channels(self, name: str) -> int:
        made_by = {"down1": "a3", "down2": "b2", "up1": "d2", "up2": "e3"}
        return self.config.widths[_NAMES.index(made_by.get(name, "trunk"))]

    def groups(self) -> tuple[Group, ...]:
        """Every convolution's outputs, by its name; the residual `trunk`; each block's inner width as `block1`, ..."""
        found: dict[str, tuple[tuple[Slot, ...], str]] = {}
        before, after = list(BEFORE), list(AFTER)
        readers = [*(f"{name}.conv" for name in before[1:]), "blocks.0.expand.conv"]
        for name, reader in zip(before, readers, strict=True):
            found[name] = _unit(name, reader)
        trunk = []
        for i in range(len(self.blocks)):
            name = f"blocks.{i}"
            trunk += (*writes(f"{name}.project"), *passes_jointly(f"{name}.norm"))
            trunk += reads(f"{name}.expand.conv") if i else ()
            deep = (*_through(f"{name}.spatial"), *reads(f"{name}.project"))
            found[f"block{i + 1}"] = (*_made(f"{name}.expand"), *deep), f"{name}.expand.norm.weight"
        found["trunk"] = (*trunk, *reads(f"{after[0]}.conv")), "blocks.0.norm.weight"
        for name, reader in zip(after, [*(f"{name}.conv" for name in after[1:]), "head"], strict=True):
            found[name] = _unit(name, reader)
        widths = self.config.widths_by_group()
        return tuple(Group(name, size, *found[name], bypassed="block" in name) for name, size in widths.items())

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        half = self.a3(self.a2(self.a1(x)))
        h = self.b2(self.b1(half))
        found = {"down1": half, "down2": h}
        h = self.c1(h)
        for i, block in enumerate(self.blocks, 1):
            h = found[f"block{i}"] = block(h)
        h = found["up1"] = self.d2(self.d1(_resized(self.c2(h), half)))
        h = found["up2"] = self.e3(self.e2(self.e1(_resized(h, x))))
        return self.head(h).tanh(), {name: found[name] for name in names if name in found}


def _resized(h: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(h, like.shape[2:], mode="bilinear", align_corners=True)


def _made(unit: str) -> tuple[Slot, ...]:
    return (*writes(f"{unit}.conv"), *passes_jointly(f"{unit}.norm"))


def _through(unit: str) -> tuple[Slot, ...]:
    """The slots of a depthwise unit."""
    return (*passes(f"{unit}.conv"), *passes_jointly(f"{unit}.norm"))


def _unit(name: str, reader: str) -> tuple[tuple[Slot, ...], str]:
    return (*_made(name), *reads(reader)), f"{name}.norm.weight"
