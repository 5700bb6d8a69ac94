"""AutoGAN-Distiller's supernet (AGD, Fu et al., ICML 2020): all four operators in each cell, and five widths per layer.

As in the published code (VITA-Group/AGD), a layer's output is multiplied by the sampled entries of its own width and of
the previous layer's, so that gradients reach both. Instance norms cancel such factors. So, apart from the effect of
their eps, the images train only the widths of the header's two layers; the MACs term decides the others.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.networks.base import ImageConfig, Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.generators.agd import (
    AGD,
    EXPANSION,
    MAX_CELLS,
    OPERATORS,
    OWN_COUNT,
    AGDConfig,
    Operator,
    build_operator,
    operator_cost,
    outer_costs,
    quarter,
)
from vemcompress.networks.groups import called
from vemcompress.system.settings import Channels

RATIOS = (4 / 12, 6 / 12, 8 / 12, 10 / 12, 1.0)
START, EPS = 1e-3, 1e-20  # initial architecture parameters; added within the logarithms of Gumbel noise
STEM, HEADER = 3, 2
EVEN_FROM = 32  # channels from which on widths are multiples of 8

Widths = tuple[int, ...]  # of the stem's layers, the cells and the header's layers


class AGDSupernetConfig(ImageConfig):
    """`width`: width of the first layer, 64 as published; the other widths follow AGDConfig's shorthand. `cells`:
    number of cells.

    Its MACs are those of one pass at full width. In the column `paper`, each cell counts as the mean of its operators
    in their derived form, as in AGD's own count, which gives 29.997 G at 256 px.
    """

    polynomial: ClassVar = False
    counting_note: ClassVar = OWN_COUNT

    family: Literal["agd_supernet"] = "agd_supernet"
    norm: Literal["instance"] = "instance"
    width: Channels = 64
    cells: int = Field(9, ge=1, le=MAX_CELLS)

    @property
    def layers(self) -> int:
        """The number of layers with a width."""
        return STEM + self.cells + HEADER

    @property
    def options(self) -> tuple[Widths, ...]:
        """The possible widths of each layer, narrowest first."""
        n = self.width
        full = (n, 2 * n, 4 * n, *(4 * n,) * self.cells, 2 * n, n)
        return tuple(tuple(share_of(width, ratio) for ratio in RATIOS) for width in full)

    def derived(self, operators: tuple[Operator, ...], widths: Widths) -> AGDConfig:
        """The Config of the network with these operators and widths."""
        shape = {"stem": widths[:STEM], "cells": widths[STEM:-HEADER], "header": widths[-HEADER:]}
        channels = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        return AGDConfig(operators=operators, **shape, **channels)

    def product(self) -> AGDConfig:
        """An example of a derived network: half of the widths, with each operator in turn."""
        operators = tuple(OPERATORS[i % len(OPERATORS)] for i in range(self.cells))
        return self.derived(operators, tuple(options[1] for options in self.options))

    def student(self, width: int) -> AGDConfig:
        return self.product().student(width)

    def widths_by_group(self) -> dict[str, int]:
        """None: its widths are chosen by its own search."""
        return {}

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        pixels, full = quarter(height, width), tuple(options[-1] for options in self.options)
        outer, cells = self.counts(full, height, width)
        yield from outer
        for mixed, inputs, outputs in zip(cells, full[STEM - 1 :], full[STEM:-HEADER], strict=False):
            share = {"shortcut": True, "inner": EXPANSION * inputs}
            whole = sum((operator_cost(kind, inputs, outputs, pixels, **share) for kind in OPERATORS), Cost())
            yield whole._replace(paper=sum(cost.paper for cost in mixed) // len(OPERATORS))
        entries = self.cells * len(OPERATORS) + self.layers * len(RATIOS)
        yield Cost(parameters=entries)

    def counts(self, widths: Widths, height: int, width: int) -> tuple[list[Cost], list[list[Cost]]]:
        """Costs of the layers that are not cells, as `agd.outer_costs`, and of each cell's operators in their
        derived form.
        """
        pixels, pairs = quarter(height, width), zip(widths[STEM - 1 :], widths[STEM:-HEADER], strict=False)
        outer = outer_costs(self.in_channels, widths, self.out_channels, height, width)
        return outer, [[operator_cost(kind, *pair, pixels) for kind in OPERATORS] for pair in pairs]


def share_of(full: int, ratio: float) -> int:
    """A share of a full width, as published: a multiple of 8, at least nine tenths of the exact value. Below
    `EVEN_FROM` channels it is only rounded.
    """
    wanted = full * ratio
    if full < EVEN_FROM:
        return max(1, int(wanted + 0.5))
    found = max(3, int(wanted + 4) // 8 * 8)
    return min(full, found + 8 if found < 0.9 * wanted else found) if ratio < 1 else full


class Architecture(nn.Module):
    """The trained architecture parameters. `alpha`: weights of each cell's operators, before a softmax. `ratio` and
    `ratio_sh`: weights of the widths of the cells, and of stem and header, before a hard Gumbel-softmax.
    """

    def __init__(self, config: AGDSupernetConfig):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((config.cells, len(OPERATORS)), START))
        self.ratio = nn.Parameter(torch.full((config.cells, len(RATIOS)), START))
        self.ratio_sh = nn.Parameter(torch.full((STEM + HEADER, len(RATIOS)), START))

    @property
    def ratios(self) -> Tensor:
        """Weights of the widths of all layers in order, layers x 5."""
        return torch.cat((self.ratio_sh[:STEM], self.ratio, self.ratio_sh[STEM:]))

    @torch.no_grad()
    def best(self) -> tuple[list[int], list[int]]:
        """The index of the operator of each cell, and of the width of each layer, with the largest weight. On a GPU
        this blocks the host.
        """
        operators, ratios = self.alpha.argmax(-1), self.ratios.argmax(-1)
        found = torch.cat((operators, ratios)).tolist()
        return found[: len(operators)], found[len(operators) :]


def straight_through(logits: Tensor, random: Random) -> tuple[Tensor, Tensor]:
    """A hard Gumbel-softmax of log softmax(logits), layers x options, at temperature 1 (Jang et al., ICLR 2017).
    Returns the sampled index of each layer and its entry, which is 1 and has the gradient of the soft value.
    """
    uniform = torch.rand(logits.shape, generator=random, device=logits.device)
    noise = -torch.log(EPS - torch.log(uniform + EPS))
    soft = torch.softmax(F.log_softmax(logits, -1) + noise, -1)
    index = soft.argmax(-1)
    entry = soft.gather(-1, index[:, None]).squeeze(-1)
    return index, 1 + (entry - entry.detach())


class _Mixed(nn.ModuleDict):
    """All operators of a cell."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__({kind: build_operator(kind, inputs, outputs, shortcut=True) for kind in OPERATORS})

    def forward(self, x: Tensor, outputs: int, weights: Tensor) -> Tensor:
        return sum(weight * operator(x, outputs) for weight, operator in zip(weights, self.values(), strict=True))


