"""Pix2Pix: training from pairs (Isola et al., CVPR 2017), and OMGD's two teachers (Ren et al., ICCV 2021)."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, cat

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN, check_channels, discriminator_for, fit
from vemcompress.gans.sparsity import Sparsity
from vemcompress.gans.start import Start
from vemcompress.losses.adversarial import discriminator_loss, generator_loss, precise
from vemcompress.networks import Config
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.discriminators import (
    AnyDiscriminator,
    Discriminator,
    PatchGANConfig,
    SharedPatchGANConfig,
    TeacherName,
)
from vemcompress.networks.generators.deep import DeepUNetConfig
from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.networks.norms import PassOrder
from vemcompress.system.settings import BaseSettings, Betas, Period, Positive, Text, Weight
from vemcompress.training.update import Update

# The published order in which the discriminator's BatchNorm sees OMGD's passes, each for one teacher. First its own
# update: fake before real, teacher after teacher. Then the teachers' updates, the wide one's image first. (Here the
# gradients are computed in another order, which does not affect the running statistics.)
PUBLISHED_PASSES = (
    ("wide", "wide"), ("wide", "real"), ("deep", "deep"), ("deep", "real"), ("wide", "wide"), ("deep", "deep"),
)  # fmt: skip


DEEP_WIDTH = 16  # width of OMGD's deep teacher: the student's, as published


@dataclass
class Pairs:
    """One step's A and B, the teachers' images of A by name, and feature maps of the first teacher.

    `scores`: scores of the teachers' images with their graphs, if the discriminator's update shares them with the
    teachers'. `features`: see GAN.
    """

    input: Tensor
    target: Tensor
    images: dict[str, Tensor]
    taps: Taps = field(default_factory=dict)
    scores: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def fakes(self) -> dict[str, Tensor]:
        return {"discriminator": next(iter(self.images.values()))}

    @property
    def maps(self) -> list[Taps]:
        return [self.taps]


class Conditional(GAN):
    """Teachers G: A -> B, and a discriminator of cat(A, B).

    G minimises lambda_gan L_G(D(A, G(A))) + lambda_recon |G(A) - B|, D 0.5 (L_fake + L_real) (`losses.adversarial`).
    """

    class Settings(BaseSettings):
        """`mode`: the adversarial loss. `lambda_recon`: weight of the image difference. `lambda_gan`: weight of the
        adversarial term. `lr`: learning rate of all networks. `betas`: betas of their Adam. `every`: teachers and
        discriminator are trained at every n-th step (n_dis). `sparsity`: an L1 penalty for later pruning.
        """

        name: Text
        mode: Literal["hinge", "lsgan", "vanilla"] = "hinge"
        lambda_recon: Weight = 100.0
        lambda_gan: Weight = 1.0
        lr: Positive = 2e-4
        betas: Betas = Field((0.5, 0.999), strict=False)
        every: Period = 1
        sparsity: Sparsity | None = None

    data = ("paired", "labels")
    discriminator: Discriminator

    def forward(self, batch: Batch, random: Random, step: int = 1, *, taps: tuple[str, ...] = ()) -> Pairs:
        """A is the batch's input, B its target."""
        return Pairs(batch.input, batch.target, *self.translate(batch.input, taps))

    def scores(self, teacher: str, condition: Tensor, image: Tensor) -> Tensor:
        """The discriminator's raw scores of an image of that teacher."""
        return self.judge(self.discriminator, cat((condition, image), dim=1))

    def discriminator_terms(self, out: Pairs) -> dict[str, Tensor]:
        """Fake, then real, teacher after teacher: the published order in which BatchNorm's statistics see them."""
        terms = {}
        for teacher, image in out.images.items():
            fake = self.scores(teacher, out.input, image.detach())
            real = self.scores(teacher, out.input, out.target)
            halves = discriminator_loss(self.settings.mode, real, fake)
            terms |= {f"{teacher}_d_{half}": value for half, value in halves.items()}
        return terms

    def generator_terms(self, teacher: str, out: Pairs) -> dict[str, Tensor]:
        """Eq. 11, against the discriminator in its current state."""
        settings, image = self.settings, out.images[teacher]
        scores = out.scores[teacher] if out.scores else self._watched_scores(teacher, out, image)
        terms = {f"{teacher}_gan": settings.lambda_gan * generator_loss(settings.mode, scores)}
        terms[f"{teacher}_recon"] = settings.lambda_recon * F.l1_loss(image, out.target)
        return terms | self.sparse_terms(teacher)

    def _watched_scores(self, teacher: str, out: Pairs, image: Tensor) -> Tensor:
        return self.scores(teacher, out.input, image)

    def _discriminator_update(self, together: str | None) -> Update:
        learns = {"discriminator": self.discriminator}
        options = {"every": self.settings.every, "together": together, "retains": bool(together)}
        return Update("discriminator", learns, self.discriminator_terms, self.optimizer(), **options)

    def _generator_update(self, teacher: str, together: str | None) -> Update:
        learns, terms = {"generator": self.generators()[teacher]}, partial(self.generator_terms, teacher)
        return Update(teacher, learns, terms, self.optimizer(), self.settings.every, together=together)

    def discriminators(self) -> dict[str, Discriminator]:
        return {"discriminator": self.discriminator}


