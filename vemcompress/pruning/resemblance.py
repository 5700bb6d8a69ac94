"""Co-Evolution's score: how closely pruned generators of a CycleGAN resemble the unpruned ones (Shu et al., ICCV
2019).
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from vemcompress.data.prefetch import Stream
from vemcompress.errors import NumericalError
from vemcompress.gans.base import GAN
from vemcompress.networks.base import Generator
from vemcompress.networks.groups import cut
from vemcompress.networks.norms import recalibrate
from vemcompress.networks.slots import Kept
from vemcompress.pruning.co_evolution import DIRECTIONS, Direction
from vemcompress.system import devices
from vemcompress.training.settings import TrainSettings
from vemcompress.training.stepper import Stepper

BATCH = 8  # validation images per forward pass; does not change any result


@dataclass(frozen=True)
class Pruned:
    """The channels that a candidate of a direction keeps, by group, and those of its partner, if it has one."""

    direction: Direction
    kept: Kept
    partner: Kept | None = None


class Resemblance:
    """Called with a candidate, it returns the loss L of `CoEvolutionSettings`.

    `gan` is the whole CycleGAN, which is not changed. `images` are the validation images of each direction, N x C x H x
    W. If there is a partner, both are first trained, as `train` says, on the batches of `stream`, which are the same
    for every candidate.

    The published code sets the weights of removed channels to zero; here the channels are cut, which takes a quarter of
    the work at half the channels. Without shifts in the norms both are equivalent, also during training, because zero
    weights get no gradient. With shifts the published channels would become active again, because nothing sets them
    back to zero.
    """

    def __init__(
        self,
        gan: GAN,
        images: Mapping[Direction, Tensor],
        train: TrainSettings,
        stream: Callable[[], Stream],
        device: torch.device,
        cycle: float,
    ):
        self.device, self.train, self.cycle = device, train, cycle
        self.gan = gan.to(device).eval().requires_grad_(False)
        self.images = {direction: images[direction].to(device).split(BATCH) for direction in DIRECTIONS}
        self._stream, self._opened = stream, None
        self._whole = {d: self._scores(self._generator(d), d) for d in DIRECTIONS}

    def __call__(self, candidate: Pruned) -> float:
        direction, other = candidate.direction, DIRECTIONS[1 - DIRECTIONS.index(candidate.direction)]
        networks = {direction: self.pruned(direction, candidate.kept)}
        if candidate.partner is not None:
            networks[other] = self.pruned(other, candidate.partner)
            try:
                self._taught(networks)
            except NumericalError:
                return float("inf")
        found = self._lost(networks[direction], direction, networks.get(other))
        return found if found == found else float("inf")

    def pruned(self, direction: Direction, kept: Kept) -> Generator:
        """A separate pruned generator on the device, with the weights of the whole one. BatchNorms get the
        statistics of the validation images.
        """
        network = cut(self._generator(direction), kept)
        with torch.no_grad():
            recalibrate(network, self.images[direction])
        return network

    def _generator(self, direction: Direction) -> Generator:
        return self.gan.generators()[f"generator_{direction}"]

    def _taught(self, networks: Mapping[Direction, Generator]) -> None:
        """Train both generators against copies of the discriminators."""
        if not self.train.steps:
            return
        if self._opened is None:
            self._opened = self._stream()
        learning = {f"generator_{d}": networks[d].learning() for d in DIRECTIONS}
        judges = {name: deepcopy(judge) for name, judge in self.gan.discriminators().items()}
        settings = self.gan.settings.but(sparsity=None, every=1)
        pair = type(self.gan)(settings, **learning, **judges).requires_grad_(True)
        step = Stepper(pair, self.train, self.device, self._opened.epoch_length)
        with devices.arithmetic(self.train.precision), closing(self._opened.iterate()) as batches:
            for number in range(1, self.train.steps + 1):
                step(next(batches)[1].to(self.device), number)
        step.runner.settle(wait=True)
        pair.eval()

    @torch.no_grad()
    def _lost(self, network: Generator, direction: Direction, partner: Generator | None) -> float:
        found = 0.0
        for x, whole in zip(self.images[direction], self._whole[direction], strict=True):
            image = network(x).float()
            found += (self._judged(image, direction) - whole).square().sum().item()
            if partner is not None:
                found += self.cycle * (partner(image).float() - x).abs().mean((1, 2, 3)).sum().item()
        return found

    @torch.no_grad()
    def _scores(self, network: Generator, direction: Direction) -> list[Tensor]:
        return [self._judged(network(x).float(), direction) for x in self.images[direction]]

    def _judged(self, image: Tensor, direction: Direction) -> Tensor:
        """One number per image: the mean over the patches of its domain's discriminator."""
        return self.gan.discriminators()[f"discriminator_{direction}"](image).float().mean((1, 2, 3))
