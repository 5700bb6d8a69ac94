"""CycleGAN: unpaired training of two generators, A -> B and B -> A (Zhu et al., ICCV 2017)."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN, check_channels, discriminator_for
from vemcompress.gans.pool import ImagePool
from vemcompress.gans.sparsity import Sparsity
from vemcompress.gans.start import Start
from vemcompress.losses.adversarial import discriminator_loss, generator_loss, precise
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.discriminators import AnyDiscriminator, Discriminator, PatchGANConfig
from vemcompress.system.settings import BaseSettings, Betas, Images, Period, Positive, Weight
from vemcompress.training.update import Update


@dataclass
class Cycle:
    """One step's images of both domains, their translations, and these translated back (None if nothing is trained).

    `taps` are `generator_a`'s; `taps_b` are `generator_b`'s if requested. `features`: see GAN.
    """

    real_a: Tensor
    real_b: Tensor
    fake_b: Tensor
    fake_a: Tensor
    back_a: Tensor | None
    back_b: Tensor | None
    random: Random
    taps: Taps = field(default_factory=dict)
    taps_b: Taps = field(default_factory=dict)
    features: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def fakes(self) -> dict[str, Tensor]:
        return {"discriminator_a": self.fake_b, "discriminator_b": self.fake_a}

    @property
    def maps(self) -> list[Taps]:
        return [self.taps, self.taps_b]

    @property
    def images(self) -> dict[str, Tensor]:
        """The images of the teacher A -> B."""
        return {"generator_a": self.fake_b}


class CycleGAN(GAN):
    """`generator_a` translates A to B, and `discriminator_a` judges images of B, as in the published files; `b` the
    reverse.

    Both generators are updated first, by one loss; then both discriminators, on images of B and A and on pooled fakes.
    """

    class Settings(BaseSettings):
        """`mode`: the adversarial loss. `lambda_a`: weight of the cycle A -> B -> A. `lambda_b`: weight of the cycle
        B -> A -> B. `identity`: weight of the identity term, as a share of lambda_A and lambda_B; 0 omits it.
        `lambda_gan`: weight of the adversarial term. `pool`: how many earlier fakes a discriminator sees again.
        `lr`: learning rate of all networks. `betas`: betas of their Adam. `every`: they are trained at every n-th
        step. `discriminator`: the architecture of both discriminators. `sparsity`: an L1 penalty for later pruning.
        """

        name: Literal["cyclegan"] = "cyclegan"
        mode: Literal["hinge", "lsgan", "vanilla"] = "lsgan"
        lambda_a: Weight = 10.0
        lambda_b: Weight = 10.0
        identity: Weight = 0.5
        lambda_gan: Weight = 1.0
        pool: Images = 50
        lr: Positive = 2e-4
        betas: Betas = Field((0.5, 0.999), strict=False)
        every: Period = 1
        discriminator: AnyDiscriminator = PatchGANConfig(width=64)
        sparsity: Sparsity | None = None

    started = ("generator_b", "discriminator_a", "discriminator_b")
    data = ("unpaired",)

    @classmethod
    def build(cls, settings: Settings, first: Generator, start: Start) -> "CycleGAN":
        back = start.generator("generator_b", lambda: first.config, first.channels[::-1])
        judges = {
            name: start.discriminator(name, generator.out_channels)
            for name, generator in (("discriminator_a", first), ("discriminator_b", back))
        }
        return cls(settings, generator_a=first, generator_b=back, **judges)

    def __init__(
        self,
        settings: Settings,
        *,
        generator_a: Generator,
        generator_b: Generator,
        discriminator_a: Discriminator | None = None,
        discriminator_b: Discriminator | None = None,
    ):
        super().__init__()
        self.settings, self.generator_a, self.generator_b = settings, generator_a, generator_b
        channels = generator_a.in_channels, generator_a.out_channels
        check_channels(channels[::-1], "second", generator_b)
        if settings.identity and channels[0] != channels[1]:
            raise RecipeError(
                f"gan.identity {settings.identity} needs two domains with equal channels, and these have {channels[0]} "
                f"and {channels[1]}; set it to 0."
            )
        self.discriminator_a, self.discriminator_b = (
            discriminator_for(settings.discriminator, given, generator.out_channels, generator, shared=False)
            for given, generator in ((discriminator_a, generator_a), (discriminator_b, generator_b))
        )
        self.pool_a, self.pool_b = ImagePool(settings.pool), ImagePool(settings.pool)  # of fakes of A, and of B

    def forward(self, batch: Batch, random: Random, step: int = 1, *, taps: tuple[str, ...] = ()) -> Cycle:
        """A is the batch's input, B its real images."""
        real_a, real_b = batch.input, batch.real
        images, maps = self.translate(real_a, taps)
        fake_b = images["generator_a"]
        back_a = self.generate(self.generator_b, fake_b)
        with self.autocast(real_b.device):
            fake_a, maps_b = self.generator_b.forward_with_taps(real_b, taps if self.follows_back else ())
        fake_a = precise(fake_a)
        back_b = self.generate(self.generator_a, fake_a)
        return Cycle(real_a, real_b, fake_b, fake_a, back_a, back_b, random, maps, maps_b)

    def generator_terms(self, out: Cycle) -> dict[str, Tensor]:
        """Identity (G_A should not change images of B), adversarial and cycle terms of both directions."""
        settings, terms = self.settings, {}
        if settings.identity:
            same_b = self.generate(self.generator_a, out.real_b)
            same_a = self.generate(self.generator_b, out.real_a)
            terms["a_identity"] = settings.identity * settings.lambda_b * F.l1_loss(same_b, out.real_b)
            terms["b_identity"] = settings.identity * settings.lambda_a * F.l1_loss(same_a, out.real_a)
        for side, judge, fake in (
            ("a", self.discriminator_a, out.fake_b),
            ("b", self.discriminator_b, out.fake_a),
        ):
            terms[f"{side}_gan"] = settings.lambda_gan * generator_loss(settings.mode, self.judge(judge, fake))
        terms["a_cycle"] = settings.lambda_a * F.l1_loss(out.back_a, out.real_a)
        terms["b_cycle"] = settings.lambda_b * F.l1_loss(out.back_b, out.real_b)
        return terms | self.sparse_terms("generator_a") | self.sparse_terms("generator_b")

    def discriminator_terms(self, out: Cycle) -> dict[str, Tensor]:
        """Real, then fake, for B and then for A. The pools are drawn from in the published order too."""
        terms = {}
        for side, judge, pool, real, fake in (
            ("a", self.discriminator_a, self.pool_b, out.real_b, out.fake_b),
            ("b", self.discriminator_b, self.pool_a, out.real_a, out.fake_a),
        ):
            earlier = pool.query(fake, out.random)
            scores = self.judge(judge, real), self.watched(out, f"discriminator_{side}", judge, earlier)
            halves = discriminator_loss(self.settings.mode, *scores)
            terms |= {f"{side}_d_{half}": value for half, value in halves.items()}
        return terms

    @torch.no_grad()
    def observe(self, batch: Batch, random: Random, step: int, taps: tuple[str, ...]) -> Cycle:
        """Without the cycles back, which are only used in training."""
        images, maps = self.translate(batch.input, taps)
        with self.autocast(batch.real.device):
            fake_a, maps_b = self.generator_b.forward_with_taps(batch.real, taps if self.follows_back else ())
        fakes = images["generator_a"], precise(fake_a)
        return Cycle(batch.input, batch.real, *fakes, None, None, random, maps, maps_b)

    def draw(self, batch: Batch) -> dict[str, Tensor]:
        fake_b, fake_a = self.generate(self.generator_a, batch.input), self.generate(self.generator_b, batch.real)
        return {"discriminator_a": fake_b, "discriminator_b": fake_a}

    def reals(self, batch: Batch) -> dict[str, Tensor]:
        return {"discriminator_a": batch.real, "discriminator_b": batch.input}

    def updates(self) -> list[Update]:
        judges = {"a": self.discriminator_a, "b": self.discriminator_b}
        makers = {"a": self.generator_a, "b": self.generator_b}
        return [
            Update("generators", makers, self.generator_terms, self.optimizer(), self.settings.every),
            Update("discriminators", judges, self.discriminator_terms, self.optimizer(), self.settings.every),
        ]

    def generators(self) -> dict[str, Generator]:
        return {"generator_a": self.generator_a, "generator_b": self.generator_b}

    def teachers(self) -> dict[str, Generator]:
        return {"generator_a": self.generator_a}

    def discriminators(self) -> dict[str, Discriminator]:
        return {"discriminator_a": self.discriminator_a, "discriminator_b": self.discriminator_b}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return {"pool_a": (self.pool_a, {}), "pool_b": (self.pool_b, {})}
