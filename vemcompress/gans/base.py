"""What every way of learning a teacher shares (paper, 4.3 and eq. 11)."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.losses.adversarial import precise
from vemcompress.networks.base import Config, Generator, init_weights
from vemcompress.networks.discriminators import (
    Discriminator,
    DiscriminatorConfig,
    SharedPatchGANConfig,
    build_discriminator,
)
from vemcompress.step import Update
from vemcompress.weights.discriminator import discriminator_metadata
from vemcompress.weights.inspect import in_channels, out_channels

Companions = dict[str, tuple[nn.Module, dict[str, str]]]


class GAN(nn.Module):
    """Teachers and the discriminators that they learn against. All of it stays in training mode while it learns."""

    bf16: bool = False

    def forward(self, batch: tuple[Tensor, Tensor], random: torch.Generator) -> Any:
        """Everything that a step's updates need, each computed once. `batch`: images of A and of B."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """The step's updates in the published order. Their `terms` take what `forward` returns."""
        raise NotImplementedError

    def generators(self) -> dict[str, Generator]:
        """The teachers by their names in files and logs."""
        raise NotImplementedError

    def companions(self) -> Companions:
        """Discriminators, and what else belongs in a checkpoint: by file name, the module and its metadata."""
        raise NotImplementedError

    def check_size(self, size: int) -> None:
        """Raises RecipeError for images, size x size, that are too small for a discriminator."""
        for judge in (module for module in self.modules() if isinstance(module, Discriminator)):
            if size < judge.config.min_size:
                raise RecipeError(
                    f"data.size {size}: is too small for the {judge.family} discriminator, which needs at least "
                    f"{judge.config.min_size} px; make it larger, or give a discriminator of fewer layers."
                )

    def autocast(self, device: torch.device):
        """bfloat16 for networks where the recipe asks for it; images, scores and losses are at least float32."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def generate(self, generator: Generator, images: Tensor) -> Tensor:
        with self.autocast(images.device):
            return precise(generator(images))

    def judge(self, discriminator: Discriminator, images: Tensor, *teacher: str) -> Tensor:
        with self.autocast(images.device):
            return precise(discriminator(images, *teacher))


def within(updates: list[Update], select: Callable[[Any], Any]) -> list[Update]:
    """A GAN's updates for a step that computes more than the GAN: `select` finds the GAN's part of its output."""
    return [replace(update, terms=lambda out, terms=update.terms: terms(select(out))) for update in updates]


def fit(config: DiscriminatorConfig, channels: int, generator: Generator) -> DiscriminatorConfig:
    """The Config with what it does not state: as many channels as there are to judge, and the generator's norm.

    Raises RecipeError where it states another number of channels.
    """
    stated = config.model_fields_set
    if "in_channels" in stated and config.in_channels != channels:
        raise RecipeError(
            f"discriminator: takes {config.in_channels} channels, and here there are {channels} to judge; set its "
            "in_channels, or leave them away."
        )
    norm = config.norm if "norm" in stated else "batch" if _norm_of(generator.config) == "batch" else "instance"
    return config.model_copy(update={"in_channels": channels, "norm": norm})


def discriminator_for(
    config: DiscriminatorConfig, given: Discriminator | None, channels: int, generator: Generator, *, shared: bool
) -> Discriminator:
    """The one that is given, if it fits, or a new one of this Config with the published initial weights."""
    network = given
    if network is None:
        network = build_discriminator(fit(config, channels, generator))
        init_weights(network)
    if network.config.in_channels != channels:
        raise RecipeError(
            f"discriminator: takes {network.config.in_channels} channels, and here there are {channels} to judge; "
            "give another one, or none to start anew."
        )
    if isinstance(network.config, SharedPatchGANConfig) != shared:
        wanted = "shared_patchgan, for two teachers" if shared else "patchgan or pixelgan, for one teacher"
        raise RecipeError(f"discriminator: is a {network.config.family}; set its family to {wanted}.")
    return network


def check_channels(expected: tuple[int, int], role: str, generator: Generator) -> None:
    """Raises RecipeError where a generator does not take and give so many channels."""
    found = in_channels(generator), out_channels(generator)
    if found != expected:
        raise RecipeError(
            f"the {role} generator takes {found[0]} and gives {found[1]} channels, beside the other it must take "
            f"{expected[0]} and give {expected[1]}; set its in_channels and out_channels."
        )


def companion(discriminator: Discriminator) -> tuple[nn.Module, dict[str, str]]:
    return discriminator, discriminator_metadata(discriminator)


def _norm_of(config: Config | None) -> str:
    return config.norm if config is not None else "instance"
