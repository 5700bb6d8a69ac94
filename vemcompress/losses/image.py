"""Losses between images, B x C x H x W."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def _gaussian(like: Tensor) -> Tensor:
    x = torch.arange(WINDOW, device=like.device, dtype=like.dtype) - WINDOW // 2
    g = torch.exp(-(x**2) / (2 * SIGMA**2))
    return g / g.sum()


def blur(x: Tensor, padding: int = WINDOW // 2) -> Tensor:
    """The 11x11 Gaussian as its two one-dimensional factors, on every channel, padded with zeros."""
    g, channels = _gaussian(x), x.shape[1]
    x = F.conv2d(x, g.view(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(padding, 0), groups=channels)
    return F.conv2d(x, g.view(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, padding), groups=channels)


def ssim(teacher: Tensor, student: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), the mean of the map, a scalar of at most 1.

    As in OMGD's code: 11x11 Gaussian of sigma 1.5, zero padding of 5, and the constants of a data range of 1 although
    the images are in [-1, 1].
    """
    t, s = teacher.detach().float(), student.float()
    mu_t, tt = blur(torch.cat((t, t * t), dim=1)).chunk(2, dim=1)
    mu_s, ss, st = blur(torch.cat((s, s * s, s * t), dim=1)).chunk(3, dim=1)
    means, product = mu_s * mu_s + mu_t * mu_t, mu_s * mu_t
    numerator = (2 * product + C1) * (2 * (st - product) + C2)
    return (numerator / ((means + C1) * (ss + tt - means + C2))).mean()


def ssim_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """L_SSIM of eq. 15: 1 - SSIM."""
    return 1 - ssim(teacher, student)


def reconstruction(teacher: Tensor, student: Tensor) -> Tensor:
    """The pixel term of eq. 15. The paper writes a sum over elements; every published code takes the mean, as here."""
    return F.l1_loss(student.float(), teacher.detach().float())


def total_variation(student: Tensor) -> Tensor:
    """L_TV: the anisotropic total variation, **summed** over batch, channels and pixels, as OMGD's code has it."""
    s = student.float()
    return s.diff(dim=2).abs().sum() + s.diff(dim=3).abs().sum()
