"""Reference losses of CAT (eq. 22-23), as in the original code."""

import torch.nn.functional as F
from torch import Tensor

from vemcompress.algorithms.cat import CAT
from vemcompress.networks.base import Taps


def alignment(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.reshape(x.shape[0], -1), y.reshape(y.shape[0], -1)
    kernel_x, kernel_y = x @ x.t(), y @ y.t()
    return (kernel_x * kernel_y).sum() / ((kernel_x * kernel_x).sum().sqrt() * (kernel_y * kernel_y).sum().sqrt())


def student_terms(
    algorithm: CAT, shown: list[Tensor], student: Tensor, of_teacher: Taps, of_student: Taps, target: Tensor
):
    settings, terms = algorithm.settings, {"recon": algorithm.settings.recon * F.l1_loss(student, target)}
    places = list(zip(algorithm.teacher_taps, algorithm.student_taps, strict=True))
    if places:
        terms["distill"] = settings.distill * sum(-alignment(of_student[s], of_teacher[t].detach()) for t, s in places)
    return terms
