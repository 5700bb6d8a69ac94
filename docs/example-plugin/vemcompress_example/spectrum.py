"""Distillation of images and of their spectra: details that the mean absolute difference alone would blur.

The spectrum's term is in the manner of the focal frequency loss (Jiang et al., ICCV 2021), without its weights.
"""

from typing import Literal

import torch
from torch import Tensor

from vemcompress.algorithms.distillation import Distillation
from vemcompress.losses import image as image_losses
from vemcompress.system.settings import Weight
from vemcompress.training.update import Output


def spectrum_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared distance of the logarithms of both images' Fourier amplitudes. B x C x H x W each; a scalar.

    The teacher's side is a constant. Of the coefficients themselves the distance would be that of the pixels, by
    Parseval's theorem.
    """
    theirs, ours = (torch.fft.rfft2(x.float(), norm="ortho").abs().add(1e-2).log() for x in (teacher.detach(), student))
    return (ours - theirs).square().mean()


class Spectrum(Distillation):
    """From any teacher: frozen, online or in phases."""

    class Settings(Distillation.Settings):
        """Weights: `recon` of the mean absolute difference to the teacher's images, `spectrum` of the mean squared
        difference of the logarithms of their amplitudes."""

        name: Literal["spectrum"] = "spectrum"
        recon: Weight = 10.0
        spectrum: Weight = 0.1

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        return {
            "recon": self.settings.recon * image_losses.reconstruction(out.teachers, out.student),
            "spectrum": self.settings.spectrum * spectrum_loss(out.teacher, out.student),
        }
