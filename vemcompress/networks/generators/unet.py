"""The Pix2Pix U-Net (Isola et al., CVPR 2017) of any depth."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import (
    Activation,
    Generator,
    ImageConfig,
    Norm,
    Taps,
    expands_shorthands,
    norm_layer,
    take_shorthand,
)
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import Width

MAX_DOWNS = 12


class UNetConfig(ImageConfig):
    """`down`: width after each down convolution. `up`: width after the transposed convolution back to each level,
    one fewer than in down, because the outermost one gives the output channels. `activation`: "relu6" bounds all
    maps, which suits int8. `width = n` and `downs = 8` stand for the published (n, 2n, 4n, 8n, ..., 8n).
    """

    batch: ClassVar[int] = 4
    counted: ClassVar = ("down", "downs")
    replaces: ClassVar = {"width": ("down", "up"), "downs": ("down", "up")}

    family: Literal["unet"] = "unet"
    norm: Norm = "batch"
    activation: Activation = "published"
    down: tuple[Width, ...] = Field(strict=False, min_length=2, max_length=MAX_DOWNS)
    up: tuple[Width, ...] = Field(strict=False, max_length=MAX_DOWNS - 1)

    @expands_shorthands
    def _expand_width(cls, values):
        width, downs = take_shorthand(values, "down", "downs", 8, (2, MAX_DOWNS))
        if width is not None:
            values["down"] = tuple(width * min(2**i, 8) for i in range(downs))
        if isinstance(values.get("down"), list | tuple) and "up" not in values:
            values["up"] = tuple(values["down"][:-1])
        return values

    def check(self) -> None:
        if len(self.up) != len(self.down) - 1:
            raise ValueError("up must have one width fewer than down")

    def advice(self, size: int) -> str:
        halvings = (size & -size).bit_length() - 1
        return f"downs={halvings}" if halvings >= 2 else ""

    def student(self, width: int) -> "UNetConfig":
        """A U-Net of the same depth and norm."""
        config = UNetConfig(width=width, downs=len(self.down), norm=self.norm)
        return config.with_channels(self.in_channels, self.out_channels)

    def widths_by_group(self) -> dict[str, int]:
        down = {f"down{i + 1}": width for i, width in enumerate(self.down)}
        return down | {f"up{i + 1}": self.up[i] for i in reversed(range(len(self.up)))}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            "down": tuple(widths[f"down{i + 1}"] for i in range(len(self.down))),
            "up": tuple(widths[f"up{i + 1}"] for i in range(len(self.up))),
        }

    def deconv_inputs(self, level: int) -> int:
        """Channels that enter the transposed convolution of a level (0 is the outermost): the skip and the decoder's
        maps.
        """
        innermost = level == len(self.down) - 1
        return self.down[level] + (0 if innermost else self.up[level])

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        bias, last = self.biased, len(self.down) - 1
        for level in range(last + 1):
            inputs = self.down[level - 1] if level else self.in_channels
            height, width = height // 2, width // 2
            pixels = height * width
            yield conv(inputs, self.down[level], 4, pixels, bias=bias)
            if 0 < level < last:
                yield norm(self.norm, self.down[level], pixels)
            outputs = self.up[level - 1] if level else self.out_channels
            yield conv_transposed(self.deconv_inputs(level), outputs, 4, pixels, bias=bias or level == 0)
            if level:
                yield norm(self.norm, outputs, 4 * pixels)


class UNet(Generator):
    """4x4 convolutions of stride 2 down to the bottom, and transposed ones back up, with skip connections.

    The published LeakyReLU works in place, so a skip carries the activated map. Taps: `downK`, the activated map after
    the K-th downsampling; `upK`, the input of the K-th transposed convolution counted from the outside: the activated
    concatenation of skip and decoder maps (for the innermost, only the activated map); `riseK`, from K = 2 on: the
    output of the K-th transposed convolution, normalised and not activated.
    """

    config_class = UNetConfig

    def __init__(self, config: UNetConfig):
        super().__init__(config)
        bias, levels = config.biased, len(config.down)
        self.multiple = self.min_size = 2**levels
        inputs = (config.in_channels, *config.down[:-1])
        outputs = (config.out_channels, *config.up)
        self.downs = nn.ModuleList(
            nn.Conv2d(i, o, 4, stride=2, padding=1, bias=bias) for i, o in zip(inputs, config.down, strict=True)
        )
        self.down_norms = nn.ModuleList(
            norm_layer(config.norm, c) if 0 < level < levels - 1 else nn.Identity()
            for level, c in enumerate(config.down)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(config.deconv_inputs(level), o, 4, stride=2, padding=1, bias=bias or level == 0)
            for level, o in enumerate(outputs)
        )
        self.up_norms = nn.ModuleList(
            norm_layer(config.norm, c) if level else nn.Identity() for level, c in enumerate(outputs)
        )

    @property
    def taps(self) -> tuple[str, ...]:
        levels = len(self.downs)
        ways = [f"{way}{i + 1}" for i in reversed(range(levels)) for way in ("up", "rise") if i or way == "up"]
        return (*(f"down{i + 1}" for i in range(levels)), *ways)

    @property
    def places(self) -> tuple[str, ...]:
        """After the second downsampling and half-way down, and at the same levels in the decoder."""
        half = len(self.downs) // 2
        return ("down2", f"down{half}", f"up{half}", "up2") if half > 2 else ("down2", "up2")

    def groups(self) -> tuple[Group, ...]:
        """`down1`, ... as the taps; `upK` are the channels that enter the K-th transposed convolution beside the
        skip. The innermost level has no skip, so the last `up` is one level further out.
        """
        found, last = {}, len(self.downs) - 1
        for level, width in enumerate(self.config.down):
            slots = [*writes(f"downs.{level}"), *reads(f"ups.{level}", transposed=True)]
            if level < last:
                slots += (*reads(f"downs.{level + 1}"), *self._blocks_down(level))
            normed = 0 < level < last
            found[f"down{level + 1}"] = self._group(f"down{level + 1}", width, slots, level, "down" if normed else None)
        for level, width in enumerate(self.config.up):
            slots = [*writes(f"ups.{level + 1}", transposed=True), *self._blocks_up(level)]
            slots += reads(f"ups.{level}", transposed=True, start=self.config.down[level])
            found[f"up{level + 1}"] = self._group(f"up{level + 1}", width, slots, level + 1, "up")
        return tuple(found[name] for name in self.config.widths_by_group())

    def _group(self, name: str, width: int, slots: list[Slot], level: int, normed: str | None) -> Group:
        if normed is None:
            return Group(name, width, tuple(slots))
        norm = f"{normed}_norms.{level}"
        scale = f"{norm}.weight" if self.config.norm != "instance" else None
        return Group(name, width, (*slots[:2], *passes(norm), *slots[2:]), scale)

    def _blocks_down(self, level: int) -> tuple[Slot, ...]:
        """Further slots of a level's channels in the encoder."""
        return ()

    def _blocks_up(self, level: int) -> tuple[Slot, ...]:
        """Further slots of the channels that come up to a level."""
        return ()

    def tap_channels(self, name: str) -> int:
        if name.startswith("down"):
            return self.config.down[int(name[4:]) - 1]
        if name.startswith("rise"):
            return self.config.up[int(name[4:]) - 2]
        return self.config.deconv_inputs(int(name[2:]) - 1)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps, skips, h, last = {}, [], x, len(self.downs) - 1
        for level, (down, normalise) in enumerate(zip(self.downs, self.down_norms, strict=True)):
            h = self._blocks("down", level, normalise(down(h)))
            h = self._activate_down(h) if level < last else self._activate(h)
            skips.append(h)
            if f"down{level + 1}" in names:
                taps[f"down{level + 1}"] = h
        for level in reversed(range(last + 1)):
            if level < last:
                h = torch.cat((skips[level], h), dim=1)
                h = self._activate(h if level else self._blocks("up", 0, h))
            if f"up{level + 1}" in names:
                taps[f"up{level + 1}"] = h
            h = self.up_norms[level](self.ups[level](h))
            h = self._blocks("up", level, h) if level else h
            if f"rise{level + 1}" in names and level:
                taps[f"rise{level + 1}"] = h
        return h.tanh(), taps

    def _activate(self, h: Tensor) -> Tensor:
        return F.relu6(h) if self.config.activation == "relu6" else F.relu(h)

    def _activate_down(self, h: Tensor) -> Tensor:
        return F.relu6(h) if self.config.activation == "relu6" else F.leaky_relu(h, 0.2)

    def _blocks(self, way: Literal["down", "up"], level: int, h: Tensor) -> Tensor:
        """Further blocks of a level: after its norm; in the outermost decoder level, before ReLU and transposed
        convolution.
        """
        return h
