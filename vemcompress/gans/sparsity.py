"""Sparse training: an L1 penalty on the values by which channels are pruned later.

Network Slimming (Liu et al., ICCV 2017) and GCC add lambda sign(w) to the gradients after the backward pass. That is
the gradient of lambda |w|, which is a term of the loss here.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.networks.base import Generator
from vemcompress.networks.slots import Group
from vemcompress.system.settings import BaseSettings, Text, Weight

# GCC's factors for CycleGAN's generators; all other layers have 1.
PUBLISHED_FACTORS = {"stem": 2.0, "down1": 2.0, "up1": 1000.0, "up2": 2.0}


class Sparsity(BaseSettings):
    """`on`: the penalised values: all norms' "scales", or the "weights" of all convolutions; "auto" is scales if the
    norms have them. `weight`: lambda; None for GCC's (1e-2 for scales, 1e-3 for weights). `factors`: factors of
    lambda by channel group, for the norms or convolutions that produce its channels; None for GCC's (ResNets'
    weights: 2 for stem, down1 and up2, 1000 for up1).
    """

    on: Literal["auto", "scales", "weights"] = "auto"
    weight: Weight | None = None
    factors: dict[Text, Weight] | None = Field(None, max_length=256)


class Penalty:
    """`term` is lambda sum |w| of a generator by these settings. Raises RecipeError if it has no such weights."""

    def __init__(self, settings: Sparsity, generator: Generator):
        groups, scales = generator.groups(), _weights(generator, nn.BatchNorm2d, nn.InstanceNorm2d)
        if settings.on == "scales" and not scales:
            raise RecipeError(
                f"gan.sparsity.on = 'scales': the norms of this {generator.family} have no scales; set it to "
                "'weights', or use a network with norm = 'batch'."
            )
        on_scales = settings.on == "scales" or (settings.on == "auto" and bool(scales))
        weight = settings.weight if settings.weight is not None else 1e-2 if on_scales else 1e-3
        makers = {group.name: [group.scale] if on_scales else _kernels(group) for group in groups}
        factors = settings.factors
        if factors is None:
            factors = {} if on_scales or not PUBLISHED_FACTORS.keys() <= makers.keys() else PUBLISHED_FACTORS
        if unknown := factors.keys() - makers.keys():
            raise RecipeError(
                f"gan.sparsity.factors: no channel group {min(unknown)!r}; there are {', '.join(makers)}."
            )
        by_tensor = {name: factors[group] for group in factors for name in makers[group]}
        found = scales if on_scales else _weights(generator, nn.Conv2d, nn.ConvTranspose2d)
        if not found:
            raise RecipeError(f"gan.sparsity: a {generator.family} has no plain convolutions to penalise; omit it.")
        self._parts = [(tensor, weight * by_tensor.get(name, 1.0)) for name, tensor in found.items()]

    def term(self) -> Tensor:
        """The penalty, a scalar."""
        return sum(factor * tensor.float().abs().sum() for tensor, factor in self._parts)


def _weights(generator: Generator, *kinds: type[nn.Module]) -> dict[str, Tensor]:
    """The weights of all layers of these kinds, by name."""
    layers = {name: module for name, module in generator.named_modules() if isinstance(module, kinds)}
    return {f"{name}.weight": layer.weight for name, layer in layers.items() if layer.weight is not None}


def _kernels(group: Group) -> list[str]:
    """Names of the kernels that produce a group's channels."""
    return [slot.tensor for slot in group.slots if slot.role == "write" and slot.tensor.endswith(".weight")]
