"""Base class for distillation of a student that has a GAN of its own beside the teacher's, as in GCC, DMAD and
fine-tuning.

The student's GAN is of the teacher's kind: it has its own discriminators and, for CycleGAN, its own backward generator.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.distillation import Distillation, Needs, Parts
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.gans.start import Start
from vemcompress.networks import GENERATORS
from vemcompress.networks.base import Generator, Taps
from vemcompress.system.settings import Text
from vemcompress.training.update import Output, Update


class TwinDistillation(Distillation):
    """The student is trained by its own GAN's losses and the add-on's term; a method adds further terms.

    Its discriminators are updated before or after it, in the order of the teacher's GAN.
    """

    class Settings(Distillation.Settings):
        """`back`: the Config of CycleGAN's second student; None for that of the first. `start`: files that networks of
        the student's GAN start from, by name: generator_b, discriminator, discriminator_a, discriminator_b.
        """

        back: GENERATORS.union | None = None
        start: dict[Text, Text] = Field(default_factory=dict, max_length=16)

    needs: ClassVar[Needs] = Needs(gan=True)
    files: ClassVar = ("start",)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        self.own = self.twin(settings, parts.gan, self.student, settings.start).requires_grad_(True)
        updates = self.own.updates()
        self._own = {"judges" if "discriminator" in update.name else "student": update for update in updates}
        self.judges_first = "discriminator" in updates[0].name

    @classmethod
    def twin(cls, settings: Settings, gan: GAN, student: Generator, files: Mapping[str, str]) -> GAN:
        """The student's GAN, with the weights of `files` for the networks named there. Raises RecipeError."""
        if unknown := next((name for name in settings.start if name not in gan.started), None):
            raise RecipeError(
                f"algorithm.start.{unknown}: {gan.settings.name} has no such network; it has {', '.join(gan.started)}."
            )
        if settings.back is not None and "generator_b" not in gan.started:
            raise RecipeError(f"algorithm.back: {gan.settings.name} has no second generator; omit it.")
        start = Start(settings.name, files, {"generator_b": settings.back})
        return gan.twin(student, start, cls.norm_of_judges(gan))

    @classmethod
    def check_gan(cls, settings: Settings, gan: GAN, student: Generator) -> None:
        cls.twin(settings, gan, student, {})

    @classmethod
    def norm_of_judges(cls, gan: GAN) -> str | None:
        """The norm of the student's new discriminators; None for that of the teacher's."""
        return None

    def train(self, mode: bool = True) -> "TwinDistillation":
        super().train(mode)
        self.own.train(mode)
        return self

    def draw(self, batch: Batch, random: Random, step: int) -> tuple[Tensor, Taps, Any]:
        own = self.own(batch, random, step, taps=self.student_taps)
        return next(iter(own.images.values())), own.taps, own

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The terms of the student's own GAN."""
        return {_mine(name): term for name, term in self._own["student"].terms(out.own).items()}

    def judges(self) -> Update:
        """The update of the student's discriminators."""
        update = self._own["judges"]

        def terms(out: Output) -> dict[str, Tensor]:
            return {_mine(name, "student_"): term for name, term in update.terms(out.own).items()}

        return replace(update, name="student_discriminator", terms=terms)

    def learned(self) -> dict[str, nn.Module]:
        return super().learned() | self._back()

    def extra_updates(self) -> list[Update]:
        return [self.judges()] if self.judges_first else []

    def late_updates(self) -> list[Update]:
        return [] if self.judges_first else [self.judges()]

    def artifacts(self) -> dict[str, nn.Module]:
        return {"student": self.result} | self._back() | self.teacher.artifacts()

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        pools = {f"student_{name}": found for name, found in self.own.companions().items()}
        judges = {f"student_{name}": (judge, {}) for name, judge in self.own.discriminators().items()}
        return super().companions() | judges | pools

    def _back(self) -> dict[str, nn.Module]:
        """CycleGAN's second student, or nothing."""
        back = list(self.own.generators().values())[1:]
        return {"student_b": back[0]} if back else {}


def _mine(name: str, prefix: str = "") -> str:
    """Rename a term of the student's GAN from a teacher's term to a student's."""
    return prefix + name.removeprefix("teacher_") if name.startswith("teacher_") else f"student_{name}"
