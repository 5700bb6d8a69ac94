"""StyleGAN2 training (Karras et al., CVPR 2020), with the regularisers and constants of the rosinality code.

A step consists of the discriminator; at every 16th step its R1 penalty; the generator; at every 4th step its
path-length regularisation; the moving average. The two regularisers are optimiser steps of their own. They share Adam's
state with the network that they regularise.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.gans.latent import Drawn, LatentGAN
from vemcompress.losses.adversarial import generator_loss, on_fake, on_real, precise
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.discriminators import AnyDiscriminator, Discriminator, DiscriminatorConfig
from vemcompress.system import distributed
from vemcompress.system.distributed import Part
from vemcompress.system.settings import BaseSettings, Betas, Period, Positive, Weight
from vemcompress.training.ema import Average
from vemcompress.training.learner import one_by_one
from vemcompress.training.update import Optimizer, Update

EMA = 0.5 ** (32 / 10_000)  # the published decay of the average per step, whatever the batch size


@dataclass(frozen=True)
class Mixture:
    """Latent vectors B x size. If there is a `second` draw, its styles are used from layer `index` on."""

    first: Tensor
    second: Tensor | None = None
    index: int = 0

    def styles(self, generator: Generator) -> Tensor:
        """A generator's w, B x layers x style."""
        w = generator.styles(self.first)
        if self.second is None:
            return generator.mixed(w, w, generator.config.layers)
        return generator.mixed(w, generator.styles(self.second), self.index)


@dataclass(kw_only=True)
class StyledDrawn(Drawn):
    """One step's values for StyleGAN2.

    `judged` are the images that the discriminator learns from, and `judged_of` their latent vectors. `mixture` are the
    latent vectors that the generator learns from, and `w` its styles. `random` draws on the device. `chance` draws on
    the CPU; it decides where styles are mixed.
    """

    judged: Tensor
    judged_of: Mixture
    mixture: Mixture
    w: Tensor
    random: Random
    chance: Random


def chance_of(random: Random) -> Random:
    """A second random generator of the step, on the CPU, where choices do not wait for a GPU."""
    return _another(random, 1, "cpu")


def paths_of(random: Random) -> Random:
    """The random generator of path lengths; it does not depend on what was drawn before."""
    return _another(random, 2, random.device)


def _another(random: Random, purpose: int, device: torch.device | str) -> Random:
    """A random generator with another seed. With the same seed its numbers would be correlated with z."""
    seed = np.random.SeedSequence([random.initial_seed(), purpose]).generate_state(1, np.uint64)[0]
    return Random(device).manual_seed(int(seed >> 1))


def lazy(optimizer: Optimizer, weight: float, every: int) -> Optimizer:
    """Adam for a network whose regulariser of this weight takes an extra step at every `every` steps. It scales the
    published constants to every + 1 steps.
    """
    if not weight:
        return optimizer
    ratio, (first, second) = every / (every + 1), optimizer.betas
    return replace(optimizer, lr=optimizer.lr * ratio, betas=(first**ratio, second**ratio))


def check_batch(batch: int, judge: DiscriminatorConfig) -> None:
    """Raises RecipeError for a batch that the discriminator cannot divide into whole groups, as published."""
    here, group = batch // distributed.ranks(), getattr(judge, "group", 1)
    if here > group and here % group:
        ranks = f" ({here} on each process)" if distributed.ranks() > 1 else ""
        raise RecipeError(
            f"train.batch {batch}{ranks}: StyleGAN2's discriminator compares groups of {group} images; set it to a "
            f"multiple of {group}, or below it."
        )


class PathMean(nn.Module):
    """The running mean of path lengths, and the `coming` value, which is stored after the generator's update."""

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.coming: Tensor | None = None

    def add(self, mean: Tensor, part: Part) -> None:
        """Add the mean of one part of the batch."""
        self.coming = mean / part.count + (self.coming if part.number else 0)

    @torch.no_grad()
    def follow(self) -> None:
        self.value.copy_(self.coming)


