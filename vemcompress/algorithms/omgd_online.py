"""OMGD with teachers that learn: beside the student at every step (Pix2Pix), or in turn with it (CycleGAN)."""

from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from vemcompress.algorithms.omgd import OMGD
from vemcompress.algorithms.phases import Phases
from vemcompress.errors import RecipeError
from vemcompress.gans import GAN, within
from vemcompress.training.learner import one_by_one
from vemcompress.training.update import Output, Update


class OnlineOMGD(OMGD):
    """Teachers and discriminators learn at each n-th step (n_dis, the GAN's `every`), the student at each.

    As published: every network runs forward first; discriminators and teachers learn and move; then the add-on's
    bound is tightened, and the student learns from the images that the teachers made before they moved. `paired`: B
    is the ground truth, and so t.
    """

    def __init__(self, settings: OMGD.Settings, *, gan: GAN, paired: bool, **options):
        super().__init__(settings, teacher=next(iter(gan.teachers().values())), **options)
        self.teacher.requires_grad_(True)
        self.gan, self.paired = gan, paired

    def train(self, mode: bool = True) -> "OnlineOMGD":
        """Teachers learn, so they are in training mode as the student is."""
        self.gan.train(mode)
        return super().train(mode)

    def forward(self, batch: tuple[Tensor, Tensor], random: Generator, step: int = 1) -> Output:
        condition, other = batch
        with self.timer.part("teacher"):
            if step % self.gan.settings.every:  # nobody learns from them now, so no graph is needed
                made, (images, taps) = None, self.gan.look(condition, self.teacher_taps)
            else:
                made = self.gan(batch, random, step, taps=self.teacher_taps)
                images, taps = made.images, made.taps
        teachers = tuple(image.detach().float() for image in images.values())
        out = self.beside(condition, teachers, taps, other if self.paired else teachers[0], random)
        out.gan = made
        return out

    def updates(self) -> list[Update]:
        return [*within(self.gan.updates(), lambda out: out.gan), *super().updates()]

    def artifacts(self) -> dict[str, nn.Module]:
        return super().artifacts() | self.gan.artifacts()

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | self.gan.companions()

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return self.gan.pictures(inputs) | {"student": one_by_one(self.student, inputs)}


class PhasedOMGD(OMGD):
    """As published for CycleGAN: the teacher learns for a while, then the student from the best teacher so far.

    `teacher` holds that best one, frozen; `judge` scores the learning one at the end of each of its phases (None: the
    latest is taken for the best). The student's learning rate stands where the teacher's does.
    """

    def __init__(self, settings: OMGD.Settings, *, gan: GAN, best, phases: Phases, paired: bool, judge=None, **options):
        if gan.settings.every > 1:
            raise RecipeError(
                f"gan.every {gan.settings.every}: in turns the teacher learns at each of its steps; leave it away, and "
                "set algorithm.student_epochs."
            )
        super().__init__(settings, teacher=best, **options)
        self.gan, self.phases, self.paired, self.judge = gan, phases, paired, judge
        self.record = Record()

    def train(self, mode: bool = True) -> "PhasedOMGD":
        self.gan.train(mode)
        return super().train(mode)

    def forward(self, batch: tuple[Tensor, Tensor], random: Generator, step: int = 1):
        """The GAN's own output where the teacher learns, else the student's step on A."""
        if self.phases.teaches(step):
            with self.timer.part("teacher"):
                return self.gan(batch, random, step)
        return super().forward(batch if self.paired else batch[0], random, step)

    def updates(self) -> list[Update]:
        teaching = [replace(update, when=self.phases.teaches) for update in self.gan.updates()]
        learning = [replace(update, when=lambda step: not self.phases.teaches(step)) for update in super().updates()]
        return teaching + learning

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
            self.teacher.load_state_dict(latest.state_dict())
            self.record.keep(step, score.value if score else 0.0)
        return {"event": "phase", "kept": kept, "score": score.as_dict() if score else None}

    def artifacts(self) -> dict[str, nn.Module]:
        """The teacher is the best one; the one that goes on learning keeps its own name."""
        return {"student": self.student, "teacher": self.teacher, **self.gan.generators(), **self.gan.discriminators()}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | self.gan.companions() | {"phases": (self.record, {})}


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
