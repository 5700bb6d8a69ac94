"""Losses between images, B x C x H x W: SSIM, reconstruction and total variation."""

from collections.abc import Callable

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
    """Blur every channel with the 11x11 Gaussian, as its two one-dimensional factors, with zero padding."""
    g, channels = _gaussian(x), x.shape[1]
    x = F.conv2d(x, g.view(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(padding, 0), groups=channels)
    return F.conv2d(x, g.view(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, padding), groups=channels)


def ssim(teachers: Tensor, student: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), averaged over the map, a scalar of at most 1.

    `teachers`: the images of n teachers one after another, n B x C x H x W; `student`: B x C x H x W. As in OMGD's
    code: 11x11 Gaussian of sigma 1.5, zero padding of 5, and the constants of a data range of 1 although the images are
    in [-1, 1].
    """
    t, s = teachers.detach().float(), student.float()
    t = t.unflatten(0, (-1, len(s)))
    (mu_t, tt), (mu_s, ss), st = _moments(t), _moments(s), _blurred(s * t)
    means, product = mu_s * mu_s + mu_t * mu_t, mu_s * mu_t
    numerator = (2 * product + C1) * (2 * (st - product) + C2)
    return (numerator / ((means + C1) * (ss + tt - means + C2))).mean()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """x and its square, ... x C x H x W, both blurred."""
    return _blurred(torch.cat((x, x * x), dim=-3)).chunk(2, dim=-3)


def _blurred(x: Tensor) -> Tensor:
    """`blur` for images ... x C x H x W."""
    return blur(x.flatten(0, -4)).view_as(x)


def ssim_loss(teachers: Tensor, student: Tensor) -> Tensor:
    """L_SSIM of eq. 15, 1 - SSIM, summed over the n teachers of n B images. A scalar."""
    return len(teachers) // len(student) * (1 - ssim(teachers, student))


def reconstruction(teachers: Tensor, student: Tensor) -> Tensor:
    """The pixel term of eq. 15, summed over the n teachers of n B images, a scalar. The paper writes a sum over
    elements; all published code takes the mean, as here.
    """
    return _summed(F.l1_loss, teachers, student)


def squared(teachers: Tensor, student: Tensor) -> Tensor:
    """The mean squared difference of pixels, summed over the n teachers of n B images, a scalar. It is not in the
    paper."""
    return _summed(F.mse_loss, teachers, student)


def _summed(difference: Callable[[Tensor, Tensor], Tensor], teachers: Tensor, student: Tensor) -> Tensor:
    s = student.float()
    t = teachers.detach().float().unflatten(0, (-1, len(s)))
    return len(t) * difference(s.expand_as(t), t)


def total_variation(student: Tensor) -> Tensor:
    """L_TV: the anisotropic total variation, **summed** over batch, channels and pixels, as in OMGD's code. A
    scalar.
    """
    s = student.float()
    return s.diff(dim=2).abs().sum() + s.diff(dim=3).abs().sum()
