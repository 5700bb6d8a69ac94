"""U-GAT-IT's generator, light and full (Kim et al., ICLR 2020), as in znxlwm/UGATIT-pytorch.

An encoder, attention, and a decoder whose norms (AdaILN) get their scales and shifts from the attended maps.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Generator, ImageConfig, Taps, expands_shorthands, take_width
from vemcompress.networks.cost import Cost, conv, linear, norm
from vemcompress.networks.generators.resnet import (
    MAX_BLOCKS,
    Block,
    MobileResNetConfig,
    block_places,
    block_taps,
)
from vemcompress.networks.joint_norms import AdaptiveNorm, LayerInstanceNorm, passes_jointly
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import Width

_WIDTHS = ("stem", "down1", "encoder", "decoder", "up1", "up2")


class UGATITConfig(ImageConfig):
    """`widths`: widths of (stem, down1, encoder, decoder, up1, up2). `blocks`: inner width of each residual block of
    the encoder, or their number; the decoder has as many blocks, all as wide as itself. `drive`: widths of the two
    layers that compute the decoder's norms. `width = n` stands for (n, 2n, 4n, 4n, 2n, n) with 4 blocks.

    `full_size`: None is the light form, whose two layers read the maps' means. A number is the full form, which reads
    all pixels of images with this side, in pixels, and accepts no other size.
    """

    counted: ClassVar = ("blocks", "blocks")
    replaces: ClassVar = {"width": ("widths", "drive")}

    family: Literal["ugatit"] = "ugatit"
    norm: Literal["adaptive"] = "adaptive"
    widths: tuple[Width, Width, Width, Width, Width, Width] = Field(strict=False)
    blocks: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)
    drive: tuple[Width, Width] = Field(strict=False)
    full_size: Annotated[int, Field(ge=8, le=4096, multiple_of=4)] | None = None

    @expands_shorthands
    def _expand_width(cls, values):
        n, count = take_width(values, 4, MAX_BLOCKS)
        if n is not None:
            widths = (n, 2 * n, 4 * n, 4 * n, 2 * n, n)
            values = {"blocks": (4 * n,) * count, "drive": (4 * n, 4 * n), "widths": widths} | values
        return values

    def student(self, width: int) -> MobileResNetConfig:
        """A mobile ResNet with as many blocks as encoder and decoder have, for images of any size."""
        shape = MobileResNetConfig(width=width, blocks=min(2 * len(self.blocks), MAX_BLOCKS))
        return shape.with_channels(self.in_channels, self.out_channels)

    def widths_by_group(self) -> dict[str, int]:
        outer = dict(zip(_WIDTHS, self.widths, strict=True))
        blocks = {f"block{i + 1}": inner for i, inner in enumerate(self.blocks)}
        before = {name: outer[name] for name in _WIDTHS[:3]}
        drive = {"drive1": self.drive[0], "drive2": self.drive[1]}
        return before | blocks | drive | {name: outer[name] for name in _WIDTHS[3:]}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            "widths": tuple(widths[name] for name in _WIDTHS),
            "blocks": tuple(widths[f"block{i + 1}"] for i in range(len(self.blocks))),
            "drive": (widths["drive1"], widths["drive2"]),
        }

    @property
    def pixels(self) -> int:
        """Pixels of the maps that the layers of `drive` read: all of them, or 1 for their mean."""
        return (self.full_size // 4) ** 2 if self.full_size else 1

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        stem, down1, encoder, decoder, up1, up2 = self.widths
        inputs = self.in_channels
        for outputs, kernel, step in ((stem, 7, 1), (down1, 3, 2), (encoder, 3, 2)):
            height, width = -(-height // step), -(-width // step)
            yield conv(inputs, outputs, kernel, height * width, bias=False)
            yield norm("instance", outputs, height * width)
            inputs = outputs
        pixels = height * width
        for inner in self.blocks:
            for inputs, outputs in ((encoder, inner), (inner, encoder)):
                yield conv(inputs, outputs, 3, pixels, bias=False)
                yield norm("instance", outputs, pixels)
        yield Cost(parameters=2 * encoder)  # the attention's weights, which multiply maps
        yield conv(2 * encoder, decoder, 1, pixels)
        yield linear(self.pixels * decoder, self.drive[0], bias=False)
        yield linear(*self.drive, bias=False)
        for _ in ("gamma", "beta"):
            yield linear(self.drive[1], decoder, bias=False)
        for _ in range(2 * len(self.blocks)):
            yield conv(decoder, decoder, 3, pixels, bias=False)
            yield norm("adaptive", decoder, pixels)
        for inputs, outputs in ((decoder, up1), (up1, up2)):
            height, width = 2 * height, 2 * width
            yield conv(inputs, outputs, 3, height * width, bias=False)
            yield norm("iln", outputs, height * width)
        yield conv(up2, self.out_channels, 7, height * width, bias=False)


class _AdaptiveBlock(nn.Module):
    """A residual block whose norms get gamma and beta as inputs."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = _conv(channels, channels), AdaptiveNorm(channels)
        self.conv2, self.norm2 = _conv(channels, channels), AdaptiveNorm(channels)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x), gamma, beta))
        return x + self.norm2(self.conv2(h), gamma, beta)


