"""Haar wavelets of feature maps, and NICKEL's distance of their details (Yeo et al., ECCV 2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.losses.adversarial import precise

LEVELS = 4


def high_bands(x: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """The orthonormal details of maps B x C x H x W at each level: B x C x 3 x H/2 x W/2, then H/4, and so on, for
    at most `levels` levels, as long as the sides can be halved.
    """
    found, x = [], precise(x)
    while len(found) < levels and x.shape[2] % 2 == x.shape[3] % 2 == 0:
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        found.append(torch.stack((a + b - c - d, a - b + c - d, a - b - c + d), 2) / 2)
        x = (a + b + c + d) / 2
    return found


def detail_distance(teacher: Tensor, student: Tensor, levels: int = LEVELS) -> Tensor:
    """The mean squared difference of the details of each level, summed over levels, a scalar. The teacher's have no
    gradient.
    """
    pairs = zip(high_bands(teacher.detach(), levels), high_bands(student, levels), strict=True)
    return sum(F.mse_loss(mine, theirs) for theirs, mine in pairs)
