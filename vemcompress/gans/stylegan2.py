"""A StyleGAN2 that learns (Karras et al., CVPR 2020), with the regularisers and constants of the rosinality code.

A step is: the discriminator; at each 16th, R1 of it; the generator; at each 4th, its path lengths; the moving average.
The two regularisers are optimiser steps of their own that share Adam's state with the network that they regularise.
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

EMA = 0.5 ** (32 / 10_000)  # the published decay of the average, at each step whatever the batch


@dataclass(frozen=True)
class Mixture:
    """Latent vectors B x size, and those of a `second` draw whose styles serve from layer `index` on; None for none."""

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
    """Beside it what the discriminator learns from and of which latent vectors (`judged_of`), the `mixture` that the
    generator learns from and its `w`, and the step's random numbers: those on the device, and on the CPU the ones that
    decide where styles are mixed."""

    judged: Tensor
    judged_of: Mixture
    mixture: Mixture
    w: Tensor
    random: Random
    chance: Random


def chance_of(random: Random) -> Random:
    """A step's other random numbers, on the CPU, where choosing does not wait for a GPU."""
    return _another(random, 1, "cpu")


def paths_of(random: Random) -> Random:
    """A step's random numbers of path lengths, whatever else was drawn before."""
    return _another(random, 2, random.device)


def _another(random: Random, purpose: int, device: torch.device | str) -> Random:
    """Of another seed: the same would give numbers that go with those of z."""
    seed = np.random.SeedSequence([random.initial_seed(), purpose]).generate_state(1, np.uint64)[0]
    return Random(device).manual_seed(int(seed >> 1))


def lazy(optimizer: Optimizer, weight: float, every: int) -> Optimizer:
    """Adam's where a regulariser of this weight takes a step more at each `every` steps: every + 1 where the published
    constants mean `every`."""
    if not weight:
        return optimizer
    ratio, (first, second) = every / (every + 1), optimizer.betas
    return replace(optimizer, lr=optimizer.lr * ratio, betas=(first**ratio, second**ratio))


def check_batch(batch: int, judge: DiscriminatorConfig) -> None:
    """Raises RecipeError for a batch whose images the discriminator cannot put into whole groups, as published."""
    here, group = batch // distributed.ranks(), getattr(judge, "group", 1)
    if here > group and here % group:
        ranks = f" ({here} on each process)" if distributed.ranks() > 1 else ""
        raise RecipeError(
            f"train.batch {batch}{ranks}: a StyleGAN2's discriminator compares groups of {group} images; set it to a "
            f"multiple of {group}, or to fewer."
        )


class PathMean(nn.Module):
    """The mean path length so far, and the `coming` one, which counts once the generator has moved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.coming: Tensor | None = None

    def add(self, mean: Tensor, part: Part) -> None:
        """Take what a part of the batch gives into account."""
        self.coming = mean / part.count + (self.coming if part.number else 0)

    @torch.no_grad()
    def follow(self) -> None:
        self.value.copy_(self.coming)


class StyledSettings(BaseSettings):
    """`r1`, `path`: the regularisers' weights, 0 for none; each is multiplied by its period `every`, and Adam's rate
    and betas follow it: lr c, betas to the power of c, with c = every / (every + 1). `path_share`: path lengths are
    those of so small a part of the batch; `path_decay`: how fast their mean moves. `mixing`: how often a batch has w of
    two z."""

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
    softplus(D(G(z))) + softplus(-D(x)), G lambda_gan softplus(-D(G(z))), each on vectors z of its own.
    """

    class Settings(StyledSettings):
        """`ema`: the decay of the generator that is written, per step; 0 for the last one."""

        name: Literal["stylegan2"] = "stylegan2"
        every: Period = 1
        ema: float = Field(EMA, ge=0, lt=1)

    twin = GAN.no_twin
    uncompiled = "a StyleGAN2 that learns needs second derivatives, which compilers lack"
    splits = True

    def __init__(self, settings: Settings, *, generator: Generator, discriminator: Discriminator | None = None):
        if not getattr(generator, "styled", False):
            raise RecipeError(
                f"gan.name = 'stylegan2' is for a StyleGAN2, and a {generator.family} has no w; set it to latent for "
                "others that draw from latent vectors."
            )
        super().__init__(settings, generator=generator, discriminator=discriminator)
        self.average = Average(generator, settings.ema) if settings.ema else None
        self.path = PathMean()
        self._path_follows = False

    # -- random numbers ------------------------------------------------------------------------------------------

    def normal(self, random: Random, *shape: int) -> Tensor:
        """This rank's part of N(0, 1), of the shape that it has here; its first side is the batch."""
        whole = shape[0] * distributed.shares(), *shape[1:]
        return distributed.mine(torch.randn(whole, generator=random, device=random.device))

    def mixing_index(self, chance: Random) -> int:
        """From which layer on the styles are those of a second z: from 1 to the last, or behind it for none."""
        layers = self.generator.config.layers
        if torch.rand((), generator=chance).item() >= self.settings.mixing:
            return layers
        return int(torch.randint(1, layers, (), generator=chance))

    def mixture(self, z: Tensor, random: Random, chance: Random) -> Mixture:
        """Of z, and with chance of a second draw."""
        index = self.mixing_index(chance)
        if index == self.generator.config.layers:
            return Mixture(z)
        return Mixture(z, self.normal(random, *z.shape).to(z), index)

    def noise(self, like: Tensor, random: Random) -> list[Tensor]:
        """For each image of a batch its noise in each layer."""
        return [self.normal(random, len(like), 1, side, side).to(like) for side in self.generator.noise_sides]

    def drawn(self, w: Tensor, noise: list[Tensor], taps: tuple[str, ...] = ()) -> tuple[Tensor, Taps]:
        """Images as they are learnt from, and their taps."""
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
        """The generator's z is the batch's input, mixed with others unless `mix` is False; the discriminator's is
        drawn."""
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
        """r1 / 2 times the squared norm of the scores' gradient at real images, the batch's mean (Mescheder et al.,
        ICML 2018), times the period. Parameters that it does not depend on have a gradient of 0, which Adam counts."""
        real = out.real.detach().requires_grad_(True)
        scores = self.discriminator(real)
        (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = gradient.square().sum((1, 2, 3)).mean()
        return {"teacher_r1": self.settings.r1 / 2 * self.settings.r1_every * penalty + 0 * scores.sum()}

    def generator_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        scores = self.watched(out, "discriminator", self.discriminator, out.images["teacher"])
        return {"teacher_gan": self.settings.lambda_gan * generator_loss("vanilla", scores)}

    def path_terms(self, out: StyledDrawn) -> dict[str, Tensor]:
        """The squared difference of path lengths to their mean (StyleGAN2, eq. 4), times the period: lengths of new
        images, of the generator as it is after its own step. The gradient goes through the mean too, as published."""
        settings, generator, like, random = self.settings, self.generator, out.input, paths_of(out.random)
        z = self.normal(random, max(1, len(like) // settings.path_share), like.shape[1]).to(like)
        w = self.mixture(z, random, out.chance).styles(generator)
        if not w.requires_grad:  # a mapping network that does not learn
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
        """The moving average follows once a step, after the last update of its generator."""
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
        """At the first of so many steps at which it learns, as published."""
        turn = self.settings.every
        return lambda step: step % turn == 0 and (step // turn - 1) % every == 0

    def follow(self) -> None:
        """The average's, unless path lengths move the generator again at this step."""
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

    # -- what is written -----------------------------------------------------------------------------------------

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
