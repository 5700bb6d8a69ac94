"""Base class of every distillation algorithm (VEM paper, section 3 and A.2).

It calls the teacher, computes the student's image, adds the information add-on's term, and fixes the order of the
updates, so that no method can omit the add-on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from vemcompress.algorithms.match import FeatureMatch
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN, within
from vemcompress.gans.teachers import Teacher, TurnSettings
from vemcompress.information.base import Information
from vemcompress.networks.base import Generator as ImageGenerator
from vemcompress.networks.base import Taps
from vemcompress.networks.discriminators import DiscriminatorConfig
from vemcompress.networks.features import FeatureNetwork
from vemcompress.system import distributed
from vemcompress.training.ema import Average
from vemcompress.training.learner import Learner, one_by_one
from vemcompress.training.update import Optimizer, Output, Update


@dataclass(frozen=True)
class Needs:
    """What a method requires of a recipe. `check` raises an error that says what is missing."""

    teacher: Literal["any", "frozen", "online"] = "any"
    gan: bool = False  # a [gan], whose losses train the student too
    whole: bool = False  # all networks of the GAN, if the teacher is not trained
    takes: tuple[str, ...] = ("image", "latent")
    pairs: bool = False
    real: bool = False  # real images beside latent vectors
    batch: int = 1

    def check(self, method: str, facts: "Facts") -> None:
        """Raises RecipeError."""
        kind, what = facts.teacher.takes.kind, None
        if facts.recorded and (self.teacher == "online" or self.gan or self.whole):
            what = "needs the teacher's network, but teacher.source = 'pairs' gives only its outputs; give --teacher"
        elif self.teacher == "frozen" and facts.learns:
            what = "needs a frozen teacher; remove [gan]"
        elif self.teacher == "online" and not facts.learns:
            what = "needs a teacher that is trained too; add a [gan]"
            what = "needs a teacher that is trained too; omit algorithm.online" if facts.gan else what
        elif self.gan and not facts.gan:
            what = "needs a [gan], whose losses train the student; add one"
        elif self.whole and facts.missing and not facts.learns:
            what = lacking_networks(facts.missing)
        elif kind not in self.takes:
            what = f"needs generators with {' or '.join(self.takes)} input, and this teacher's input is {kind}"
        elif self.pairs and not facts.paired:
            what = "needs the ground truth of each input; set data.kind to paired or labels"
        elif facts.batch < self.batch:
            what = f"needs batches of at least {self.batch}; set train.batch"
        if what:
            raise RecipeError(f"recipe {facts.recipe}: {method} {what}.")


def lacking_networks(missing: Sequence[str]) -> str:
    """The error text of a method that lacks these networks of the teacher's GAN."""
    return (
        f"needs the teacher's {' and '.join(missing)} too; give a run of `vemcompress teach` as --teacher, or set "
        f"teacher.start.{missing[0]}"
    )


@dataclass(frozen=True)
class Facts:
    """What is known before anything is built.

    `teacher` and `student` are networks without weights. `images` counts the training images, `size` is their side in
    pixels, `steps` is the length of the run. `learns`: whether the teacher is trained too. `paired`: whether each input
    has its ground truth. `recorded`: whether only the teacher's outputs are given; they are then the ground truth.
    `scores`: whether the ground truth has one channel per class. `gan`: whether the recipe has a GAN. `missing`: the
    GAN's networks that no file provides. `judge`: the Config of its discriminators.
    """

    recipe: str
    teacher: ImageGenerator
    student: ImageGenerator
    images: int
    size: int
    batch: int
    steps: int
    learns: bool = False
    paired: bool = False
    recorded: bool = False
    scores: bool = False
    gan: bool = False
    missing: tuple[str, ...] = ()
    judge: DiscriminatorConfig | None = None


@dataclass
class Parts:
    """What an algorithm is built from. `features` is the feature network it asked for, `paired` is as in `Facts`, and
    `gan` is the teacher's GAN if the recipe has one.
    """

    teacher: Teacher
    student: ImageGenerator
    information: Information
    optimizer: Optimizer
    features: FeatureNetwork | None = None
    paired: bool = False
    gan: GAN | None = None


