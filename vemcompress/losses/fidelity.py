"""Similarity of images, each measured alone: SSIM, PSNR, L1 and RMSE of B x C x H x W in [0, 1], in double precision.

These are metrics without gradient use; the losses for training are in `losses.image`.
"""

from torch import Tensor, cat

from vemcompress.errors import UsageError
from vemcompress.losses.image import C1, C2, WINDOW, blur

# Equal images have an infinite PSNR, which would make every mean infinite.
PSNR_MAX = 100.0


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of B x C x H x W images in [0, 1]: B values, 1 for equal images. Data
    range 1, Gaussian window of 11 and sigma 1.5, averaged over the window's valid positions. Raises UsageError for
    images smaller than the window.
    """
    if min(a.shape[-2:]) < WINDOW:
        raise UsageError(
            f"SSIM needs images of at least {WINDOW} px, and these have {a.shape[-2]}x{a.shape[-1]}; use larger images."
        )
    # Double precision: the variances are small differences of nearly equal squares.
    a, b = a.double(), b.double()
    mu_a, mu_b, aa, bb, ab = blur(cat((a, b, a * a, b * b, a * b), dim=1), padding=0).chunk(5, dim=1)
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


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root of the mean squared difference of B x C x H x W images in [0, 1]: B values in [0, 1]."""
    return (a.double() - b.double()).square().mean((1, 2, 3)).sqrt()
