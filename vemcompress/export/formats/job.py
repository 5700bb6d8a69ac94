"""An export job: the network, its contract, the sample input, and wrappers for uint8 and channels-last files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vemcompress.export.contracts import Contract, ImageContract, Shape
from vemcompress.export.floats import FloatGraph
from vemcompress.export.lowering import Rule, lowered
from vemcompress.export.precision import Quantised
from vemcompress.export.rules import PLAIN
from vemcompress.system.events import Event, silent

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@dataclass
class Job:
    """A deployment copy that is exported to files. `size`: (H, W) of the images in formats with one size. `graph`:
    returns the checked float ONNX graph after the named rewrites. `facts`: the file's metadata. `photos`: inputs to
    calibrate int8 with, float32 1 x C x H x W in [-1, 1], or latent vectors, 1 x size.

    `notes`: remarks about the file for the user. `quantised`: the result of the quantisation if `precision` is int8.
    """

    network: nn.Module
    contract: Contract
    size: tuple[int, int]
    graph: FloatGraph
    precision: Precision
    least_ssim: float
    facts: dict[str, str]
    uint8: bool = False
    rewrites: bool = True
    tolerance: float | None = None
    photos: Sequence[np.ndarray] = ()
    tell: Callable[[Shape], None] = lambda shape: None
    on_event: Event = silent
    notes: list[str] = field(default_factory=list)
    quantised: Quantised | None = None

    def for_one_file(self) -> "Job":
        """A copy with facts, notes and results of its own, for one file."""
        return replace(self, facts=dict(self.facts), notes=[], quantised=None)

    @property
    def sample(self) -> Tensor:
        """A sample input: uniform noise 1 x C x H x W, or one latent vector."""
        shape = (1, self.contract.in_channels, *self.size) if self.of_images else (1, self.contract.size)
        return self.contract.noise(shape, torch.Generator().manual_seed(0))

    @property
    def of_images(self) -> bool:
        return isinstance(self.contract, ImageContract)

    def lowered(self, rules: Mapping[object, Rule], last: bool = False) -> tuple[torch.export.ExportedProgram, Tensor]:
        """The network lowered by `rules.PLAIN` and these rules, and a sample input. `last`: input and output have
        channels last. With `uint8` both are bytes with channels last."""
        module, sample = self.network, self.sample
        if self.uint8:
            module = Levels(module, self.of_images)
            sample = _permuted(to_levels(sample), 0, 2, 3, 1) if self.of_images else sample
        elif last:
            module = ChannelsLast(module, self.of_images)
            sample = _permuted(sample, 0, 2, 3, 1) if self.of_images else sample
        return lowered(module.eval(), sample, PLAIN | dict(rules)), sample


class Levels(nn.Module):
    """A network from uint8 N x H x W x C, or latent vectors, to uint8 N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        y = self.network(_permuted(x, 0, 3, 1, 2).float() / 127.5 - 1 if self.of_images else x)
        return to_levels(y).permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """A network with input and output N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.permute(0, 3, 1, 2) if self.of_images else x).permute(0, 2, 3, 1)


def to_levels(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to bytes, rounded and clamped, in the same layout."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def _permuted(x: Tensor, *order: int) -> Tensor:
    """Permute in memory too, even if a side is 1: ExecuTorch refuses the tensor otherwise."""
    return x.permute(order).clone(memory_format=torch.contiguous_format)
