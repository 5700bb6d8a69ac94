"""Base classes of discriminators: a frozen Config that determines the architecture, and stages with taps."""

from collections.abc import Iterable
from typing import ClassVar, Self

import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from vemcompress.networks.base import ImageInput, LatentInput, Norm, Taps
from vemcompress.networks.cost import Counted
from vemcompress.networks.discriminators.gates import Gate
from vemcompress.system.settings import BaseSettings, Channels, Text


class DiscriminatorConfig(Counted, BaseSettings):
    """The architecture of a discriminator. `family`: its kind. `in_channels`: channels that it judges. `width`: width
    of its first convolution (ndf in published options). `norm`: its normalisation.

    Two class variables: `norms` says whether `norm` has an effect; `follows` names the keys that follow the generator
    unless stated.
    """

    norms: ClassVar[bool] = True
    follows: ClassVar[frozenset[str]] = frozenset({"norm"})

    family: Text
    in_channels: Channels = 3
    width: Channels = 64
    norm: Norm = "instance"

    @model_validator(mode="after")
    def _can_be_built(self):
        self.check_parameters()
        return self

    @property
    def min_size(self) -> int:
        """The smallest H or W that it can judge, in pixels."""
        raise NotImplementedError

    def for_images(self, takes: ImageInput | LatentInput) -> Self:
        """The Config with as many layers, unless stated, as give one score for an image of a latent generator."""
        return self

    def left_open(self) -> set[str]:
        # the discriminators of two domains may have different numbers of channels
        return {"in_channels"} | (self.follows - self.model_fields_set)


class Stage(nn.Module):
    """Convolution, norm, LeakyReLU 0.2; the last stage of a discriminator is only a convolution.

    A gate is applied after the norm, or after LeakyReLU if there is no norm, as in GCC.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None, last: bool = False):
        super().__init__()
        self.conv, self.norm, self.last = conv, norm, last
        self.gate: Gate | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.norm is not None:
            h = self.norm(h)
            h = h if self.gate is None else self.gate(h)
        if self.last:
            return h
        h = F.leaky_relu(h, 0.2, inplace=True)
        return h if self.norm is not None or self.gate is None else self.gate(h)


class Discriminator(nn.Module):
    """B x in_channels x H x W to B x 1 x h x w raw scores. `taps` names the activated maps, shallow to deep."""

    config_class: ClassVar[type[DiscriminatorConfig]]  # its `family` is the key in `DISCRIMINATORS`

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config

    @property
    def family(self) -> str:
        return self.config.family

    def path(self) -> Iterable[Stage]:
        """The stages that an image passes, in order."""
        return self.stages

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(f"layer{i + 1}" for i in range(len(self.stages) - 1))

    @property
    def places(self) -> tuple[str, ...]:
        """The taps at which GCC distils features, shallow to deep."""
        return tuple(dict.fromkeys((self.taps[min(1, len(self.taps) - 1)], self.taps[-1])))

    def select(self, threshold: float) -> None:
        """Give every layer but the last a gate on its channels (GCC's selective activation)."""
        for stage in self.stages[:-1]:
            stage.gate = Gate(stage.conv.out_channels, threshold)

    def opened(self) -> list["Gate"]:
        """The gates; empty without selective activation."""
        return [module for module in self.modules() if isinstance(module, Gate)]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_taps(x, ())[0]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The scores, and the activated maps with these names."""
        return judge(self.path(), x, names)


def judge(stages: Iterable[Stage], x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
    """The last stage's scores, and the activated maps with these names."""
    taps = {}
    for i, stage in enumerate(stages, start=1):
        x = stage(x)
        if f"layer{i}" in names and not stage.last:
            taps[f"layer{i}"] = x
    return x, taps
