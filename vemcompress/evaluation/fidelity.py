"""How close a student's images are to its teacher's, or to the ground truth: SSIM, PSNR, L1 and, of depth, RMSE,
each image alone and then the mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.evaluation.gather import Gather, Gathered, View, Views
from vemcompress.evaluation.metric import NOT_MADE, Given, Metric, Needs, Tools
from vemcompress.losses.image import C1, C2, WINDOW, blur
from vemcompress.system import distributed

# Equal images have an infinite PSNR, which no mean survives.
PSNR_MAX = 100.0


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of B x C x H x W images in [0, 1]: B values, 1 for equal images. Data
    range 1, Gaussian window of 11 and sigma 1.5, the mean of the map over the window's valid places. Raises UsageError
    for images smaller than the window."""
    if min(a.shape[-2:]) < WINDOW:
        raise UsageError(f"SSIM needs images of at least {WINDOW} px, these have {a.shape[-2]}x{a.shape[-1]}.")
    # Double precision: the variances are small differences of nearly equal squares.
    a, b = a.double(), b.double()
    mu_a, mu_b, aa, bb, ab = blur(torch.cat((a, b, a * a, b * b, a * b), dim=1), padding=0).chunk(5, dim=1)
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


KINDS = {  # the function, and its words
    "ssim": (ssim, "SSIM (11x11 Gaussian of sigma 1.5, valid region, data range 1)"),
    "psnr": (psnr, "PSNR in dB (data range 1, at most 100 dB an image)"),
    "l1": (l1, "mean absolute difference"),
    "rmse": (rmse, "root of the mean squared difference"),
}
_WORDS = {"teacher": "the teacher's", "target": "the ground truth"}


class Sum(Gather):
    """The sum over images of a kind of fidelity to another role's images, as `shown` gives both."""

    def __init__(self, kind: str, against: str, shown: Callable[[View], Tensor] = lambda view: view.unit):
        self._of, self._against, self._shown = KINDS[kind][0], against, shown
        self.value: float | Tensor = 0.0  # it stays on the device, which would have to be waited for

    def add(self, views: Views, role: str) -> None:
        self.value = self.value + self._of(self._shown(views[role]), self._shown(views[self._against])).sum()

    def merge(self) -> None:
        self.value = distributed.total(float(self.value))


@dataclass(frozen=True)
class Fidelity(Metric):
    """The mean over images of `kind`; the teacher is not compared with itself."""

    kind: Literal["ssim", "psnr", "l1", "rmse"]
    against: Literal["teacher", "target"]

    def offered(self, given: Given) -> bool:
        return (given.targets or not self.needs.targets) and (given.wide or self.kind != "rmse")

    def reads(self, role: str) -> bool:
        return role not in (*NOT_MADE, self.against)

    def start(self, tools: Tools) -> Sum:
        return Sum(self.kind, self.against)

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        return {self.name: float(gathered[role, self.gathers].value) / gathered.images}

    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        return (
            f"{KINDS[self.kind][1]} between each output and {_WORDS[self.against]}, as floats in [0, 1], each image "
            f"alone and then the mean; {tools.outputs(gathered.images, 'images')}."
        )


def _fidelity(kind: str, against: str) -> Fidelity:
    size = WINDOW if kind == "ssim" else 1
    needs = Needs(teacher=against == "teacher", targets=against == "target", size=size)
    name, higher = f"{kind}_{against}", kind not in ("l1", "rmse")
    return Fidelity(name, higher, gathers=name, needs=needs, kind=kind, against=against)


FIDELITY = tuple(_fidelity(kind, against) for against in ("teacher", "target") for kind in KINDS)
