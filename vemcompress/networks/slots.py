"""Channel groups: which channels of a generator must be removed together, and where they are in its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Role = Literal["write", "read", "through"]


@dataclass(frozen=True)
class Slot:
    """The position of a group's channels in a tensor: from `start` on along `axis`, with `each` entries per channel.

    `role` is "write" in a layer that produces the channels, "read" in one that uses them as input, and "through" in a
    norm or a depthwise convolution. A tensor that the network does not have, such as a missing bias, is skipped.
    """

    tensor: str
    axis: int
    start: int = 0
    role: Role = "through"
    each: int = 1

    @property
    def module(self) -> str:
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """`size` channels and their slots.

    `scale` is the norm's weight that scales them, if any. `least` is the smallest width that works: 0 if the layers
    around the channels can be removed with them. The channels of a `bypassed` group are within a residual block, so the
    network can work with few of them.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    scale: str | None = None
    least: int = 1
    bypassed: bool = False


Kept = Mapping[str, Tensor | int]  # by group: the indices of the kept channels, or how many of the first ones


def writes(conv: str, *, transposed: bool = False, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The slots of a convolution's outputs."""
    weight = Slot(f"{conv}.weight", 1 if transposed else 0, start, "write", each)
    return weight, Slot(f"{conv}.bias", 0, start, "write", each)


def reads(conv: str, *, transposed: bool = False, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The slots of a convolution's inputs."""
    return (Slot(f"{conv}.weight", 0 if transposed else 1, start, "read", each),)


def passes(layer: str, *, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The slots of a norm's or of a depthwise convolution's channels."""
    leaves = ("weight", "bias", "running_mean", "running_var")
    return tuple(Slot(f"{layer}.{leaf}", 0, start, "through", each) for leaf in leaves)
