"""Kinds of teachers: frozen, trained beside the student, trained in alternating phases, or known only by their outputs.

All have one interface, so that a distillation algorithm is written once.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.losses.features import channel_means
from vemcompress.networks.base import Generator, ImageInput, Taps
from vemcompress.runs.best import Picker
from vemcompress.system.settings import MAX_STEPS, BaseSettings, Epochs, Steps
from vemcompress.training.learner import Learner, one_by_one
from vemcompress.training.update import Update


class TurnSettings(BaseSettings):
    """How a trained teacher and the student share the steps. Only used with a [gan].

    `online`: when the teacher is trained. "step" trains it at the student's steps. "never" keeps the teacher's GAN
    fixed. "phases", as published for OMGD on CycleGAN, alternates: first the teacher is trained, then the student, from
    the best teacher so far. `phase_epochs`: length of a teacher's phase in epochs. `phase_steps`: length of a teacher's
    phase in steps. `student_epochs`: length of the student's phase, in lengths of the teacher's phase (n_dis).
    `best_teacher`: the score that selects the best teacher.
    """

    replaces: ClassVar = {"phase_steps": ("phase_epochs",), "phase_epochs": ("phase_steps",)}

    online: Literal["step", "phases", "never"] = "step"
    phase_epochs: Epochs | None = None
    phase_steps: Steps | None = None
    student_epochs: int = Field(4, ge=1, le=10_000)
    best_teacher: Literal["fid", "frechet", "latest"] = "fid"

    def resolved(self, images: int, batch: int, steps: int) -> "TurnSettings":
        """The settings with the number of steps of a teacher's phase filled in; by default a tenth of all steps."""
        if self.phase_steps is not None:
            return self.but(phase_epochs=None)
        found = round(self.phase_epochs * images / batch) if self.phase_epochs else steps // 10
        return self.but(phase_steps=min(max(1, found), MAX_STEPS), phase_epochs=None)


@dataclass
class Lessons:
    """The teachers' images of a step's inputs, B x C x H x W, and the first teacher's taps, without gradient. There
    are no images at a step that trains only the teachers. `gan`: what the updates of trained teachers need.
    """

    images: tuple[Tensor, ...] = ()
    taps: Taps = field(default_factory=dict)
    gan: Any = None


class Teacher(Learner):
    """Interface of all teachers. A student imitates the places and taps of `generator`. `maps`: whether whole
    feature maps are needed, or only their means over pixels, B x C x 1 x 1.
    """

    generator: Generator
    maps: bool = False

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        """The lessons of a step, with the taps of these names."""
        raise NotImplementedError

    def due(self, step: int) -> bool:
        """Whether the student is trained at this step."""
        return True

    def updates(self) -> list[Update]:
        """The teachers' own updates; their input is `Lessons.gan`."""
        return []

    def artifacts(self) -> dict[str, nn.Module]:
        return {}


class Frozen(Teacher):
    """A teacher that is not trained and stays in evaluation mode.

    `recall` returns the teacher's outputs. Its arguments are the step, the inputs, and a function that runs the
    teacher. By default it runs the teacher every time; a cache of the teacher's outputs can replace it.
    """

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator.eval().requires_grad_(False)
        self.recall = lambda step, inputs, ask: ask(inputs)

    def train(self, mode: bool = True) -> "Frozen":
        return self

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        with self.timer.part("teacher"):
            image, found = self.recall(step, batch.input, lambda inputs: self.ask(inputs, taps))
        return Lessons((image.float(),), found)

    @torch.no_grad()
    def ask(self, inputs: Tensor, taps: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The teacher's outputs for inputs, in their own dtype, with the named taps in float32."""
        with self.autocast(inputs.device):
            image, found = self.generator.forward_with_taps(inputs, taps)
        return image, {name: tap.float() if self.maps else channel_means(tap) for name, tap in found.items()}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"teacher": one_by_one(self.generator, inputs)}


class Online(Teacher):
    """Teachers and discriminators that are trained at every n-th of the student's steps (n_dis, the GAN's `every`).

    As published, all networks run forward first. The student learns from the images that the teachers made before their
    update.
    """

    def __init__(self, gan: GAN):
        super().__init__()
        self.gan = gan
        self.generator = next(iter(gan.teachers().values())).requires_grad_(True)

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        with self.timer.part("teacher"):
            if step % self.gan.settings.every:  # the teachers are not trained at this step, so no graph is kept
                made, (images, found) = None, self.gan.look(batch.input, taps)
            else:
                made = self.gan(batch, random, step, taps=taps)
                images, found = made.images, {name: tap.detach() for name, tap in made.taps.items()}
        return Lessons(tuple(image.detach().float() for image in images.values()), found, made)

    def updates(self) -> list[Update]:
        return self.gan.updates()

    def artifacts(self) -> dict[str, nn.Module]:
        return self.gan.artifacts()

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return self.gan.companions()

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return self.gan.pictures(inputs)