class Pix2Pix(Conditional):
    """One teacher. As published, the discriminator is updated first, and the teacher learns from the updated one."""

    class Settings(Conditional.Settings):
        """`discriminator`: the architecture of the discriminator; its channels and norm follow the generator unless
        set.

        Hinge and a width of 128 are the defaults of GAN-Compression and OMGD; the original Pix2Pix used vanilla and 64.
        """

        name: Literal["pix2pix"] = "pix2pix"
        discriminator: AnyDiscriminator = PatchGANConfig(width=128)

    started = ("discriminator",)

    @classmethod
    def build(cls, settings: Settings, first: Generator, start: Start) -> "Pix2Pix":
        judge = start.discriminator("discriminator", sum(first.channels))
        return cls(settings, generator=first, discriminator=judge)

    def __init__(self, settings: Settings, *, generator: Generator, discriminator: Discriminator | None = None):
        super().__init__()
        self.settings, self.generator = settings, generator
        channels = generator.in_channels + generator.out_channels
        self.discriminator = discriminator_for(settings.discriminator, discriminator, channels, generator, shared=False)

    def shown(self, condition: Tensor, image: Tensor) -> Tensor:
        return cat((condition, image), dim=1)

    def _watched_scores(self, teacher: str, out: Pairs, image: Tensor) -> Tensor:
        return self.watched(out, "discriminator", self.discriminator, self.shown(out.input, image))

    def generators(self) -> dict[str, Generator]:
        return {"teacher": self.generator}

    def updates(self) -> list[Update]:
        return [self._discriminator_update(None), self._generator_update("teacher", None)]


class Pix2PixTeachers(Conditional):
    """OMGD's wide and deep teacher, which share a discriminator up to some stage.

    The gradients of the deep teacher are computed before those of the wide one, both through the discriminator before
    its update; then all three are updated. So each fake is judged once, for the discriminator's loss and for its
    teacher's. The real image is judged once for both teachers in the shared stages. The published code makes seven
    passes where this makes three.
    """

    class Settings(Conditional.Settings):
        """As for Pix2Pix. `discriminator`: a shared_patchgan with its n_share."""

        name: Literal["pix2pix_teachers"] = "pix2pix_teachers"
        discriminator: AnyDiscriminator = SharedPatchGANConfig()

    started = ("deep", "discriminator")
    twin = GAN.no_twin

    @classmethod
    def build(cls, settings: Settings, first: Generator, start: Start) -> "Pix2PixTeachers":
        deep = start.generator("deep", lambda: deep_like(first.config, start.recipe), first.channels)
        expected = fit(settings.discriminator, sum(first.channels), first)  # published files do not store n_share
        judge = start.discriminator("discriminator", sum(first.channels), expected)
        return cls(settings, wide=first, deep=deep, discriminator=judge)

    def __init__(
        self, settings: Settings, *, wide: Generator, deep: Generator, discriminator: Discriminator | None = None
    ):
        super().__init__()
        self.settings, self.wide, self.deep = settings, wide, deep
        channels = wide.in_channels, wide.out_channels
        check_channels(channels, "deep", deep)
        self.discriminator = discriminator_for(settings.discriminator, discriminator, sum(channels), wide, shared=True)

    def generators(self) -> dict[str, Generator]:
        return {"wide": self.wide, "deep": self.deep}

    def scores(self, teacher: TeacherName, condition: Tensor, image: Tensor) -> Tensor:
        return self.judge(self.discriminator, cat((condition, image), dim=1), teacher)

    def discriminator_terms(self, out: Pairs) -> dict[str, Tensor]:
        orders = self._published_order()
        with ExitStack() as passes:
            for order in orders:
                passes.enter_context(order.named("real"))
            real = self._real_scores(out)
        terms = {}
        for teacher, image in out.images.items():
            with ExitStack() as passes:
                for order in orders:
                    if teacher in order.order:
                        passes.enter_context(order.named(teacher))
                out.scores[teacher] = self.scores(teacher, out.input, image)
            halves = discriminator_loss(self.settings.mode, real[teacher], out.scores[teacher])
            terms |= {f"{teacher}_d_{half}": value for half, value in halves.items()}
        for order in orders:
            order.settle()
        return terms

    def _real_scores(self, out: Pairs) -> dict[TeacherName, Tensor]:
        with self.autocast(out.input.device):
            scores = self.discriminator.for_both(cat((out.input, out.target), dim=1))
        return {teacher: precise(value) for teacher, value in scores.items()}

    def _published_order(self) -> list[PassOrder]:
        """The orders of passes by stages: stages of both teachers see every pass, the others those of their own
        teacher.
        """
        passes = {
            owner: [name for teacher, name in PUBLISHED_PASSES if owner in (teacher, "both")]
            for owner in ("both", "wide", "deep")
        }
        stages = self.discriminator.owners().items()
        return [PassOrder((stage.norm for stage in of_owner), passes[owner]) for owner, of_owner in stages]

    def updates(self) -> list[Update]:
        group = "teachers"
        discriminator = self._discriminator_update(group)
        return [discriminator, self._generator_update("deep", group), self._generator_update("wide", group)]


def deep_like(wide: Config, recipe: str) -> Config:
    """OMGD's deep teacher for a U-Net, with as many levels. Raises RecipeError for other networks."""
    if not isinstance(wide, UNetConfig):
        raise RecipeError(f"recipe {recipe}: teacher.deep is not set; set the network of the deep teacher.")
    return DeepUNetConfig(width=DEEP_WIDTH, downs=len(wide.down), norm=wide.norm)