class Distillation(Learner):
    """The base class of all methods.

    A method defines its Settings, `resolve` and `student_terms`, and `learned` and `extra_updates` if it needs them.
    `follow` creates `connectors`, which map the student's feature maps to the teacher's channels.
    """

    class Settings(TurnSettings):
        """`ema`: decay of the moving average of the student's weights. If it is above 0, the run writes the average
        instead of the trained student.
        """

        shared: ClassVar = True

        ema: float = Field(0.0, ge=0, lt=1)

    needs: ClassVar[Needs] = Needs()
    together: ClassVar[str | None] = None  # the method's updates with this label move together with the student
    period: int = 1  # the pattern of the method's due updates repeats after this many steps
    settled: int = 1  # the first step of such a period
    files: ClassVar[tuple[str, ...]] = ()  # dotted keys of the settings that are file paths
    imitates: ClassVar[bool] = True  # the student imitates the teacher, so closer to the teacher is better

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        """The settings with their open values filled in. Raises RecipeError if they do not fit the facts."""
        return settings

    @classmethod
    def check_gan(cls, settings: Settings, gan: GAN, student: ImageGenerator) -> None:
        """Raises RecipeError if the method cannot use this GAN of the teacher. Its networks have no weights yet."""

    @classmethod
    def wants_real(cls, settings: Settings) -> bool:
        """Whether the method needs real images of the target's kind even if the teacher is frozen."""
        return False

    @classmethod
    def features_of(cls, settings: Settings) -> tuple[str, str | None]:
        """The feature network that compares images, and the file of its weights."""
        return getattr(settings, "features", "none"), getattr(settings, "features_weights", None)

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        """Fill in weights that depend on the features. `images` are examples of what the student should produce."""
        return settings

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__()
        self.settings, self.optimizer = settings, parts.optimizer
        self.teacher, self.student, self.information = parts.teacher, parts.student, parts.information
        self.features = parts.features
        self.teacher_taps: tuple[str, ...] = ()
        self.student_taps: tuple[str, ...] = ()
        self.connectors = nn.ModuleList()
        self.average = Average(self.student, settings.ema) if settings.ema else None

    def follow(self, connector: Callable[[int, int], nn.Module]) -> None:
        """Create a `connector` for each pair of matching feature maps, and request their taps. Connectors are trained
        with the student.
        """
        self.connectors = FeatureMatch(self.teacher.generator, self.student, connector)
        self.teacher_taps, self.student_taps = self.connectors.teacher_taps, self.connectors.student_taps

    def train(self, mode: bool = True) -> "Distillation":
        """Set the mode of teacher and student; all other parts keep their mode."""
        self.teacher.train(mode)
        self.student.train(mode)
        return self

    def forward(self, batch: Batch, random: Generator, step: int = 1) -> Output:
        """Compute all that the step's updates need. The target t is the ground truth if there is one (section 5.3),
        else the first teacher's image.
        """
        lessons = self.teacher(batch, random, step, self.teacher_taps)
        if not self.teacher.due(step):
            return Output.of_teachers(random, lessons.gan)
        with self.timer.part("student"):
            student, taps, own = self.draw(batch, random, step)
        self.timer.until_gradient(student, "features")
        first, *others = lessons.images
        target = first if batch.target is None else batch.target
        out = Output(batch.input, student.float(), first, target, taps, lessons.taps, random)
        out.others, out.gan, out.index = tuple(others), lessons.gan, batch.index
        out.own, out.second = own, batch.second
        out.real = next(image for image in (batch.target, batch.real, first) if image is not None)
        return out

    def draw(self, batch: Batch, random: Generator, step: int) -> tuple[Tensor, Taps, Any]:
        """The student's image, its taps `student_taps`, and any other value that the method derives from it."""
        with self.autocast(batch.input.device):
            return *self.imitate(batch.input, random), None

    def imitate(self, x: Tensor, random: Generator) -> tuple[Tensor, Taps]:
        """The student's image and its taps `student_taps`. `random` is the step's generator, the same on all ranks."""
        return self.student.forward_with_taps(x, self.student_taps)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The named, weighted terms of L_algo, as scalars."""
        raise NotImplementedError

    def maps_of(self, teachers: Tensor, student: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Feature maps of the teachers' images, without gradient, and of the student's image."""
        with self.timer.part("features"), self.autocast(student.device):
            with torch.no_grad():
                theirs = self.features(teachers)
            return theirs, self.features(student)

    def learned(self) -> dict[str, nn.Module]:
        """Modules that are trained with the student, by its loss and optimiser."""
        return {"connectors": self.connectors}

    def moved_twice(self) -> tuple[nn.Module, ...]:
        """Modules that take two optimiser steps per student step; see `Update.twice`."""
        return ()

    def still(self) -> tuple[nn.Module, ...]:
        """Modules inside the student that its loss does not train."""
        return ()

    def own_optimizers(self) -> dict[str, Optimizer]:
        """Optimisers, by name, for those modules of `learned` that do not use the student's optimiser."""
        return {}

    def monitored(self, out: Output) -> dict[str, Tensor]:
        """Detached scalars to log beside the student's terms."""
        return information_shares(out)

    def moved(self) -> None:
        """Called after the student's weights were updated."""
        if self.average is not None:
            self.average.follow()

    def extra_updates(self) -> list[Update]:
        """The method's own updates, after the add-on's and before the student's."""
        return []

    def late_updates(self) -> list[Update]:
        """The method's own updates after the student's."""
        return []

    def updates(self) -> list[Update]:
        """All updates in order: the teachers', the add-on's (tightens the bound), the method's own, the student's with
        the add-on's term (eq. 10), and the method's late updates.
        """
        learned = {"student": self.student} | self.learned() | self.information.student_modules()

        def terms(out: Output) -> dict[str, Tensor]:
            found = self.student_terms(out)
            if not self.measures:
                return found | self.information.student_terms(out)
            own = out.student.view_as(out.student)  # a view, so that its gradient is the add-on's alone
            added = self.information.student_terms(replace(out, student=own))
            if added:
                out.gradients = norms_to_come(own, out.student)
            return found | added

        tighten = self.information.update()
        student = Update(
            "student",
            learned,
            terms,
            self.optimizer,
            after=self.moved,
            monitor=self.monitored,
            together=self.together,
            still=self.still(),
            twice=self.moved_twice(),
            own=self.own_optimizers(),
        )
        mine = [*([tighten] if tighten else []), *self.extra_updates(), student, *self.late_updates()]
        return [*within(self.teacher.updates(), lambda out: out.gan), *(u.only(self.teacher.due) for u in mine)]

    @property
    def result(self) -> nn.Module:
        """The student that the run produces: the moving average if there is one."""
        return self.student if self.average is None else self.average.average

    def artifacts(self) -> dict[str, nn.Module]:
        return {"student": self.result} | self.teacher.artifacts()

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        found = {"connectors": (self.connectors, {})} if len(self.connectors) else {}
        if self.average is not None:
            found["student_learning"] = (self.student, {})
        if self.information.metadata:
            found[self.information.file] = (self.information, self.information.metadata)
        return found | self.teacher.companions()

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return self.teacher.pictures(inputs) | {"student": one_by_one(self.result, inputs)}

    def clock(self, step: int, total: int) -> tuple[int, int]:
        return self.teacher.clock(step, total)

    def finishes(self, step: int) -> bool:
        return self.teacher.finishes(step)

    def finish(self, step: int) -> dict:
        return self.teacher.finish(step)