class StyledSettings(BaseSettings):
    """`mode`: the adversarial loss. `lambda_gan`: weight of the generator's adversarial term. `lr`: learning rate;
    both networks' rates are scaled by c = every / (every + 1) for their regulariser's period. `betas`: Adam's betas,
    raised to the power c. `r1`: weight of the R1 penalty, multiplied by its period; 0 for none. `r1_every`: steps
    between two R1 penalties. `path`: weight of path-length regularisation, multiplied by its period; 0 for none.
    `path_every`: steps between two path-length regularisations. `path_share`: path lengths use the batch size
    divided by this. `path_decay`: how fast the mean path length follows new values. `mixing`: probability that a
    batch mixes the w of two z. `discriminator`: its architecture; None for the published one of the generator.
    """

    mode: Literal["vanilla"] = "vanilla"
    lambda_gan: Weight = 1.0
    lr: Positive = 2e-3
    betas: Betas = Field((0.0, 0.99), strict=False)
    r1: Weight = 10.0
    r1_every: Period = 16
    path: Weight = 2.0
    path_every: Period = 4
    path_share: int = Field(2, ge=1, le=1024)
    path_decay: float = Field(0.01, gt=0, le=1)
    mixing: float = Field(0.9, ge=0, le=1)
    discriminator: AnyDiscriminator | None = None


