"""What every distillation algorithm shares (paper, section 3 and A.2).

The lessons, the student's image, the add-on's one place, and the order of the updates, so that no method can forget the
add-on.
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
    """What a method cannot do without; `check` says in one sentence what a recipe lacks."""

    teacher: Literal["any", "frozen", "online"] = "any"
    gan: bool = False  # a [gan], by which the student learns too
    whole: bool = False  # of a teacher that does not learn all of its GAN
    takes: tuple[str, ...] = ("image", "latent")
    pairs: bool = False
    real: bool = False  # real images beside latent vectors
    batch: int = 1

    def check(self, method: str, facts: "Facts") -> None:
        """Raises RecipeError."""
        kind, what = facts.teacher.takes.kind, None
        if facts.recorded and (self.teacher == "online" or self.gan or self.whole):
            what = "needs the teacher's network, and teacher.source = 'pairs' gives its outputs alone; give --teacher"
        elif self.teacher == "frozen" and facts.learns:
            what = "learns from a frozen teacher; leave out [gan]"
        elif self.teacher == "online" and not facts.learns:
            what = "needs a teacher that learns; add a [gan]"
            what = "needs a teacher that learns; omit algorithm.online" if facts.gan else what
        elif self.gan and not facts.gan:
            what = "needs a [gan], by which the student learns; add one"
        elif self.whole and facts.missing and not facts.learns:
            what = lacking_networks(facts.missing)
        elif kind not in self.takes:
            what = f"is for generators that take {' or '.join(self.takes)} input, and this teacher's is {kind}"
        elif self.pairs and not facts.paired:
            what = "needs the ground truth of each input; set data.kind to paired or labels"
        elif facts.batch < self.batch:
            what = f"needs batches of at least {self.batch}; set train.batch"
        if what:
            raise RecipeError(f"recipe {facts.recipe}: {method} {what}.")


def lacking_networks(missing: Sequence[str]) -> str:
    """What is said of a method to which these networks of the teacher's GAN are missing."""
    return (
        f"needs the teacher's {' and '.join(missing)} too; give as --teacher a run of `vemcompress teach`, or set "
        f"teacher.start.{missing[0]}"
    )


@dataclass(frozen=True)
class Facts:
    """What is known before anything is built: both networks (the student's without weights), whether the teacher
    `learns` and each input is `paired` with its ground truth, how many images there are and how long the run is.
    `recorded`: whether only the teacher's outputs are known, which are then the ground truth.
    `scores`: whether the ground truth is a channel for each class.
    `gan`: whether the recipe has one; `missing`: its networks that are given by no file; `judge`: the shape of its
    discriminators."""

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
    """What an algorithm is built from. `features` is the network that it named, `paired` as in `Facts`, `gan` the
    teacher's, where the recipe has one."""

    teacher: Teacher
    student: ImageGenerator
    information: Information
    optimizer: Optimizer
    features: FeatureNetwork | None = None
    paired: bool = False
    gan: GAN | None = None


