"""OMGD: online multi-granularity distillation (Ren et al., ICCV 2021; VEM paper, A.2.1, eq. 12-15).

Where paper and published code differ this follows the code: the perceptual loss is a style and a feature term, the
connectors f_l are 1x1 convolution, BatchNorm and ReLU, the total variation is a sum, and there is no pixel term with
VGG features.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from vemcompress.algorithms.base import Algorithm
from vemcompress.information.base import Information
from vemcompress.losses import features as feature_losses
from vemcompress.losses import image as image_losses
from vemcompress.networks.base import Generator as ImageGenerator
from vemcompress.networks.base import init_weights
from vemcompress.networks.features import FeatureNetwork
from vemcompress.settings import BaseSettings
from vemcompress.step import Adam, Output, Update
from vemcompress.timing import Timer

Features = Literal["vgg16", "squeezenet1_1", "squeezenet1_1_caffe", "none"]


class OMGD(Algorithm):
    """A frozen teacher, or later several that learn beside the student."""

    class Settings(BaseSettings):
        """Weights (lambda) of the student's terms; None is filled in when the recipe is resolved for a teacher.

        `online` and what follows are of a [gan]: "step", student and teachers learn at the same steps; "phases", as
        published for CycleGAN: the teacher learns for `phase_epochs`, then the student for `student_epochs` times as
        long (n_dis) from the teacher that was the best so far, by `best_teacher`; `phase_steps` says the same in steps.
        """

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
        optimizer: Adam,
    ):
        super().__init__()
        self.settings, self.optimizer = settings, optimizer
        self.timer = Timer(torch.device("cpu"))
        self.teacher = teacher.eval().requires_grad_(False)
        self.student, self.features, self.information = student, features, information
        pairs = paired_taps(teacher, student) if settings.channel else ()
        self.teacher_taps = tuple(t for t, _ in pairs)
        self.student_taps = tuple(s for _, s in pairs)
        self.connectors = nn.ModuleList(connector(student.tap_channels(s), teacher.tap_channels(t)) for t, s in pairs)
        init_weights(self.connectors)

    def train(self, mode: bool = True) -> "OMGD":
        """The frozen teacher and the features stay in evaluation mode, the connectors in training mode."""
        self.student.train(mode)
        return self

    def forward(self, batch: Tensor, random: Generator) -> Output:
        with self.autocast(batch.device):
            with self.timer.part("teacher"), torch.no_grad():
                teacher, teacher_taps = self.teacher.forward_with_taps(batch, self.teacher_taps)
            with self.timer.part("student_forward"):
                student, student_taps = self.student.forward_with_taps(batch, self.student_taps)
        teacher = teacher.float()
        return Output(batch, student.float(), teacher, teacher, student_taps, teacher_taps, random)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 12: the named, weighted terms of L_algo."""
        settings, teacher, student = self.settings, out.teacher, out.student
        terms = {"ssim": settings.ssim * image_losses.ssim_loss(teacher, student)}
        if self.features is not None:
            with self.autocast(student.device):
                with torch.no_grad():
                    of_teacher = self.features(teacher)
                of_student, layer = self.features(student), self.features.feature
            terms["style"] = settings.style * feature_losses.style(of_teacher, of_student)
            terms["feature"] = settings.feature * feature_losses.feature(of_teacher[layer], of_student[layer])
        terms["tv"] = settings.tv * image_losses.total_variation(student)
        if settings.recon:
            terms["recon"] = settings.recon * image_losses.reconstruction(teacher, student)
        if self.connectors:
            with self.autocast(student.device):
                connected = [f(out.student_taps[s]) for s, f in zip(self.student_taps, self.connectors, strict=True)]
            of_teacher = [out.teacher_taps[t] for t in self.teacher_taps]
            terms["channel"] = settings.channel * feature_losses.channel_distillation(of_teacher, connected)
        return terms

    def updates(self) -> list[Update]:
        learned = {"student": self.student, "connectors": self.connectors} | self.information.student_modules()

        def terms(out: Output) -> dict[str, Tensor]:
            return self.student_terms(out) | self.information.student_terms(out)

        tighten = self.information.update()
        return [*([tighten] if tighten else []), Update("student", learned, terms, self.optimizer)]

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        companions = {"connectors": (self.connectors, {})} if len(self.connectors) else {}
        if self.information.metadata:
            companions[self.information.file] = (self.information, self.information.metadata)
        return companions


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
