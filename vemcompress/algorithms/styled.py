"""Base class for distillation from one StyleGAN2 to another that continues StyleGAN2's own training, as in CAGC and its
successors.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.distillation import Distillation, Facts, Needs, Parts
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import discriminator_for
from vemcompress.gans.latent import discriminator_like
from vemcompress.gans.stylegan2 import EMA, Mixture, StyledDrawn, StyledSettings, StyleGAN2GAN, check_batch, lazy
from vemcompress.information.base import Information
from vemcompress.losses.adversarial import precise
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.discriminators import AnyDiscriminator, Discriminator, DiscriminatorConfig
from vemcompress.system.names import OF_TEACHER
from vemcompress.system.settings import Text
from vemcompress.training.update import Output, Update
from vemcompress.weights.discriminator import load_discriminator

_NAMES = {"d_real": "adversary_real", "d_fake": "adversary_fake", "r1": "adversary_r1", "gan": "gan", "path": "path"}


@dataclass
class Drawings:
    """What the student's own GAN computed in this step."""

    drawn: StyledDrawn


class StyledDistillation(Distillation):
    """Order of a step: the student's discriminator; at every 16th step its R1 penalty; the student; at every 4th step
    its path-length regularisation; the moving average.

    Teacher and student get the same latent vectors and mix styles at the same layer, but each has its own noise, as
    published.
    """

    class Settings(Distillation.Settings):
        """`ema`: decay of the moving average of the student that is written. `adversary`: the student's own GAN."""

        shared: ClassVar = True

        class Adversary(StyledSettings):
            """The student's own GAN. `source`: the file its discriminator starts from, "teacher" for the one in the
            teacher's file or run, or "new". `lr`: the discriminator's learning rate; the student's is in [train].
            `betas`: the discriminator's Adam betas.
            """

            source: Text | None = OF_TEACHER  # None once "teacher" or "new" is resolved

        ema: float = Field(EMA, ge=0, lt=1)
        adversary: Adversary = Adversary()

    needs: ClassVar = Needs(teacher="frozen", takes=("latent",), real=True)
    imitates: ClassVar[bool] = True  # whether the loss terms compare images of the same latent vectors
    files: ClassVar = ("adversary.source",)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        teacher, student = facts.teacher, facts.student
        for role, network in (("teacher", teacher), ("student", student)):
            if not network.styled:
                raise RecipeError(
                    f"recipe {facts.recipe}: {cls.__name__} needs StyleGAN2 networks, and this {role} is a "
                    f"{network.family}; set algorithm.name to kd or gcc."
                )
        if student.takes != teacher.takes:
            raise RecipeError(
                f"recipe {facts.recipe}: the student makes images of {student.takes.image} px and the teacher of "
                f"{teacher.takes.image} px; use a student of the teacher's depth."
            )
        own = settings.adversary
        if own.discriminator is not None:
            settings = settings.but(adversary=own.but(discriminator=as_wide(own.discriminator, teacher)))
        check_batch(facts.batch, settings.adversary.discriminator or discriminator_like(teacher))
        return settings

    @classmethod
    def wants_real(cls, settings: Settings) -> bool:
        return True

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        own = settings.adversary
        self.optimizer = lazy(parts.optimizer, own.path, own.path_every)
        gan = StyleGAN2GAN.Settings(**own.model_dump(exclude={"source", "discriminator"}), ema=0.0)
        judge = judge_of(self.teacher.generator, own.source, own.discriminator)
        self.own = StyleGAN2GAN(gan, generator=self.student, discriminator=judge)
        self.own.average = self.average
        self.splits = self.information.splits
        self.period = math.lcm(own.r1_every if own.r1 else 1, own.path_every if own.path else 1)

    def train(self, mode: bool = True) -> "StyledDistillation":
        super().train(mode)
        self.own.train(mode)
        return self

    @property
    def grouped(self) -> int:
        return self.own.grouped

    # -- one step ------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, random: Random, step: int = 1, *, plain: bool = False) -> Output:
        """Compute a step. `plain`: styles are not mixed, and the teacher uses its stored noise, as when images are
        generated one by one.
        """
        with self.timer.part("student"):
            drawn = self.own(batch, random, step, taps=self.student_taps, mix=not plain)
        student = drawn.images["teacher"]
        self.timer.until_gradient(student, "features")
        needed = self.imitates or type(self.information) is not Information
        with self.timer.part("teacher"):
            noise = None if plain else self.own.noise(batch.input, random)
            teacher, taps = student.detach(), {}
            if needed:
                teacher, taps = self.taught(drawn.mixture, noise, self.teacher_taps)
        made = self.beside(batch, drawn, teacher)
        out = Output(batch.input, student, teacher, teacher, drawn.taps, taps, random, own=made)
        out.real, out.index = batch.real, batch.index
        return out

    def beside(self, batch: Batch, drawn: StyledDrawn, teacher: Tensor) -> Drawings:
        """What a method computes in addition, from the student's GAN's draws and the teacher's images."""
        return Drawings(drawn)

    @torch.no_grad()
    def taught(self, mixture: Mixture, noise: list[Tensor] | None, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The teacher's images of latent vectors, with the taps `names`. Without `noise` its stored noise is used."""
        generator = self.teacher.generator
        with self.autocast(mixture.first.device):
            image, taps = generator.synthesise(mixture.styles(generator), names, noise)
        return precise(image), taps

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The loss of the student's own GAN."""
        return mine(self.own.generator_terms(out.own.drawn))

    # -- the updates ---------------------------------------------------------------------------------------------

    def own_updates(self, *names: str, **changes: Any) -> list[Update]:
        """The named updates of the student's own GAN, adapted to read this step's output."""
        return [
            replace(update, terms=lambda out, terms=update.terms: mine(terms(out.own.drawn)), **changes)
            for update in self.own.updates()
            if update.name in names
        ]

    def extra_updates(self) -> list[Update]:
        return self.own_updates("discriminator", "r1")

    def late_updates(self) -> list[Update]:
        return self.own_updates("path", optimizer=self.optimizer, modules={"student": self.student})

    def moved(self) -> None:
        self.own.follow()

    # -- output files --------------------------------------------------------------------------------------------

    def artifacts(self) -> dict[str, nn.Module]:
        return super().artifacts() | {"adversary": self.own.discriminator}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | {"path_length": (self.own.path, {})}


def as_wide(config: DiscriminatorConfig, teacher: Generator) -> DiscriminatorConfig:
    """The Config, with the unset widths as in the published discriminator for the teacher's images."""
    like, stated = discriminator_like(teacher), config.model_fields_set
    if config.family == like.family:
        config = config.but(**{key: getattr(like, key) for key in ("width", "most") if key not in stated})
    return config.for_images(teacher.takes)


def judge_of(teacher: Generator, source: str | None, config: AnyDiscriminator | None = None) -> Discriminator:
    """A discriminator from a file, or a new one: of this Config, or as wide as the teacher."""
    given = load_discriminator(source) if source else None
    where, channels = "algorithm.adversary", teacher.out_channels
    found = discriminator_for(
        config or discriminator_like(teacher), given, channels, teacher, shared=False, where=where
    )
    return found.train().requires_grad_(True)


def mine(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the student's own GAN under the student's names."""
    return {_NAMES[name.removeprefix("teacher_")]: term for name, term in terms.items()}
