"""Generators found by AutoGAN-Distiller (AGD, Fu et al., ICML 2020): a chain of cells with four kinds of operators.

Three convolutions down, cells at a quarter of the side, two transposed convolutions up and one convolution to the
image. Zero padding, no biases, instance norm without parameters, and ReLU after each convolution but the last. This is
the form for unpaired translation; the form for super-resolution is not implemented.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Generator, ImageConfig, Taps, check_number, check_width, expands_shorthands
from vemcompress.networks.cost import Cost, conv, conv_transposed, norm
from vemcompress.networks.generators.resnet import block_places, block_taps
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.system.settings import Width

Operator = Literal["skip", "conv3x3", "residual", "dwsblock"]
OPERATORS: tuple[Operator, ...] = ("skip", "conv3x3", "residual", "dwsblock")
MAX_CELLS, EXPANSION = 64, 4
OWN_COUNT = (
    "The paper column is AGD's own count, as in its tables: it counts the header's maps as ever smaller ones. The true "
    "column counts what is really computed."
)


class AGDConfig(ImageConfig):
    """`stem`: widths of the first three layers. `cells`: width of each cell, or their number. `operators`: operator of
    each cell, or one for all. `header`: widths of the two upsampling layers. `width = n` stands for (n, 2n, 4n), cells
    of 4n and (2n, n).

    The column `paper` of the MACs is AGD's own count. It counts transposed convolutions on their output grid, but
    halves the side after each of them, as if they downsampled. So the second counts a 16th of its MACs, and the last
    convolution a 256th. The script logs this count, so the published 6.39 G and 4.34 G are likely of this kind.
    """

    counted: ClassVar = ("cells", "cells")
    replaces: ClassVar = {"width": ("stem", "cells", "header")}
    polynomial: ClassVar = False  # a shortcut has a convolution where the widths differ
    counting_note: ClassVar = OWN_COUNT

    family: Literal["agd"] = "agd"
    norm: Literal["instance"] = "instance"
    stem: tuple[Width, Width, Width] = Field(strict=False)
    cells: tuple[Width, ...] = Field(strict=False, min_length=1, max_length=MAX_CELLS)
    operators: tuple[Operator, ...] = Field(strict=False, min_length=1, max_length=MAX_CELLS)
    header: tuple[Width, Width] = Field(strict=False)

    @expands_shorthands
    def _expand_width(cls, values):
        width, cells = values.pop("width", None), values.get("cells", 9)
        if width is not None:
            if not {"stem", "header"}.isdisjoint(values) or isinstance(cells, list | tuple):
                raise ValueError("width excludes stem, header and a list of cells; give the one or the other")
            check_width(width)
            check_number("cells", cells, 1, MAX_CELLS)
            stem = (width, 2 * width, 4 * width)
            values |= {"stem": stem, "cells": (4 * width,) * cells, "header": (2 * width, width)}
        operators, cells = values.get("operators", "conv3x3"), values.get("cells")
        if isinstance(operators, str) and isinstance(cells, list | tuple):
            values["operators"] = (operators,) * len(cells)
        return values

    def check(self) -> None:
        if len(self.operators) != len(self.cells):
            raise ValueError(
                f"there are {len(self.cells)} cells and {len(self.operators)} operators; give one for each"
            )

    def student(self, width: int) -> "AGDConfig":
        """The Config with the same operators."""
        return self.of_width(width)

    def widths_by_group(self) -> dict[str, int]:
        named = ("stem", self.stem), ("cell", self.cells), ("header", self.header)
        return {f"{name}{i + 1}": width for name, widths in named for i, width in enumerate(widths)}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        found = tuple(widths.values())
        return {"stem": found[:3], "cells": found[3:-2], "header": found[-2:]}

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        widths = (*self.stem, *self.cells, *self.header)
        outer = outer_costs(self.in_channels, widths, self.out_channels, height, width)
        yield from outer[:3]
        for kind, inputs, outputs in zip(self.operators, widths[2:], self.cells, strict=False):
            yield operator_cost(kind, inputs, outputs, quarter(height, width))
        yield from outer[3:]


def quarter(height: int, width: int) -> int:
    """The number of pixels of a cell's maps."""
    return -(-height // 4) * -(-width // 4)


def outer_costs(inputs: int, widths: tuple[int, ...], outputs: int, height: int, width: int) -> list[Cost]:
    """Costs of the layers that are not cells: three of the stem, two of the header and the last one. `widths` are
    those of all layers.
    """
    (stem1, stem2, stem3), last, (header1, header2) = widths[:3], widths[-3], widths[-2:]
    half, cell = -(-height // 2) * -(-width // 2), quarter(height, width)
    head = conv(header2, outputs, 7, 16 * cell, bias=False)
    up = conv_transposed(header1, header2, 3, 4 * cell, bias=False)
    return [
        conv(inputs, stem1, 7, height * width, bias=False) + norm("instance", stem1, height * width),
        conv(stem1, stem2, 3, half, bias=False) + norm("instance", stem2, half),
        conv(stem2, stem3, 3, cell, bias=False) + norm("instance", stem3, cell),
        conv_transposed(last, header1, 3, cell, bias=False) + norm("instance", header1, 4 * cell),
        # The published count continues with half of the cells' side, and then a quarter of it.
        up._replace(paper=up.paper // 16) + norm("instance", header2, 16 * cell),
        head._replace(paper=head.paper // 256),
    ]


def operator_cost(
    kind: Operator, inputs: int, outputs: int, pixels: int, *, inner: int | None = None, shortcut: bool | None = None
) -> Cost:
    """The cost of an operator on maps of `pixels` pixels; `inner` and `shortcut` as in a supernet."""

    def layer(i: int, o: int, kernel: int, groups: int = 1) -> Cost:
        return conv(i, o, kernel, pixels, groups=groups, bias=False) + norm("instance", o, pixels)

    match kind:
        case "skip":
            return layer(inputs, outputs, 1)
        case "conv3x3":
            return layer(inputs, outputs, 3)
        case "residual":
            found = layer(inputs, outputs, 3) + layer(outputs, outputs, 3)
        case "dwsblock":
            inner = inner or EXPANSION * inputs
            found = layer(inputs, inner, 1) + layer(inner, inner, 3, inner) + layer(inner, outputs, 1)
    bypass = inputs != outputs if shortcut is None else shortcut
    return found + layer(inputs, outputs, 1) if bypass else found


class _Conv(nn.Conv2d):
    """A convolution. Called with `outputs`, it uses only its first output channels, and as many input channels as
    the map has.
    """

    keeps_initial_weights = True

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        if outputs is None:
            return super().forward(x)
        depthwise = self.groups > 1
        weight = self.weight[:outputs] if depthwise else self.weight[:outputs, : x.shape[1]]
        return F.conv2d(x, weight, None, self.stride, self.padding, 1, outputs if depthwise else 1)


class _Up(nn.ConvTranspose2d):
    """A transposed convolution that doubles the side; `outputs` as in `_Conv`."""

    keeps_initial_weights = True

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        weight = self.weight if outputs is None else self.weight[: x.shape[1], :outputs]
        return F.conv_transpose2d(x, weight, None, self.stride, self.padding, self.output_padding)


class Layer(nn.Module):
    """Convolution, norm, and ReLU, except if it is the `last` layer of a block with a shortcut."""

    def __init__(self, conv: nn.Module, *, last: bool = False):
        super().__init__()
        self.conv, self.norm, self.last = conv, InstanceNorm2d(conv.out_channels), last

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        x = self.conv(x, outputs)
        self.norm.num_features = x.shape[1]  # without parameters, one norm serves all widths
        x = self.norm(x)
        return x if self.last else F.relu(x)


class _Bypassed(nn.Module):
    """A block with a ReLU after adding its input or, with `shortcut`, a 1x1 convolution of it."""

    def __init__(self, layers: dict[str, Layer], inputs: int, outputs: int, shortcut: bool):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.shortcut = Layer(_Conv(inputs, outputs, 1), last=True) if shortcut else None

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        across = x if self.shortcut is None else self.shortcut(x, outputs)
        return F.relu(self._inside(x, outputs) + across)


class _Residual(_Bypassed):
    def __init__(self, inputs: int, outputs: int, shortcut: bool):
        layers = {"conv1": Layer(_Conv(inputs, outputs, 3)), "conv2": Layer(_Conv(outputs, outputs, 3), last=True)}
        super().__init__(layers, inputs, outputs, shortcut)

    def _inside(self, x: Tensor, outputs: int | None) -> Tensor:
        return self.conv2(self.conv1(x, outputs), outputs)


class _Separable(_Bypassed):
    """1x1 to four times the channels, depthwise 3x3, 1x1. As published, a supernet always uses the full inner width."""

    def __init__(self, inputs: int, outputs: int, shortcut: bool):
        inner = EXPANSION * inputs
        layers = {
            "expand": Layer(_Conv(inputs, inner, 1)),
            "depthwise": Layer(_Conv(inner, inner, 3, groups=inner)),
            "project": Layer(_Conv(inner, outputs, 1), last=True),
        }
        super().__init__(layers, inputs, outputs, shortcut)

    def _inside(self, x: Tensor, outputs: int | None) -> Tensor:
        inner = None if outputs is None else self.depthwise.conv.out_channels
        return self.project(self.depthwise(self.expand(x, inner)), outputs)


def build_operator(kind: Operator, inputs: int, outputs: int, *, shortcut: bool | None = None) -> nn.Module:
    """An operator of a cell. `shortcut`: whether a block's shortcut has a convolution; None: only if the widths
    differ.
    """
    bypass = inputs != outputs if shortcut is None else shortcut
    match kind:
        case "skip":
            return Layer(_Conv(inputs, outputs, 1))
        case "conv3x3":
            return Layer(_Conv(inputs, outputs, 3))
        case "residual":
            return _Residual(inputs, outputs, bypass)
    return _Separable(inputs, outputs, bypass)


class AGD(Generator):
    """AGD's generator. Taps as in a ResNet: `down1`, `down2`, `block1` to `blockN`, `up1`, `up2`; a supernet's are
    those of its full widths.
    """

    config_class = AGDConfig
    multiple = 4
    min_size = 8

    def __init__(self, config: AGDConfig):
        super().__init__(config)
        self._build(config)

    def _build(self, shape: AGDConfig) -> None:
        stem1, stem2, stem3 = shape.stem
        header1, header2 = shape.header
        inputs, cells = (stem3, *shape.cells), zip(shape.operators, shape.cells, strict=True)
        convs = _Conv(shape.in_channels, stem1, 7), _Conv(stem1, stem2, 3, 2), _Conv(stem2, stem3, 3, 2)
        self.stem = nn.ModuleList(map(Layer, convs))
        self.cells = nn.ModuleList(self._cell(kind, inputs[i], outputs) for i, (kind, outputs) in enumerate(cells))
        self.header = nn.ModuleList(map(Layer, (_Up(inputs[-1], header1), _Up(header1, header2))))
        self.head = _Conv(header2, shape.out_channels, 7)
        self._widths = dict(zip(self.taps, (stem2, stem3, *shape.cells, header1, header2), strict=True))

    def _cell(self, kind: Operator, inputs: int, outputs: int) -> nn.Module:
        return build_operator(kind, inputs, outputs)

    @property
    def taps(self) -> tuple[str, ...]:
        return block_taps(len(self.cells))

    @property
    def places(self) -> tuple[str, ...]:
        return block_places(len(self.cells))

    def tap_channels(self, name: str) -> int:
        return self._widths[name]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        taps, layers = {}, (*self.stem, *self.cells, *self.header)
        for name, layer in zip(("stem", *self.taps), layers, strict=True):
            x = layer(x)
            if name in names:
                taps[name] = x
        return self.head(x).tanh(), taps
