"""OMGD's deep teachers: a U-Net and a mobile ResNet with widening residual blocks (Ren et al., ICCV 2021)."""

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.base import Norm, norm_layer
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.resnet import MobileResNet, MobileResNetConfig
from vemcompress.networks.generators.unet import UNet, UNetConfig
from vemcompress.networks.slots import Slot, passes, reads, writes

EXPANSION = 4


class Bottleneck(nn.Module):
    """x + f(x) on n channels: 1x1 to 4n, 3x3, 1x1 back to n, 3x3, each with its norm, ReLU between. As published,
    the reflection padding of the first 3x3 comes before the 1x1, so the statistics of the norm between them include
    the padded border.
    """

    def __init__(self, channels: int, norm: Norm, padding_mode: str = "reflect"):
        super().__init__()
        inner, bias = EXPANSION * channels, norm != "batch"
        padded = {"padding": 1, "padding_mode": padding_mode, "bias": bias}
        self.convs = nn.ModuleList(
            (
                nn.Conv2d(channels, inner, 1, **padded),
                nn.Conv2d(inner, inner, 3, bias=bias),
                nn.Conv2d(inner, channels, 1, bias=bias),
                nn.Conv2d(channels, channels, 3, **padded),
            )
        )
        self.norms = nn.ModuleList(norm_layer(norm, layer.out_channels) for layer in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, (layer, normalise) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = normalise(layer(h))
            if i < 3:
                h = F.relu(h)
        return x + h


def bottleneck_slots(name: str, start: int = 0) -> tuple[Slot, ...]:
    """The slots of channels in a `Bottleneck` from its channel `start` on, each with its four expanded channels."""
    outer, inner, slots = {"start": start}, {"start": EXPANSION * start, "each": EXPANSION}, []
    for i, (inputs, outputs) in enumerate(((outer, inner), (inner, inner), (inner, outer), (outer, outer))):
        slots += (*reads(f"{name}.convs.{i}", **inputs), *writes(f"{name}.convs.{i}", **outputs))
        slots += passes(f"{name}.norms.{i}", **outputs)
    return tuple(slots)


def bottleneck_costs(channels: int, kind: Norm, height: int, width: int) -> Iterator[Cost]:
    """The cost of every layer of a `Bottleneck` on maps of this size."""
    inner, bias = EXPANSION * channels, kind != "batch"
    pixels, padded = height * width, (height + 2) * (width + 2)
    shapes = ((channels, inner, 1, padded), (inner, inner, 3, pixels), (inner, channels, 1, pixels))
    for inputs, outputs, kernel, where in (*shapes, (channels, channels, 3, pixels)):
        yield conv(inputs, outputs, kernel, where, bias=bias)
        yield norm(kind, outputs, where)


BLOCKS = 2


class DeepUNetConfig(UNetConfig):
    """As `UNetConfig`, with the widths of the student beside the teacher: `width = 16`."""

    family: Literal["deep_unet"] = "deep_unet"
    activation: Literal["published"] = "published"

    def up_block(self, level: int) -> int:
        """Channels of a level's decoder blocks: before the outermost transposed convolution, else after it."""
        return self.up[level - 1] if level else self.deconv_inputs(0)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        yield from super().layer_costs(height, width)
        for level in range(len(self.down) - 1):
            below = height // 2, width // 2
            for _ in range(BLOCKS):
                yield from bottleneck_costs(self.down[level], self.norm, *below)
                yield from bottleneck_costs(self.up_block(level), self.norm, *((height, width) if level else below))
            height, width = below


class DeepUNet(UNet):
    """`UNet` with two `Bottleneck` blocks in encoder and decoder at every level but the innermost.

    In the encoder they follow the convolution and its norm, so a skip carries their activated output. In the decoder
    they follow the transposed convolution and its norm. The outermost decoder blocks come before ReLU and transposed
    convolution, on the concatenation of skip and decoder maps. Taps as in `UNet`.
    """

    config_class = DeepUNetConfig

    def __init__(self, config: DeepUNetConfig):
        super().__init__(config)

        def blocks(channels: int) -> nn.Module:
            return nn.Sequential(*(Bottleneck(channels, config.norm) for _ in range(BLOCKS)))

        levels = range(len(config.down) - 1)
        self.down_blocks = nn.ModuleList(blocks(config.down[level]) for level in levels)
        self.up_blocks = nn.ModuleList(blocks(config.up_block(level)) for level in levels)

    def _blocks_down(self, level: int) -> tuple[Slot, ...]:
        names = [f"down_blocks.{level}", *([] if level else ["up_blocks.0"])]
        return tuple(s for name in names for i in range(BLOCKS) for s in bottleneck_slots(f"{name}.{i}"))

    def _blocks_up(self, level: int) -> tuple[Slot, ...]:
        slots = []
        for i in range(BLOCKS):
            if level + 1 < len(self.up_blocks):
                slots += bottleneck_slots(f"up_blocks.{level + 1}.{i}")
            if level == 0:
                slots += bottleneck_slots(f"up_blocks.0.{i}", start=self.config.down[0])
        return tuple(slots)

    def _blocks(self, way: Literal["down", "up"], level: int, h: Tensor) -> Tensor:
        blocks = self.down_blocks if way == "down" else self.up_blocks
        return blocks[level](h) if level < len(blocks) else h


MIDDLE = 2  # bottlenecks in the middle of the mobile blocks


class DeepMobileResNetConfig(MobileResNetConfig):
    """As `MobileResNetConfig`, with the student's widths; `blocks` are the mobile blocks, without the bottlenecks."""

    family: Literal["deep_mobile_resnet"] = "deep_mobile_resnet"
    activation: Literal["published"] = "published"

    def check(self) -> None:
        if len(self.widths) != 5:
            raise ValueError("there must be five widths, because it downsamples twice")

    def _step(self, inputs: int, outputs: int, height: int, width: int, up: bool = False) -> Iterator[Cost]:
        yield from super()._step(inputs, outputs, height, width, up)
        yield from bottleneck_costs(outputs, self.norm, height, width)
        yield conv(outputs, outputs, 3, height * width, bias=self.biased)
        yield norm(self.norm, outputs, height * width)

    def _middle(self, trunk: int, height: int, width: int) -> Iterator[Cost]:
        yield from super()._middle(trunk, height, width)
        for _ in range(MIDDLE):
            yield from bottleneck_costs(trunk, self.norm, height, width)


class DeepMobileResNet(MobileResNet):
    """`MobileResNet` with a `Bottleneck` and a dense 3x3 convolution (norm, ReLU) after every down- and upsampling, and
    two bottlenecks after the first half of the mobile blocks (4 of 9).

    Taps as in `ResNet`, all after the stage's last ReLU; `block1`, ... include the bottlenecks in the middle, 11 in
    all.
    """

    config_class = DeepMobileResNetConfig

    def __init__(self, config: DeepMobileResNetConfig):
        super().__init__(config)
        _, down1, trunk, up1, up2 = config.widths
        for name, channels in (("down1", down1), ("down2", trunk), ("up1", up1), ("up2", up2)):
            first, normalise = getattr(self, name), getattr(self, f"{name}_norm")
            dense = nn.Conv2d(channels, channels, 3, padding=1, bias=config.biased)
            widening = Bottleneck(channels, config.norm, config.padding_mode)
            setattr(self, name, nn.Sequential(first, normalise, nn.ReLU(), widening, dense))
            setattr(self, f"{name}_norm", norm_layer(config.norm, channels))
        middle = len(config.blocks) // 2
        bottlenecks = (Bottleneck(trunk, config.norm, config.padding_mode) for _ in range(MIDDLE))
        self.blocks = nn.ModuleList((*self.blocks[:middle], *bottlenecks, *self.blocks[middle:]))

    def _entry(self, stage: str) -> str:
        return f"{stage}.0"

    def _stage(self, name: str) -> tuple[Slot, ...]:
        first = (*writes(f"{name}.0", transposed=name.startswith("up")), *passes(f"{name}.1"))
        dense = (*reads(f"{name}.4"), *writes(f"{name}.4"), *passes(f"{name}_norm"))
        return (*first, *bottleneck_slots(f"{name}.3"), *dense)

    def _extra(self, name: str) -> tuple[Slot, ...]:
        return bottleneck_slots(name)