class Distillation(Learner):
    """A method writes its Settings, `resolve`, `student_terms` and, where it needs them, `learned` and
    `extra_updates`; with `follow` it has `connectors` that bring the student's feature maps to the teacher's."""

    class Settings(TurnSettings):
        """`ema`: the student that is written is the moving average of the one that learns, with this decay; 0 for the
        one that learns itself."""

        shared: ClassVar = True

        ema: float = Field(0.0, ge=0, lt=1)

    needs: ClassVar[Needs] = Needs()
    together: ClassVar[str | None] = None  # updates of the method's own with this label move at once with the student
    period: int = 1  # after so many steps the same of the method's updates are due again
    settled: int = 1  # the first step of such a period
    files: ClassVar[tuple[str, ...]] = ()  # keys of the settings that are paths of files, dots between tables
    imitates: ClassVar[bool] = True  # the teacher, so that a student is the better the more it is like it

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        """The settings with what they leave open. Raises RecipeError where they do not fit."""
        return settings

    @classmethod
    def check_gan(cls, settings: Settings, gan: GAN, student: ImageGenerator) -> None:
        """Raises RecipeError where the teacher's GAN is none that it can learn beside; networks are without weights."""

    @classmethod
    def wants_real(cls, settings: Settings) -> bool:
        """Whether it learns from real images of the target's kind, even where the teacher is frozen."""
        return False

    @classmethod
    def features_of(cls, settings: Settings) -> tuple[str, str | None]:
        """The feature network that it compares images by, and the file of its weights."""
        return getattr(settings, "features", "none"), getattr(settings, "features_weights", None)

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        """Weights that depend on the features, measured on `images` as the student shall make them."""
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
        """Ask for the taps of both networks' places, with a `connector` for each, which learns with the student."""
        self.connectors = FeatureMatch(self.teacher.generator, self.student, connector)
        self.teacher_taps, self.student_taps = self.connectors.teacher_taps, self.connectors.student_taps

    def train(self, mode: bool = True) -> "Distillation":
        """Whatever else is a part of it stays in the mode that it has."""
        self.teacher.train(mode)
        self.student.train(mode)
        return self

    def forward(self, batch: Batch, random: Generator, step: int = 1) -> Output:
        """t is the ground truth where there is one (section 5.3), else the first teacher's image."""
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
        """The student's image, the taps `student_taps`, and what else of the student's a method computes in a step."""
        with self.autocast(batch.input.device):
            return *self.imitate(batch.input, random), None

    def imitate(self, x: Tensor, random: Generator) -> tuple[Tensor, Taps]:
        """The student's image, with the taps `student_taps`. `random` is the step's own, the same on all ranks."""
        return self.student.forward_with_taps(x, self.student_taps)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The named, weighted terms of L_algo."""
        raise NotImplementedError

    def maps_of(self, teachers: Tensor, student: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The feature network's maps of the teachers' images, as constants, and of the student's."""
        with self.timer.part("features"), self.autocast(student.device):
            with torch.no_grad():
                theirs = self.features(teachers)
            return theirs, self.features(student)

    def learned(self) -> dict[str, nn.Module]:
        """What else learns by the student's loss and optimiser."""
        return {"connectors": self.connectors}

    def moved_twice(self) -> tuple[nn.Module, ...]:
        """Modules that take two steps at each of the student's, as `Update.twice`."""
        return ()

    def still(self) -> tuple[nn.Module, ...]:
        """Modules within the student that do not learn by its loss."""
        return ()

    def own_optimizers(self) -> dict[str, Optimizer]:
        """Optimisers, by name, of those that `learned` gives which do not move by the student's."""
        return {}

    def monitored(self, out: Output) -> dict[str, Tensor]:
        """Detached scalars to log beside the student's terms."""
        return information_shares(out)

    def moved(self) -> None:
        """Called once the student has moved."""
        if self.average is not None:
            self.average.follow()

    def extra_updates(self) -> list[Update]:
        """Updates of the method's own, between the add-on's and the student's."""
        return []

    def late_updates(self) -> list[Update]:
        """Updates of the method's own, after the student's."""
        return []

    def updates(self) -> list[Update]:
        """The teachers', the add-on's (it tightens the bound), the method's own, the student's with the add-on's term
        (eq. 10), and what the method does after it."""
        learned = {"student": self.student} | self.learned() | self.information.student_modules()

        def terms(out: Output) -> dict[str, Tensor]:
            found = self.student_terms(out)
            if not self.measures:
                return found | self.information.student_terms(out)
            own = out.student.view_as(out.student)  # its gradient is the add-on's alone
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
        """The student that the run is for."""
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
    """Norms, as scalars, that the coming backward fills in: of the gradient of `all` terms with respect to the
    student's `image`, B x C x H x W; of the add-on's part of it, the gradient of `own`, a view; and of the rest.

    It is the backward that trains, and stays as it is to the bit.
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
    """What the add-on moves, of the student's image in the global batch: `information.gradient_share`, the norm of its
    gradient over that of all terms', and `information.rest_share`, that of the other terms' over the same.

    Either exceeds 1 where the two pull against each other. Terms of feature maps reach the student beside its image,
    so that these shares leave them out. Empty at a step that does not measure.
    """
    if not out.gradients:
        return {}
    squares = torch.stack(list(out.gradients.values())).double().square()
    whole, mine, rest = distributed.average(squares).sqrt()
    whole = whole.clamp(min=torch.finfo(torch.float32).tiny)
    return {"information.gradient_share": (mine / whole).float(), "information.rest_share": (rest / whole).float()}
