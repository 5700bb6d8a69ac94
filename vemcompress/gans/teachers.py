"""Where a student's lessons come from: a teacher that is frozen, that learns beside the student, or in turns with it,
or of which only the outputs are known.

All of them have one face, so that a distillation algorithm is written once.
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
    """How a teacher that learns and the student share the steps; without a [gan] nothing of it is used.

    `online`: "step", they learn at the same steps; "never", the teacher's GAN is given and stays as it is; "phases", as
    published for OMGD on CycleGAN: the teacher learns for `phase_epochs`, then the student for `student_epochs` times
    as long (n_dis) from the teacher that was the best so far, by `best_teacher`; `phase_steps` says the same in steps.
    """

    replaces: ClassVar = {"phase_steps": ("phase_epochs",), "phase_epochs": ("phase_steps",)}

    online: Literal["step", "phases", "never"] = "step"
    phase_epochs: Epochs | None = None
    phase_steps: Steps | None = None
    student_epochs: int = Field(4, ge=1, le=10_000)
    best_teacher: Literal["fid", "frechet", "latest"] = "fid"

    def resolved(self, images: int, batch: int, steps: int) -> "TurnSettings":
        """With the number of steps that a phase of the teacher has; a tenth of all where the recipe does not say."""
        if self.phase_steps is not None:
            return self.but(phase_epochs=None)
        found = round(self.phase_epochs * images / batch) if self.phase_epochs else steps // 10
        return self.but(phase_steps=min(max(1, found), MAX_STEPS), phase_epochs=None)


@dataclass
class Lessons:
    """The teachers' images of a step's inputs, B x C x H x W, and the first one's taps, as constants; no images at a
    step at which the teachers alone learn. `gan`: what the updates of teachers that learn at this step need."""

    images: tuple[Tensor, ...] = ()
    taps: Taps = field(default_factory=dict)
    gan: Any = None


class Teacher(Learner):
    """The face of all. `generator` is the one whose places and taps a student follows; `maps`: whether its whole
    feature maps are asked for, or their means over pixels, B x C x 1 x 1, where it is known that these are enough."""

    generator: Generator
    maps: bool = False

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        """The lessons of a step, with the taps of these names."""
        raise NotImplementedError

    def due(self, step: int) -> bool:
        """Whether the student learns at this step."""
        return True

    def updates(self) -> list[Update]:
        """The teachers' own, of what `Lessons.gan` holds."""
        return []

    def artifacts(self) -> dict[str, nn.Module]:
        return {}


class Frozen(Teacher):
    """It does not learn, and stays in evaluation mode.

    `recall` gives what the teacher makes of a step's inputs: from the step, the inputs, and the function that asks the
    teacher, which it does not have to call. Here it always does; a cache of teachers' outputs takes its place.
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
        """What the teacher makes of inputs, in the dtype that it makes, with the taps of these names in float32."""
        with self.autocast(inputs.device):
            image, found = self.generator.forward_with_taps(inputs, taps)
        return image, {name: tap.float() if self.maps else channel_means(tap) for name, tap in found.items()}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"teacher": one_by_one(self.generator, inputs)}


class Online(Teacher):
    """Teachers and discriminators learn at each n-th step of the student's (n_dis, the GAN's `every`).

    As published every network runs forward first; the student learns from the images that the teachers made before
    they moved.
    """

    def __init__(self, gan: GAN):
        super().__init__()
        self.gan = gan
        self.generator = next(iter(gan.teachers().values())).requires_grad_(True)

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        with self.timer.part("teacher"):
            if step % self.gan.settings.every:  # the teachers' images are constants at this step, so no graph is kept
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
    """A whole GAN that is given and does not learn: its generators of both directions, and its discriminators.

    As published for DMAD it stays in training mode, so that BatchNorm takes the batch's statistics; its running ones
    stay as they are.
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
    """Stands for a generator of which only outputs are known, `scale` times as large as its inputs: it has these
    channels, and neither weights nor taps."""

    what = "a network that is not at hand"

    def __init__(self, inputs: int, outputs: int, scale: int = 1):
        super().__init__(None)
        self.in_channels, self.out_channels, self.scale = inputs, outputs, scale

    @property
    def takes(self) -> ImageInput:
        return replace(super().takes, scale=self.scale)

    @property
    def family(self) -> str:
        return "network that is not at hand"


class Recorded(Teacher):
    """Of which only the outputs are known, as of a diffusion pipeline or a remote service: the batches' targets."""

    def __init__(self, generator: RecordedGenerator):
        super().__init__()
        self.generator = generator

    def forward(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Lessons:
        return Lessons((batch.target,))

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        """None: its images are the pictures' ground truth."""
        return {}


class Phased(Frozen):
    """In turns, as published for CycleGAN: the teacher learns for a while, then the student from the best so far.

    `generator` holds that best one, frozen; `judge` scores the learning one at the end of each of its phases (None: the
    latest is taken for the best). The student's learning rate stands where the teacher's does.
    """

    def __init__(self, gan: GAN, best: Generator, phases: "Phases", judge: Picker | None = None):
        if gan.settings.every > 1:
            raise RecipeError(
                f"gan.every {gan.settings.every}: in turns the teacher learns at each of its steps; omit it, and "
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
        """At the end of the teacher's phase: keep it, if it is the best so far."""
        latest = next(iter(self.gan.teachers().values()))
        score = self.judge(latest) if self.judge else None
        kept = score is None or not self.record.seen or score.better_than(self.record.value.item())
        if kept:
            self.generator.load_state_dict(latest.state_dict())
            self.record.keep(step, score.value if score else 0.0)
        return {"event": "phase", "kept": kept, "score": score.as_dict() if score else None}

    def artifacts(self) -> dict[str, nn.Module]:
        """The teacher is the best one; the one that goes on learning keeps its own name."""
        return {"teacher": self.generator, **self.gan.generators(), **self.gan.discriminators()}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return self.gan.companions() | {"phases": (self.record, {})}


class Record(nn.Module):
    """When the best teacher was kept, and its score; a module, so that checkpoints hold it."""

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
    """`steps` of the teacher, then `share` times as many of the student, and so on to `total` steps, counted from 1.

    What does not make a whole turn at the end is one in the same proportion.
    """

    steps: int
    share: int
    total: int

    @property
    def turn(self) -> int:
        """Steps of one turn of both."""
        return self.steps * (1 + self.share)

    def teaches(self, step: int) -> bool:
        """Whether the teacher learns at this step, or the student."""
        turn, place = divmod(step - 1, self.turn)
        return place < self._teacher_steps(turn)

    def ends_teaching(self, step: int) -> bool:
        """Whether this is the last step of a phase of the teacher."""
        return self.teaches(step) and (step == self.total or not self.teaches(step + 1))

    def teacher_step(self, step: int) -> int:
        """How many steps the teacher has learnt once this step is done."""
        turn, place = divmod(step - 1, self.turn)
        return turn * self.steps + min(place + 1, self._teacher_steps(turn))

    def _teacher_steps(self, turn: int) -> int:
        rest = min(self.turn, self.total - turn * self.turn)
        return math.ceil(rest / (1 + self.share))
