"""Fidelity metrics: SSIM, PSNR, L1 and (for depth) RMSE between a student's images and its teacher's or the ground
truth.

Each image is scored alone; the metric is the mean over images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vemcompress.evaluation.gather import Gather, Gathered, View, Views
from vemcompress.evaluation.metric import NOT_MADE, Given, Metric, Needs, Tools
from vemcompress.losses.fidelity import l1, psnr, rmse, ssim
from vemcompress.losses.image import WINDOW
from vemcompress.system import distributed

KINDS = {  # the function, and its words
    "ssim": (ssim, "SSIM (11x11 Gaussian of sigma 1.5, valid region, data range 1)"),
    "psnr": (psnr, "PSNR in dB (data range 1, at most 100 dB an image)"),
    "l1": (l1, "mean absolute difference"),
    "rmse": (rmse, "root of the mean squared difference"),
}
SHORT = {kind: words.partition(" (")[0] for kind, (_, words) in KINDS.items()}
_WORDS = {"teacher": "the teacher's", "target": "the ground truth"}


class Sum(Gather):
    """Sum over images of one kind of fidelity to another role's images. `shown` converts both before."""

    def __init__(self, kind: str, against: str, shown: Callable[[View], Tensor] = lambda view: view.unit):
        self._of, self._against, self._shown = KINDS[kind][0], against, shown
        self.value: float | Tensor = 0.0  # stays on the device: reading it would wait for the device

    def add(self, views: Views, role: str) -> None:
        self.value = self.value + self._of(self._shown(views[role]), self._shown(views[self._against])).sum()

    def merge(self) -> None:
        self.value = distributed.total(float(self.value))


@dataclass(frozen=True)
class Fidelity(Metric):
    """Mean over images of `kind`. The teacher is not compared with itself."""

    kind: Literal["ssim", "psnr", "l1", "rmse"]
    against: Literal["teacher", "target"]

    @property
    def does(self) -> str:
        return f"{SHORT[self.kind]} between each output and {_WORDS[self.against]}, mean over images"

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