class AGDSupernet(AGD):
    """As an image generator it is the derived network: the operators and widths with the largest weights, using the
    first channels of its own layers. That network is saved. The search runs it by `passed`, where, as published,
    every block's shortcut has a convolution and a separable block has its full inner width; the derived network has
    neither.
    """

    config_class = AGDSupernetConfig

    def _build(self, config: AGDSupernetConfig) -> None:
        full = tuple(options[-1] for options in config.options)
        super()._build(config.derived(OPERATORS[:1] * config.cells, full))
        self.architecture = Architecture(config)

    def _cell(self, kind: Operator, inputs: int, outputs: int) -> nn.Module:
        return _Mixed(inputs, outputs)

    def sample(self, random: Random) -> tuple[Widths, Tensor]:
        """Sample widths from the architecture, with their entries; see `straight_through`. On a GPU this blocks the
        host, because widths are shapes.
        """
        index, entries = straight_through(self.architecture.ratios, random)
        options = zip(self.config.options, index.tolist(), strict=True)
        return tuple(widths[i] for widths, i in options), entries

    def passed(self, x: Tensor, widths: Widths, entries: Tensor | None = None) -> Tensor:
        """The image at these widths, with weighted operators; B x 3 x H x W. `entries` are the factors described
        above.
        """
        scores = None if entries is None else (entries * F.pad(entries[:-1], (1, 0), value=1.0), entries[-1])
        alpha, layers = torch.softmax(self.architecture.alpha, -1), (*self.stem, *self.cells, *self.header)
        for i, (layer, outputs) in enumerate(zip(layers, widths, strict=True)):
            x = layer(x, outputs, alpha[i - STEM]) if isinstance(layer, _Mixed) else layer(x, outputs)
            x = x if scores is None else scores[0][i] * x
        image = self.head(x, self.out_channels)
        return (image if scores is None else scores[1] * image).tanh()

    def macs(self, height: int, width: int, widths: Widths, entries: Tensor | None = None, *, mixed: bool) -> Tensor:
        """AGD's own count of a pass, a scalar; differentiable. `mixed`: whether operators count by their weights or
        equally. Each layer is multiplied by `entries` as in the pass.
        """
        outer, cells = self.config.counts(widths, height, width)
        like = self.architecture.alpha
        outer = like.new_tensor([cost.paper for cost in outer])
        cells = like.new_tensor([[cost.paper for cost in kinds] for kinds in cells])
        cells = (torch.softmax(like, -1) * cells).sum(-1) if mixed else cells.mean(-1)
        layers = torch.cat((outer[:STEM], cells, outer[STEM:]))
        if entries is not None:
            layers = layers * F.pad(entries, (0, 1), value=1.0) * F.pad(entries, (1, 0), value=1.0)
        return layers.sum()

    # -- as a generator ------------------------------------------------------------------------------------------

    def derived(self) -> AGDConfig:
        """The Config of the operators and widths with the largest weights."""
        operators, ratios = self.architecture.best()
        widths = tuple(options[i] for options, i in zip(self.config.options, ratios, strict=True))
        return self.config.derived(tuple(OPERATORS[i] for i in operators), widths)

    def _small(self) -> tuple[AGD, dict[str, Tensor]]:
        """The derived network without weights, and its tensors: the first channels of this network's."""
        config, own = self.derived(), dict(self.named_parameters())
        with torch.device("meta"):
            network = AGD(config)
        tensors = {}
        for name, empty in network.named_parameters():
            part, number, rest = (*name.split(".", 2), "", "")[:3]
            source = f"cells.{number}.{config.operators[int(number)]}.{rest}" if part == "cells" else name
            tensors[name] = own[source][tuple(slice(size) for size in empty.shape)]
        return network, tensors

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        return called(*self._small(), x, names)

    @torch.no_grad()
    def deployed(self) -> AGD:
        network, tensors = self._small()
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        network.load_state_dict(tensors, strict=True, assign=True)
        return network.train(self.training)