def norms_to_come(own: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Gradient norms, as scalars, that the coming backward pass fills in.

    `all` is the gradient of all terms with respect to the student's `image`, B x C x H x W; `information` is the
    add-on's part, the gradient of the view `own`; `rest` is the difference. The training gradients do not change by a
    bit.
    """
    norms, kept = {}, []

    def whole(gradient: Tensor) -> None:
        mine = kept.pop() if kept else torch.zeros_like(gradient)
        parts = {"all": gradient, "information": mine, "rest": gradient - mine}
        norms.update({name: torch.linalg.vector_norm(part.float()) for name, part in parts.items()})

    own.register_hook(kept.append)
    image.register_hook(whole)
    return norms


def information_shares(out: Output) -> dict[str, Tensor]:
    """The add-on's share of the gradient of the student's image, in the global batch.

    `information.gradient_share` is the norm of the add-on's gradient over that of all terms together;
    `information.rest_share` is the same for the other terms. A share exceeds 1 if the two gradients oppose each other.
    Terms on feature maps do not pass through the image, so they are not included. Empty at steps that do not measure
    this.
    """
    if not out.gradients:
        return {}
    squares = torch.stack(list(out.gradients.values())).double().square()
    whole, mine, rest = distributed.average(squares).sqrt()
    whole = whole.clamp(min=torch.finfo(torch.float32).tiny)
    return {"information.gradient_share": (mine / whole).float(), "information.rest_share": (rest / whole).float()}
