"""Whole training steps of teachers, driven from given weights and batches.

In double precision: Adam makes a full step of a gradient that is zero but for rounding (a bias before instance norm),
so that in float32 two equal programs part as soon as they add in another order.
"""

from copy import deepcopy
from pathlib import Path

import torch
from toys import random, toy_teacher

from vemcompress.data.batch import Batch
from vemcompress.gans.base import GAN
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import Discriminator
from vemcompress.training.optimizers import Runner
from vemcompress.weights.discriminator import discriminator_bytes

SIZE = 32
CPU = torch.device("cpu")


def toy_unet(seed: int, family: str = "unet") -> Generator:
    return toy_teacher(family, seed, norm="batch").train().double()


def save_discriminator(path: Path, discriminator: Discriminator, extra: dict[str, str] | None = None) -> None:
    path.write_bytes(discriminator_bytes(discriminator, extra))


def batches(count: int, size: int = SIZE, batch: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = random(7)
    shape = (2, batch, 3, size, size)
    return [tuple(torch.rand(shape, generator=generator, dtype=torch.double) * 2 - 1) for _ in range(count)]


def as_batch(gan: GAN | None, images: tuple[torch.Tensor, torch.Tensor]) -> Batch:
    """A and B as this GAN, or a student of a frozen teacher, learns from them."""
    a, b = images
    return Batch(a, real=b) if gan is not None and "unpaired" in gan.data else Batch(a, target=b)


def steps(gan: GAN, given, runner: Runner | None = None) -> list[dict[str, float]]:
    """Train on these batches, as the loop does; the losses of each step."""
    runner, log = runner or Runner(gan.train().double().updates(), CPU), []
    for step, batch in enumerate(given, start=1):
        out, losses = gan(as_batch(gan, batch), random(step), step), {}
        for update in runner.updates:
            if update.due(step):
                losses |= runner.apply(update, out, step)
        log.append({name: value.item() for name, value in losses.items()})
    return log


def copies(*networks):
    return [deepcopy(network).train().double() for network in networks]


def adam(*networks) -> torch.optim.Adam:
    """As the original: one optimiser for a group of networks."""
    return torch.optim.Adam([p for network in networks for p in network.parameters()], lr=2e-4, betas=(0.5, 0.999))


def assert_same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    """Parameters and running statistics, but for what Adam makes of a gradient that is rounding alone (see above)."""
    for (name, value), wanted in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.allclose(value, wanted, rtol=1e-7, atol=1e-8), name


def statistics(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.named_buffers()}
