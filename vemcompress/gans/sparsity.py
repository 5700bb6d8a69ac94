"""Sparse training: an L1 penalty on what a later pruning judges channels by, so that many of them can go.

Network Slimming (Liu et al., ICCV 2017) and GCC add lambda sign(w) to the gradients after the backward; that is the
gradient of lambda |w|, which is a term of the loss here.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from vemcompress.errors import RecipeError
from vemcompress.networks.base import Generator
from vemcompress.system.settings import BaseSettings, Text, Weight

# GCC's of CycleGAN's generators, where all others have 1.
PUBLISHED_FACTORS = {"stem": 2.0, "down1": 2.0, "up1": 1000.0, "up2": 2.0}


class Sparsity(BaseSettings):
    """`on`: the norms' "scales", or the "weights" of the convolutions that make channels; "auto" for scales where the
    norms have them. `weight` is lambda, None for GCC's (1e-2 of scales, 1e-3 of weights). `factors` multiply it by
    channel group; None for GCC's (ResNets' weights: 2 for stem, down1 and up2, 1000 for up1)."""

    on: Literal["auto", "scales", "weights"] = "auto"
    weight: Weight | None = None
    factors: dict[Text, Weight] | None = Field(None, max_length=256)


class Penalty:
    """lambda sum |w| of a generator by these settings, as `term`. Raises RecipeError where it has no such weights."""

    def __init__(self, settings: Sparsity, generator: Generator):
        groups, tensors = generator.groups(), dict(generator.named_parameters())
        scales = {group.name: [group.scale] for group in groups if group.scale in tensors}
        if settings.on == "scales" and not scales:
            raise RecipeError(
                f"gan.sparsity.on = 'scales': the norms of this {generator.family} have no scales; set it to weights, "
                "or give the network norm = 'batch'."
            )
        on_scales = settings.on == "scales" or (settings.on == "auto" and bool(scales))
        weight = settings.weight if settings.weight is not None else 1e-2 if on_scales else 1e-3
        found = scales if on_scales else {group.name: _made_by(group, tensors) for group in groups}
        factors = settings.factors
        if factors is None:
            factors = {} if on_scales or not PUBLISHED_FACTORS.keys() <= found.keys() else PUBLISHED_FACTORS
        if unknown := factors.keys() - found.keys():
            raise RecipeError(
                f"gan.sparsity.factors: there is no channel group {min(unknown)!r}; there are {', '.join(found)}."
            )
        self._parts = [(tensors[n], weight * factors.get(group, 1.0)) for group in found for n in found[group]]

    def term(self) -> Tensor:
        """A scalar."""
        return sum(factor * tensor.float().abs().sum() for tensor, factor in self._parts)


def _made_by(group, tensors: Mapping[str, Tensor]) -> list[str]:
    """The kernels that make a group's channels."""
    found = (slot.tensor for slot in group.slots if slot.role == "write" and slot.tensor.endswith(".weight"))
    return [name for name in found if name in tensors]