class StyleGAN2GAN(LatentGAN):
    """G: z -> w -> image with new noise in each layer, and the residual discriminator. Logistic losses: D minimises
    softplus(D(G(z))) + softplus(-D(x)), G lambda_gan softplus(-D(G(z))). Each uses its own vectors z.
    """

    class Settings(StyledSettings):
        """`every`: both networks are trained at every n-th step. `ema`: decay, per step, of the moving average of
        the generator that is written; 0 writes the trained generator.
        """

        name: Literal["stylegan2"] = "stylegan2"
        every: Period = 1
        ema: float = Field(EMA, ge=0, lt=1)

    twin = GAN.no_twin
    uncompiled = "training a StyleGAN2 needs second derivatives, which torch.compile does not support"
    splits = True

    def __init__(self, settings: Settings, *, generator: Generator, discriminator: Discriminator | None = None):
        if not getattr(generator, "styled", False):
            raise RecipeError(
                f"gan.name = 'stylegan2' needs a StyleGAN2, and a {generator.family} has no w; set it to latent for "
                "other generators of latent vectors."
            )
        super().__init__(settings, generator=generator, discriminator=discriminator)
        self.average = Average(generator, settings.ema) if settings.ema else None
        self.path = PathMean()
        self._path_follows = False

    # -- random numbers ------------------------------------------------------------------------------------------

    def normal(self, random: Random, *shape: int) -> Tensor:
        """This rank's part of N(0, 1) noise. `shape` is the local shape; its first size is the batch."""
        whole = shape[0] * distributed.shares(), *shape[1:]
        return distributed.mine(torch.randn(whole, generator=random, device=random.device))

    def mixing_index(self, chance: Random) -> int:
        """The layer from which the styles come from a second z: from 1 to the last, or the number of layers for
        none.
        """
        layers = self.generator.config.layers
        if torch.rand((), generator=chance).item() >= self.settings.mixing:
            return layers
        return int(torch.randint(1, layers, (), generator=chance))

    def mixture(self, z: Tensor, random: Random, chance: Random) -> Mixture:
        """A Mixture of z and, by chance, of a second draw."""
        index = self.mixing_index(chance)
        if index == self.generator.config.layers:
            return Mixture(z)
        return Mixture(z, self.normal(random, *z.shape).to(z), index)

    def noise(self, like: Tensor, random: Random) -> list[Tensor]:
        """Noise for each layer and each image of a batch."""
        return [self.normal(random, len(like), 1, side, side).to(like) for side in self.generator.noise_sides]

    def drawn(self, w: Tensor, noise: list[Tensor], taps: tuple[str, ...] = ()) -> tuple[Tensor, Taps]:
        """Images with a graph, in float32, and their taps."""
        with self.autocast(w.device):
            image, found = self.generator.synthesise(w, taps, noise)
        return precise(image), found

    def _styles(self, mixture: Mixture) -> Tensor:
        with self.autocast(mixture.first.device):
            return mixture.styles(self.generator)

    # -- a step --------------------------------------------------------------------------------------------------

    def forward(
        self, batch: Batch, random: Random, step: int = 1, *, taps: tuple[str, ...] = (), mix: bool = True
    ) -> StyledDrawn:
        """The generator's z is the batch's input, mixed with other z unless `mix` is False. The discriminator's z is
        drawn here.
        """
        chance, like = chance_of(random), batch.input
        with torch.no_grad():
            z = self.normal(random, *like.shape).to(like)
            noise = self.noise(z, random)
            judged_of = self.mixture(z, random, chance)
            judged, _ = self.drawn(self._styles(judged_of), noise)
        noise = self.noise(like, random)
        mixture = self.mixture(like, random, chance) if mix else Mixture(like)
        w = self._styles(mixture)
        image, found = self.drawn(w, noise, taps)
        self._path_follows = self._lazy(self.settings.path_every)(step) and self.settings.path > 0
        more = {"judged": judged, "judged_of": judged_of, "mixture": mixture, "w": w}
        return StyledDrawn(like, batch.real, {"teacher": image}, found, **more, random=random, chance=chance)

    def discriminator_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        fake = self.judge(self.discriminator, out.judged)
        real = self.judge(self.discriminator, out.real)
        return {"teacher_d_real": on_real("vanilla", real), "teacher_d_fake": on_fake("vanilla", fake)}

    def r1_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        """r1 / 2 times the squared norm of the scores' gradient at real images, averaged over the batch (Mescheder
        et al., ICML 2018), times the period. Parameters that it does not depend on get a gradient of 0, so that Adam
        counts the step for them too.
        """
        real = out.real.detach().requires_grad_(True)
        scores = self.discriminator(real)
        (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = gradient.square().sum((1, 2, 3)).mean()
        return {"teacher_r1": self.settings.r1 / 2 * self.settings.r1_every * penalty + 0 * scores.sum()}

    def generator_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        scores = self.watched(out, "discriminator", self.discriminator, out.images["teacher"])
        return {"teacher_gan": self.settings.lambda_gan * generator_loss("vanilla", scores)}

    def path_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        """The squared difference of path lengths to their mean (StyleGAN2, eq. 4), times the period. Lengths are
        those of new images of the generator after its own step. The gradient also goes through the mean, as
        published.
        """
        settings, generator, like, random = self.settings, self.generator, out.input, paths_of(out.random)
        z = self.normal(random, max(1, len(like) // settings.path_share), like.shape[1]).to(like)
        w = self.mixture(z, random, out.chance).styles(generator)
        if not w.requires_grad:  # the mapping network is frozen
            w.requires_grad_(True)
        image, _ = generator.synthesise(w, (), self.noise(z, random))
        direction = self.normal(random, *image.shape).to(image) / math.sqrt(image[0, 0].numel())
        (gradient,) = torch.autograd.grad((image * direction).sum(), w, create_graph=True)
        lengths = distributed.gather(gradient.square().sum(2).mean(1).sqrt())
        mean = torch.lerp(self.path.value.to(lengths), lengths.mean(), settings.path_decay)
        self.path.add(mean.detach(), distributed.current())
        penalty = (lengths - mean).square().mean()
        return {"teacher_path": settings.path * settings.path_every * penalty + 0 * image.sum()}

    def updates(self) -> list[Update]:
        """The moving average is updated once a step, after the generator's last update."""
        settings = self.settings
        judge, learns = {"discriminator": self.discriminator}, {"generator": self.generator}
        judging = lazy(self.optimizer(), settings.r1, settings.r1_every)
        learning = lazy(self.optimizer(), settings.path, settings.path_every)
        found = [Update("discriminator", judge, self.discriminator_terms, judging, settings.every, apart=True)]
        if settings.r1:
            when = self._lazy(settings.r1_every)
            found.append(Update("r1", judge, self.r1_terms, judging, when=when, apart=True))
        found.append(Update("teacher", learns, self.generator_terms, learning, settings.every, self.follow))
        if settings.path:
            when = self._lazy(settings.path_every)
            found.append(
                Update("path", learns, self.path_terms, learning, when=when, after=self._follow_path, apart=True)
            )
        return found

    def _lazy(self, every: int):
        """At the first of every `every` training steps, as published."""
        turn = self.settings.every
        return lambda step: step % turn == 0 and (step // turn - 1) % every == 0

    def follow(self) -> None:
        """Update the average, unless path-length regularisation changes the generator again in this step."""
        if self.average is not None and not self._path_follows:
            self.average.follow()

    def _follow_path(self) -> None:
        self.path.follow()
        if self.average is not None:
            self.average.follow()

    @property
    def grouped(self) -> int:
        return getattr(self.discriminator.config, "group", 1)

    def check_batch(self, batch: int) -> None:
        check_batch(batch, self.discriminator.config)

    # -- output files --------------------------------------------------------------------------------------------

    @property
    def result(self) -> Generator:
        return self.generator if self.average is None else self.average.average

    def artifacts(self) -> dict[str, nn.Module]:
        return {"teacher": self.result, "discriminator": self.discriminator}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        learning = {} if self.average is None else {"teacher_learning": (self.generator, {})}
        return learning | {"path_length": (self.path, {})}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"teacher": one_by_one(self.result, inputs)}