class Held(Teacher):
    """A whole GAN that is given and not trained: its generators of both directions, and its discriminators.

    As published for DMAD it stays in training mode, so that BatchNorm uses the batch's statistics. The running
    statistics do not change.
    """

    def __init__(self, gan: GAN):
        super().__init__()
        self.gan = gan.requires_grad_(False)
        self.generator = next(iter(gan.teachers().values()))
        for module in gan.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        with self.timer.part("teacher"):
            made = self.gan.observe(batch, random, step, taps)
        return Lessons(tuple(image.float() for image in made.images.values()), made.taps, made)

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return self.gan.pictures(inputs)


class RecordedGenerator(Generator):
    """Stands for a generator of which only outputs are known. It has channels and a `scale` (outputs relative to
    inputs), but neither weights nor taps.
    """

    what = "a network known only by its outputs"

    def __init__(self, inputs: int, outputs: int, scale: int = 1):
        super().__init__(None)
        self.in_channels, self.out_channels, self.scale = inputs, outputs, scale

    @property
    def takes(self) -> ImageInput:
        return replace(super().takes, scale=self.scale)

    @property
    def family(self) -> str:
        return "network known only by its outputs"


class Recorded(Teacher):
    """A teacher known only by its outputs, such as a diffusion pipeline or a remote service. They are the batches'
    targets.
    """

    def __init__(self, generator: RecordedGenerator):
        super().__init__()
        self.generator = generator

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        return Lessons((batch.target,))

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        """None: the teacher's images are the ground truth of the pictures."""
        return {}


class Phased(Frozen):
    """Alternating phases, as published for CycleGAN: the teacher is trained for a while, then the student, from the
    best teacher so far.

    `generator` holds that best teacher, frozen. `judge` scores the trained teacher at the end of each of its phases
    (None: the latest counts as the best). The student uses the learning rate of the teacher's current step.
    """

    def __init__(self, gan: GAN, best: Generator, phases: "Phases", judge: Picker | None = None):
        if gan.settings.every > 1:
            raise RecipeError(
                f"gan.every {gan.settings.every}: with phases the teacher is trained at all of its steps; omit it, and "
                "set algorithm.student_epochs."
            )
        super().__init__(best)
        self.gan, self.phases, self.judge = gan, phases, judge
        self.record = Record()

    def train(self, mode: bool = True) -> "Phased":
        self.gan.train(mode)
        return self

    def due(self, step: int) -> bool:
        return not self.phases.teaches(step)

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        if self.due(step):
            return super().forward(batch, random, step, taps)
        with self.timer.part("teacher"):
            return Lessons(gan=self.gan(batch, random, step))

    def updates(self) -> list[Update]:
        return [update.only(self.phases.teaches) for update in self.gan.updates()]

    def clock(self, step: int, total: int) -> tuple[int, int]:
        return self.phases.teacher_step(step), self.phases.teacher_step(total)

    def finishes(self, step: int) -> bool:
        return self.phases.ends_teaching(step)

    def finish(self, step: int) -> dict:
        """At the end of the teacher's phase: keep the teacher if it is the best so far."""
        latest = next(iter(self.gan.teachers().values()))
        score = self.judge(latest) if self.judge else None
        kept = score is None or not self.record.seen or score.better_than(self.record.value.item())
        if kept:
            self.generator.load_state_dict(latest.state_dict())
            self.record.keep(step, score.value if score else 0.0)
        return {"event": "phase", "kept": kept, "score": score.as_dict() if score else None}

    def artifacts(self) -> dict[str, nn.Module]:
        """`teacher` is the best one; the trained one keeps its own name."""
        return {"teacher": self.generator, **self.gan.generators(), **self.gan.discriminators()}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return self.gan.companions() | {"phases": (self.record, {})}


class Record(nn.Module):
    """The step and score of the best teacher, as a module so that checkpoints hold them."""

    value: Tensor
    step: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def seen(self) -> bool:
        return bool(self.step > 0)

    def keep(self, step: int, value: float) -> None:
        self.step.fill_(step)
        self.value.fill_(value)


@dataclass(frozen=True)
class Phases:
    """Alternating phases: `steps` of the teacher, then `share` times as many of the student, up to `total` steps,
    counted from 1.

    An incomplete last turn is divided in the same proportion.
    """

    steps: int
    share: int
    total: int

    @property
    def turn(self) -> int:
        """Steps of one turn: a teacher's phase and a student's phase."""
        return self.steps * (1 + self.share)

    def teaches(self, step: int) -> bool:
        """Whether this step trains the teacher; otherwise it trains the student."""
        turn, place = divmod(step - 1, self.turn)
        return place < self._teacher_steps(turn)

    def ends_teaching(self, step: int) -> bool:
        """Whether this is the last step of a teacher's phase."""
        return self.teaches(step) and (step == self.total or not self.teaches(step + 1))

    def teacher_step(self, step: int) -> int:
        """How many steps the teacher has been trained after this step."""
        turn, place = divmod(step - 1, self.turn)
        return turn * self.steps + min(place + 1, self._teacher_steps(turn))

    def _teacher_steps(self, turn: int) -> int:
        rest = min(self.turn, self.total - turn * self.turn)
        return math.ceil(rest / (1 + self.share))
