"""How close a student's images are to its teacher's: SSIM, PSNR and L1, one value per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.errors import UsageError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2

# Equal images have an infinite PSNR, which no mean survives.
PSNR_MAX = 100.0


def _blur(x: Tensor) -> Tensor:
    """The 11x11 Gaussian on every channel, only where it lies wholly inside the image."""
    positions = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    window = torch.exp(-(positions**2) / (2 * SIGMA**2))
    window, channels = window / window.sum(), x.shape[1]
    x = F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of B x C x H x W images in [0, 1]: B values, 1 for equal images.

    Data range 1, Gaussian window of 11 and sigma 1.5, the mean of the map over the window's valid places. Raises
    UsageError for images smaller than the window.
    """
    if min(a.shape[-2:]) < WINDOW:
        raise UsageError(f"SSIM needs images of at least {WINDOW} px, these have {a.shape[-2]}x{a.shape[-1]}.")
    # Double precision: the variances are small differences of nearly equal squares.
    a, b = a.double(), b.double()
    mu_a, mu_b, aa, bb, ab = _blur(torch.cat((a, b, a * a, b * b, a * b), dim=1)).chunk(5, dim=1)
    squares, product = mu_a**2 + mu_b**2, mu_a * mu_b
    structure = (2 * (ab - product) + C2) / (aa + bb - squares + C2)
    return ((2 * product + C1) / (squares + C1) * structure).mean((1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of B x C x H x W images in [0, 1]: B values, at most 100."""
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    return (-10 * error.log10()).clamp(max=PSNR_MAX)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of B x C x H x W images in [0, 1]: B values in [0, 1]."""
    return (a.double() - b.double()).abs().mean((1, 2, 3))
