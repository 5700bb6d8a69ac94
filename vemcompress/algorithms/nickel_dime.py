"""NICKEL & DiME: compresses a StyleGAN2 to 4 % of its size or less (Yeo et al., ECCV 2024).

DiME matches the means of the embeddings, and of their squares, between the student's and the teacher's images. NICKEL
makes details of the features that the student's discriminator computes from the teacher's images follow those of the
teacher's generator. In addition, the student learns against the teacher's discriminator, which is trained further.

This follows the published code, SangyeopYeo/NICKEL_AND_DIME: no image is compared with the teacher's image of the same
latent vector, although its settings have weights for that; batch means are those of each process.

The published code does not say how the teacher's moments are computed. Here they come from `moments` images of the
teacher, with unmixed styles and new noise. The published embeddings are DINO's ResNet-50 and CLIP's RN50, with weights
of 20 and 15; here there is one embedding, DINO's or another. The weights are tuned for DINO's scale, so other
embeddings are divided by the root mean square of the teacher's.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.styled import Drawings, StyledDistillation, judge_of
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.evaluation.embeddings import NO_WEIGHTS, Embedding, open_embedding
from vemcompress.evaluation.extractors import LEAST
from vemcompress.gans.latent import discriminator_like
from vemcompress.gans.stylegan2 import Mixture, StyledDrawn, StyleGAN2GAN
from vemcompress.losses.wavelets import detail_distance
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import DiscriminatorConfig
from vemcompress.system.names import NEW, OF_TEACHER
from vemcompress.system.settings import Positive, Text, Weight
from vemcompress.training.update import Output, Update

FOLLOWED = "layer3"  # the tap of discriminators whose map has a quarter of the images' side
_BATCH, _MOMENTS_SEED = 16, 11
_NAMES = {"d_real": "teacher_real", "d_fake": "teacher_fake", "r1": "teacher_r1"}


@dataclass
class Followed(Drawings):
    """What one step computes: also the teacher's images of the vectors that the discriminators learn from, and the
    teacher's maps of them.
    """

    images: Tensor | None = None
    maps: Tensor | None = None


class NickelDime(StyledDistillation):
    """Distils a frozen StyleGAN2 whose discriminator is trained further."""

    imitates = False

    class Settings(StyledDistillation.Settings):
        """`dime_first`: weight of the mean absolute difference of the embeddings' means. `dime_second`: weight of the
        mean absolute difference of the means of their squares. `features`: the network that computes embeddings.
        `features_weights`: the file of its weights. `moments`: how many images of the teacher these means are computed
        from. `nickel`: weight of NICKEL's term. `teacher_gan`: weight of the loss against the teacher's discriminator.
        `teacher_source`: the file this discriminator starts from, "teacher" for the one in the teacher's file or run,
        or "new".

        `adversary`: the student's own discriminator. It is new, as published, with the settings of StyleGAN2-ADA's
        paper256. `ema`: decay of the moving average that is written; the default is paper256's at batch 64.
        """

        class Adversary(StyledDistillation.Settings.Adversary):
            """As for CAGC, with the constants of StyleGAN2-ADA's paper256."""

            lr: Positive = 2.5e-3
            r1: Weight = 1.0
            source: Text | None = NEW

        name: Literal["nickel_dime"] = "nickel_dime"
        dime_first: Weight = 20.0
        dime_second: Weight = 20.0
        features: Literal["none", "dino_resnet50", "inception", "squeezenet1_1_caffe"] = "dino_resnet50"
        features_weights: Text | None = None
        moments: int = Field(10_000, ge=1, le=10_000_000)
        nickel: Weight = 10.0
        teacher_gan: Weight = 1.0
        teacher_source: Text | None = OF_TEACHER
        ema: float = Field(0.5 ** (64 / 20_000), ge=0, lt=1)
        adversary: Adversary = Adversary()

    files: ClassVar = (*StyledDistillation.files, "features_weights", "teacher_source")

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        settings = super().resolve(settings, facts)
        if settings.nickel and facts.size < 16:
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.nickel compares maps of a quarter of the images' side, and "
                f"images of {facts.size} px are too small for that; set it to 0."
            )
        own = settings.adversary
        if settings.nickel and own.source in (None, NEW):
            _check_widths(own.discriminator or discriminator_like(facts.teacher), facts.teacher)
        if settings.features not in ("none", "inception") and settings.features_weights is None:
            raise RecipeError(f"recipe {facts.recipe}: {NO_WEIGHTS.format(settings.features)}")
        if facts.size < (least := LEAST.get(settings.features, 1)):
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.features {settings.features} needs images of at least {least} px, "
                f"and these have {facts.size}; choose other features, or none."
            )
        return settings

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        teacher, gan = self.teacher.generator, self.own.settings
        self.theirs: StyleGAN2GAN | None = None
        if settings.teacher_gan:
            judge = judge_of(teacher, settings.teacher_source, settings.adversary.discriminator)
            own = gan.but(lambda_gan=settings.teacher_gan)
            self.theirs = StyleGAN2GAN(own, generator=self.student, discriminator=judge)
        self.followed = _followed(teacher)
        if settings.nickel:
            _check_widths(self.own.discriminator.config, teacher)
        self.embedding: Embedding | None = None
        if settings.features != "none" and (settings.dime_first or settings.dime_second):
            self.embedding = open_embedding(settings.features, settings.features_weights)
            self.moments = Moments(self.embedding.dims, scaled=settings.features != "dino_resnet50")

    # -- one step ------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, random: Random, step: int = 1) -> Output:
        if self.embedding is not None and not self.moments.known:
            with self.timer.part("moments"):
                self._measure(batch.input)
        return super().forward(batch, random, step)

    def beside(self, batch: Batch, drawn: StyledDrawn, teacher: Tensor) -> Followed:
        made = Followed(drawn)
        if self.settings.nickel:
            with self.timer.part("teacher"):
                noise = self.own.noise(batch.input, drawn.random)
                made.images, taps = self.taught(drawn.judged_of, noise, (self.followed,))
                made.maps = taps[self.followed]
        return made

    @torch.no_grad()
    def _measure(self, like: Tensor) -> None:
        """Measure the moments of the teacher's images; the result is the same on all processes."""
        random = torch.Generator(like.device).manual_seed(_MOMENTS_SEED)
        sides, left = self.teacher.generator.noise_sides, self.settings.moments
        while left:
            count = min(_BATCH, left)
            z = torch.randn(count, like.shape[1], generator=random, device=like.device).to(like)
            noise = [torch.randn(count, 1, n, n, generator=random, device=like.device).to(like) for n in sides]
            self.moments.add(self.embedding(self.taught(Mixture(z), noise, ())[0]))
            left -= count

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The losses against both discriminators, and DiME."""
        settings, terms = self.settings, super().student_terms(out)
        if self.theirs is not None:
            (terms["teacher_gan"],) = self.theirs.generator_terms(out.own.drawn).values()
        if self.embedding is not None:
            with self.autocast(out.student.device):
                found = self.embedding(out.student)
            first, second = self.moments.distances(found)
            terms |= {"dime_first": settings.dime_first * first, "dime_second": settings.dime_second * second}
        return terms

    def nickel(self, out: Output) -> Tensor:
        """NICKEL's distance, on the teacher's images: details of the student's discriminator's maps to those of the
        teacher's generator's maps.
        """
        with self.autocast(out.student.device):
            _, taps = self.own.discriminator.forward_with_taps(out.own.images, (FOLLOWED,))
        return detail_distance(out.own.maps, taps[FOLLOWED])

    # -- the updates ---------------------------------------------------------------------------------------------

    def extra_updates(self) -> list[Update]:
        judge, *r1 = super().extra_updates()
        settings, terms = self.settings, judge.terms
        if settings.nickel:
            judge = replace(judge, terms=lambda out: terms(out) | {"nickel": settings.nickel * self.nickel(out)})
        return [judge, *r1, *self._judging()]

    def _judging(self) -> list[Update]:
        """Updates of the teacher's discriminator, which learns from the student's images too."""
        if self.theirs is None:
            return []

        def named(terms):
            return lambda out: {_NAMES[k.removeprefix("teacher_")]: v for k, v in terms(out.own.drawn).items()}

        names = {"discriminator": "teacher_discriminator", "r1": "teacher_r1"}
        found = [u for u in self.theirs.updates() if u.name in names]
        modules = {"teacher_discriminator": self.theirs.discriminator}
        return [replace(u, name=names[u.name], modules=modules, terms=named(u.terms)) for u in found]

    # -- output files --------------------------------------------------------------------------------------------

    def artifacts(self) -> dict[str, nn.Module]:
        theirs = {} if self.theirs is None else {"teacher_discriminator": self.theirs.discriminator}
        return super().artifacts() | theirs

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | ({} if self.embedding is None else {"moments": (self.moments, {})})


def _followed(teacher: Generator) -> str:
    """The tap of the teacher's last map with a quarter of the images' side."""
    return f"conv{2 * len(teacher.places) - 5}"


def _check_widths(judge: DiscriminatorConfig, teacher: Generator) -> None:
    """NICKEL compares maps channel by channel. Raises RecipeError if their channels differ in number."""
    mine, theirs = getattr(judge, "widths", (0, 0, 0))[2], teacher.tap_channels(_followed(teacher))
    if mine != theirs:
        raise RecipeError(
            f"algorithm.nickel: the discriminator has {mine} channels where the teacher's generator has {theirs}; "
            "give one of the same width in algorithm.adversary.discriminator, or set algorithm.nickel to 0."
        )


class Moments(nn.Module):
    """Means of embeddings and of their squares, D values each, over all images added so far. `scaled`: whether
    distances are divided by the embeddings' root mean square.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(self, dims: int, *, scaled: bool = False):
        super().__init__()
        self.scaled = scaled
        self.register_buffer("first", torch.zeros(dims))
        self.register_buffer("second", torch.zeros(dims))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._known = False

    @property
    def known(self) -> bool:
        """Whether any images were added. Once true, it no longer waits for a GPU."""
        self._known = self._known or bool(self.count > 0)
        return self._known

    def add(self, found: Tensor) -> None:
        """Add embeddings B x D to the means."""
        total = self.count + len(found)
        self.first.lerp_(found.mean(0), len(found) / total)
        self.second.lerp_(found.square().mean(0), len(found) / total)
        self.count.copy_(total)

    def distances(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """DiME for a batch's embeddings, B x D: mean absolute differences of both moments, as scalars."""
        first, second = found.mean(0), found.square().mean(0)
        square = self.second.mean() if self.scaled else 1.0
        return (first - self.first).abs().mean() / square**0.5, (second - self.second).abs().mean() / square
