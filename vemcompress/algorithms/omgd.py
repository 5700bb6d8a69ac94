"""OMGD: online multi-granularity distillation (Ren et al., ICCV 2021; VEM paper, A.2.1, eq. 12-15).

Where paper and published code differ this follows the code: the perceptual loss is a style and a feature term, the
connectors f_l are 1x1 convolution, BatchNorm and ReLU, the total variation is a sum, and there is no pixel term with
VGG features.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from vemcompress.algorithms.base import Algorithm
from vemcompress.information.base import Information
from vemcompress.losses import features as feature_losses
from vemcompress.losses import image as image_losses
from vemcompress.networks.base import Generator as ImageGenerator
from vemcompress.networks.base import Taps, init_weights
from vemcompress.networks.features import FeatureNetwork
from vemcompress.system import distributed
from vemcompress.system.settings import BaseSettings
from vemcompress.training.learner import one_by_one
from vemcompress.training.update import Optimizer, Output, Update

Features = Literal["vgg16", "squeezenet1_1", "squeezenet1_1_caffe", "none"]

Taught = tuple[Tensor, Taps]  # a frozen teacher's images, and its taps' means over pixels
Recall = Callable[[int, Tensor, Callable[[Tensor], Taught]], Taught]


class OMGD(Algorithm):
    """From a frozen teacher; `omgd_online` has the teachers that learn beside the student.

    `recall` gives what the frozen teacher makes of a step's inputs: from the step, the inputs, and the function that
    asks the teacher, which it does not have to call. Here it always does; a cache of teachers' outputs takes its place.
    """

    class Settings(BaseSettings):
        """Weights (lambda) of the student's terms; None is filled in when the recipe is resolved for a teacher.

        `online` and what follows are of a [gan]: "step", student and teachers learn at the same steps; "phases", as
        published for CycleGAN: the teacher learns for `phase_epochs`, then the student for `student_epochs` times as
        long (n_dis) from the teacher that was the best so far, by `best_teacher`; `phase_steps` says the same in steps.
        """

        replaces: ClassVar = {
            "features": ("features_weights", "style", "feature", "channel", "recon"),
            "phase_steps": ("phase_epochs",),
            "phase_epochs": ("phase_steps",),
        }

        name: Literal["omgd"] = "omgd"
        ssim: float = Field(10.0, ge=0)
        style: float | None = Field(None, ge=0)
        feature: float | None = Field(None, ge=0)
        tv: float = Field(1e-5, ge=0)
        channel: float | None = Field(None, ge=0)
        recon: float | None = Field(None, ge=0)
        features: Features = "vgg16"
        features_weights: str | None = None
        online: Literal["step", "phases"] = "step"
        phase_epochs: float | None = Field(None, gt=0)
        phase_steps: int | None = Field(None, ge=1)
        student_epochs: int = Field(4, ge=1)
        best_teacher: Literal["fid", "frechet", "latest"] = "fid"

    def __init__(
        self,
        settings: Settings,
        *,
        teacher: ImageGenerator,
        student: ImageGenerator,
        features: FeatureNetwork | None,
        information: Information,
        optimizer: Optimizer,
    ):
        super().__init__()
        self.settings, self.optimizer = settings, optimizer
        self.teacher = teacher.eval().requires_grad_(False)
        self.student, self.features, self.information = student, features, information
        pairs = paired_taps(teacher, student) if settings.channel else ()
        self.teacher_taps = tuple(t for t, _ in pairs)
        self.student_taps = tuple(s for _, s in pairs)
        self.connectors = nn.ModuleList(connector(student.tap_channels(s), teacher.tap_channels(t)) for t, s in pairs)
        init_weights(self.connectors)
        self.recall: Recall = lambda step, images, ask: ask(images)

    def train(self, mode: bool = True) -> "OMGD":
        """The frozen teacher and the features stay in evaluation mode, the connectors in training mode."""
        self.student.train(mode)
        return self

    def forward(self, batch: Tensor | tuple[Tensor, Tensor], random: Generator, step: int = 1) -> Output:
        """`batch`: the teacher's inputs, or pairs of these with the ground truth, which is then t (section 5.3)."""
        condition, truth = batch if isinstance(batch, tuple) else (batch, None)
        with self.timer.part("teacher"):
            teacher, means = self.recall(step, condition, self.taught)
        teacher = teacher.float()
        return self.beside(condition, (teacher,), means, teacher if truth is None else truth, random)

    @torch.no_grad()
    def taught(self, images: Tensor) -> Taught:
        """What the frozen teacher makes of images, in the dtype that it makes, with its taps' means over pixels."""
        with self.autocast(images.device):
            made, taps = self.teacher.forward_with_taps(images, self.teacher_taps)
        return made, {name: feature_losses.channel_means(tap) for name, tap in taps.items()}

    def beside(
        self, condition: Tensor, teachers: tuple[Tensor, ...], taps: Taps, target: Tensor, random: Generator
    ) -> Output:
        """The step's output, with the student's image of the same inputs. Teachers' images and taps are constants."""
        with self.autocast(condition.device), self.timer.part("student"):
            student, student_taps = self.student.forward_with_taps(condition, self.student_taps)
        self.timer.until_gradient(student, "features")
        first, *others = teachers
        return Output(condition, student.float(), first, target, student_taps, taps, random, others=tuple(others))

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 12: the named, weighted terms of L_algo, as published summed over the teachers, total variation too.

        Feature maps are distilled from the first teacher alone.
        """
        settings, student = self.settings, out.student
        count, teachers = 1 + len(out.others), torch.cat((out.teacher, *out.others))
        terms = {"ssim": settings.ssim * image_losses.ssim_loss(teachers, student)}
        if self.features is not None:
            terms |= self._perceptual_terms(teachers, student)
        # A sum over the global batch, where the mean over the ranks will be taken.
        variation = distributed.ranks() * image_losses.total_variation(student)
        terms["tv"] = settings.tv * count * variation
        if settings.recon:
            terms["recon"] = settings.recon * image_losses.reconstruction(teachers, student)
        if self.connectors:
            with self.autocast(student.device):
                connected = [f(out.student_taps[s]) for s, f in zip(self.student_taps, self.connectors, strict=True)]
            of_teacher = [out.teacher_taps[t] for t in self.teacher_taps]
            terms["channel"] = settings.channel * feature_losses.channel_distillation(of_teacher, connected)
        return terms

    def _perceptual_terms(self, teachers: Tensor, student: Tensor) -> dict[str, Tensor]:
        """The student's feature maps once, all teachers' in one batch and without gradient."""
        layer = self.features.feature
        with self.timer.part("features"):
            with self.autocast(student.device), torch.no_grad():
                of_teachers = self.features(teachers)
            with self.autocast(student.device):
                of_student = self.features(student)
            style = feature_losses.style(of_teachers, of_student)
            feature = feature_losses.feature(of_teachers[layer], of_student[layer])
        return {"style": self.settings.style * style, "feature": self.settings.feature * feature}

    def updates(self) -> list[Update]:
        learned = {"student": self.student, "connectors": self.connectors} | self.information.student_modules()

        def terms(out: Output) -> dict[str, Tensor]:
            return self.student_terms(out) | self.information.student_terms(out)

        tighten = self.information.update()
        return [*([tighten] if tighten else []), Update("student", learned, terms, self.optimizer)]

    def artifacts(self) -> dict[str, nn.Module]:
        return {"student": self.student}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        companions = {"connectors": (self.connectors, {})} if len(self.connectors) else {}
        if self.information.metadata:
            companions[self.information.file] = (self.information, self.information.metadata)
        return companions

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"teacher": one_by_one(self.teacher, inputs), "student": one_by_one(self.student, inputs)}


def connector(inputs: int, outputs: int) -> nn.Sequential:
    """f_l of eq. 13, always in training mode: 1x1 convolution without bias, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def paired_taps(teacher: ImageGenerator, student: ImageGenerator) -> tuple[tuple[str, str], ...]:
    """The published places, at the same relative depth on both sides: (teacher's tap, student's tap).

    ResNets: after the second down-sampling and each third of the residual blocks. U-Nets: after the second
    down-sampling and half-way down, and where the way up passes these again. Empty where there are no common taps.
    """

    def places(network: ImageGenerator) -> tuple[str, ...]:
        blocks = sum(name.startswith("block") for name in network.taps)
        downs = sum(name.startswith("down") for name in network.taps)
        if blocks:
            return ("down2", *(f"block{max(1, round(blocks * third / 3))}" for third in (1, 2, 3)))
        if downs >= 4:
            half = downs // 2
            return ("down2", f"down{half}", f"up{half}", "up2") if half > 2 else ("down2", "up2")
        return ("down2", "up2") if downs else ()

    mine, other = places(teacher), places(student)
    same_kind = len(mine) == len(other) and all(a[:2] == b[:2] for a, b in zip(mine, other, strict=True))
    return tuple(dict.fromkeys(zip(mine, other, strict=True))) if same_kind else ()
