"""Channel groups: which channels of a generator can only be removed together, and where they lie in its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Role = Literal["write", "read", "through"]


@dataclass(frozen=True)
class Slot:
    """Where a group's channels lie in a tensor: from `start` on along `axis`, `each` places a channel.

    A layer that makes the channels has them as "write", one that takes them in as "read", and a norm or a depthwise
    convolution as "through". A tensor that the network lacks, such as the bias of a layer without one, is skipped.
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
    """`size` channels and the slots that they lie in.

    `scale` is the norm weight that scales them, where there is one. `least` is the smallest width that works: 0 where
    the layers around the channels may vanish with them. The channels of a `bypassed` group lie within a residual block,
    so that the network needs few of them.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    scale: str | None = None
    least: int = 1
    bypassed: bool = False


Kept = Mapping[str, Tensor | int]  # by group: the indices of the channels that stay, or how many of the first


def writes(conv: str, *, transposed: bool = False, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The outputs of a convolution."""
    weight = Slot(f"{conv}.weight", 1 if transposed else 0, start, "write", each)
    return weight, Slot(f"{conv}.bias", 0, start, "write", each)


def reads(conv: str, *, transposed: bool = False, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The inputs of a convolution."""
    return (Slot(f"{conv}.weight", 0 if transposed else 1, start, "read", each),)


def passes(layer: str, *, start: int = 0, each: int = 1) -> tuple[Slot, ...]:
    """The channels of a norm or of a depthwise convolution."""
    leaves = ("weight", "bias", "running_mean", "running_var")
    return tuple(Slot(f"{layer}.{leaf}", 0, start, "through", each) for leaf in leaves)