class UGATIT(Generator):
    """7x7, two strided convolutions, residual blocks; the maps weighted by both class activation maps, merged by a 1x1
    convolution; blocks with AdaILN, two nearest-neighbour enlargements, each with a convolution and ILN, 7x7, tanh.

    Only the image is returned, not the other published outputs. Taps: `down1`, `down2`, `block1`, ... of the encoder
    and then of the decoder, `up1`, `up2`.
    """

    config_class = UGATITConfig
    multiple, min_size = 4, 8

    def __init__(self, config: UGATITConfig):
        super().__init__(config)
        self.only_size = config.full_size
        stem, down1, encoder, decoder, up1, up2 = config.widths
        self.stem, self.stem_norm = _conv(config.in_channels, stem, 7), InstanceNorm2d(stem)
        self.down1, self.down1_norm = _conv(stem, down1, stride=2), InstanceNorm2d(down1)
        self.down2, self.down2_norm = _conv(down1, encoder, stride=2), InstanceNorm2d(encoder)
        self.encoder = nn.ModuleList(
            Block(_conv(encoder, inner), InstanceNorm2d(inner), _conv(inner, encoder), InstanceNorm2d(encoder))
            for inner in config.blocks
        )
        self.average, self.largest = (nn.Linear(encoder, 1, bias=False) for _ in range(2))
        self.join = nn.Conv2d(2 * encoder, decoder, 1)
        self.drive1 = nn.Linear(config.pixels * decoder, config.drive[0], bias=False)
        self.drive2 = nn.Linear(*config.drive, bias=False)
        self.gamma, self.beta = (nn.Linear(config.drive[1], decoder, bias=False) for _ in range(2))
        self.decoder = nn.ModuleList(_AdaptiveBlock(decoder) for _ in config.blocks)
        self.up1, self.up1_norm = _conv(decoder, up1), LayerInstanceNorm(up1)
        self.up2, self.up2_norm = _conv(up1, up2), LayerInstanceNorm(up2)
        self.head = _conv(up2, config.out_channels, 7)

    @property
    def taps(self) -> tuple[str, ...]:
        return block_taps(2 * len(self.encoder))

    @property
    def places(self) -> tuple[str, ...]:
        return block_places(2 * len(self.encoder))

    def tap_channels(self, name: str) -> int:
        widths = dict(zip(_WIDTHS, self.config.widths, strict=True))
        if name.startswith("block"):
            return widths["encoder" if int(name[5:]) <= len(self.encoder) else "decoder"]
        return widths.get(name, widths["encoder"])

    def groups(self) -> tuple[Group, ...]:
        """`stem`, `down1`, the `encoder`'s trunk, its blocks' inner widths `block1`, ..., the layers `drive1` and
        `drive2`, the `decoder`, whose layers all share gamma and beta, `up1` and `up2`.
        """
        of_encoder, found = [*writes("down2"), *passes("down2_norm")], {}
        for i in range(len(self.encoder)):
            name = f"encoder.{i}"
            inner = (*writes(f"{name}.conv1"), *passes(f"{name}.norm1"), *reads(f"{name}.conv2"))
            found[f"block{i + 1}"] = inner
            of_encoder += (*reads(f"{name}.conv1"), *writes(f"{name}.conv2"), *passes(f"{name}.norm2"))
        of_encoder += (Slot("average.weight", 1), Slot("largest.weight", 1))
        of_encoder += (*reads("join"), *reads("join", start=self.config.widths[2]))
        of_decoder = [*writes("join"), *reads("drive1", each=self.config.pixels), *writes("gamma"), *writes("beta")]
        for i in range(len(self.decoder)):
            for layer in (1, 2):
                conv = f"decoder.{i}.conv{layer}"
                of_decoder += (*reads(conv), *writes(conv), *passes_jointly(f"decoder.{i}.norm{layer}"))
        found |= {
            "stem": (*writes("stem"), *passes("stem_norm"), *reads("down1")),
            "down1": (*writes("down1"), *passes("down1_norm"), *reads("down2")),
            "encoder": tuple(of_encoder),
            "drive1": (*writes("drive1"), *reads("drive2")),
            "drive2": (*writes("drive2"), *reads("gamma"), *reads("beta")),
            "decoder": (*of_decoder, *reads("up1")),
            "up1": (*writes("up1"), *passes_jointly("up1_norm"), *reads("up2")),
            "up2": (*writes("up2"), *passes_jointly("up2_norm"), *reads("head")),
        }
        widths = self.config.widths_by_group()
        return tuple(Group(name, width, found[name], bypassed="block" in name) for name, width in widths.items())

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        h = F.relu(self.stem_norm(self.stem(x)))
        found = {"down1": F.relu(self.down1_norm(self.down1(h)))}
        h = found["down2"] = F.relu(self.down2_norm(self.down2(found["down1"])))
        for i, block in enumerate(self.encoder, 1):
            h = found[f"block{i}"] = block(h)
        seen = [h * attention.weight[:, :, None, None] for attention in (self.average, self.largest)]
        h = F.relu(self.join(torch.cat(seen, dim=1)))
        read = h.flatten(1) if self.config.full_size else h.mean((2, 3))
        code = F.relu(self.drive2(F.relu(self.drive1(read))))
        gamma, beta = self.gamma(code), self.beta(code)
        for i, block in enumerate(self.decoder, 1 + len(self.encoder)):
            h = found[f"block{i}"] = block(h, gamma, beta)
        for name, layer, normalise in (("up1", self.up1, self.up1_norm), ("up2", self.up2, self.up2_norm)):
            h = found[name] = F.relu(normalise(layer(F.interpolate(h, scale_factor=2.0))))
        return self.head(h).tanh(), {name: found[name] for name in names if name in found}


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)
