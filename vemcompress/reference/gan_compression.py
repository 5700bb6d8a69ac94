"""Reference losses of GAN-Compression (eq. 20-21), as in the original code."""

import torch.nn.functional as F
from torch import Tensor

from vemcompress.algorithms.gan_compression import GANCompression
from vemcompress.networks.base import Taps


def student_terms(
    algorithm: GANCompression, shown: list[Tensor], student: Tensor, of_teacher: Taps, of_student: Taps, target: Tensor
):
    """The student's loss terms. If a supernet runs at a smaller width, the inputs of the first convolution are
    sliced."""
    settings, distill = algorithm.settings, 0.0
    for f, t, s in zip(algorithm.connectors, algorithm.teacher_taps, algorithm.student_taps, strict=True):
        mine = F.conv2d(of_student[s], f.weight[:, : of_student[s].shape[1]], f.bias)
        distill = distill + F.mse_loss(mine, of_teacher[t].detach())
    terms = {"recon": settings.recon * F.l1_loss(student, target)}
    return terms | ({"distill": settings.distill * distill} if algorithm.connectors else {})
