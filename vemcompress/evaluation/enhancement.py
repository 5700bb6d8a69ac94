"""Metrics of super-resolution and restoration: PSNR and SSIM of the luma without the border, and LPIPS."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vemcompress.evaluation.extractors import PERCEPTUAL, PerceptualDistance
from vemcompress.evaluation.fidelity import KINDS, SHORT, Sum
from vemcompress.evaluation.gather import Gather, Gathered, View, Views
from vemcompress.evaluation.metric import NOT_MADE, Given, Metric, Needs, Tools
from vemcompress.losses.image import WINDOW
from vemcompress.system import distributed

# Y of ITU-R BT.601 as in MATLAB's rgb2ycbcr, for R, G and B in [0, 1]: from 16 to 235 of 255.
_RED, _GREEN, _BLUE, _OFFSET = 65.481, 128.553, 24.966, 16.0
_MOST_CUT = 8  # pixels; equal to the largest scale


def luma(images: Tensor) -> Tensor:
    """The luma, B x 1 x H x W, of B x 3 x H x W, both in [0, 1]. Images of one channel are returned unchanged."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    return ((_RED * red + _GREEN * green + _BLUE * blue + _OFFSET) / 255)[:, None]


def rounded(view: View) -> Tensor:
    """The images, B x C x H x W in [0, 1], rounded to 8 bits as in a file."""
    return (view.unit * 255).round().clamp(0, 255) / 255


@dataclass(frozen=True)
class Luma(Metric):
    """Mean over images of the PSNR or SSIM between the luma of an image and of its ground truth."""

    kind: Literal["psnr", "ssim"]

    @property
    def does(self) -> str:
        return f"{SHORT[self.kind]} between the luma of each output and of the ground truth, for super-resolution"

    def offered(self, given: Given) -> bool:
        return given.enhances

    def reads(self, role: str) -> bool:
        return role not in NOT_MADE

    def start(self, tools: Tools) -> Gather:
        cut = self._cut(tools)

        def shown(view: View) -> Tensor:
            y = luma(rounded(view))
            return y[:, :, cut : y.shape[2] - cut, cut : y.shape[3] - cut]

        return Sum(self.kind, "target", shown)

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        return {self.name: float(gathered[role, self.gathers].value) / gathered.images}

    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        return (
            f"{KINDS[self.kind][1]} between the luma (BT.601, 16 to 235) of each output and of the ground truth, both "
            f"rounded to 8 bits, without {self._cut(tools)} pixels at each border, each image alone and then the mean; "
            f"{tools.outputs(gathered.images, 'images')}."
        )

    def _cut(self, tools: Tools) -> int:
        return tools.scale if tools.scale > 1 else 0


class _Distances(Gather):
    """Sum over images of the perceptual distance to the ground truth."""

    def __init__(self, network: PerceptualDistance):
        self._network = network
        self.value: float | Tensor = 0.0  # stays on the device: reading it would wait for the device

    def add(self, views: Views, role: str) -> None:
        made, wanted = (2 * rounded(views[of]).float().expand(-1, 3, -1, -1) - 1 for of in (role, "target"))
        self.value = self.value + self._network(wanted, made).sum()

    def merge(self) -> None:
        self.value = distributed.total(float(self.value))


@dataclass(frozen=True)
class Perceptual(Metric):
    """Mean over images of LPIPS, or of the distance without linear layers, to the ground truth."""

    asked: bool = False  # computed only if the user names it, because its weights are a large download

    @property
    def does(self) -> str:
        return f"Perceptual distance ({self.needs.features}) between each output and the ground truth"

    def offered(self, given: Given) -> bool:
        return given.enhances and not self.asked and self.needs.features in given.features

    def reads(self, role: str) -> bool:
        return role not in NOT_MADE

    def start(self, tools: Tools) -> _Distances:
        return _Distances(tools.extractors[self.needs.features])

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        return {self.name: float(gathered[role, self.gathers].value) / gathered.images}

    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        about = tools.extractors[self.needs.features].protocol
        return f"{about} between each output and the ground truth; {tools.outputs(gathered.images, 'images')}."


def _perceptual(features: str) -> Perceptual:
    needs, name = Needs(targets=True, features=features, size=17), f"{features.replace(' ', '_')}_target"
    return Perceptual(name, False, gathers=name, needs=needs, asked=features.endswith("vgg16"))


def _luma(kind: Literal["psnr", "ssim"]) -> Luma:
    needs = Needs(targets=True, size=2 * _MOST_CUT + (WINDOW if kind == "ssim" else 1))
    return Luma(f"{kind}_y_target", True, gathers=f"{kind}_y_target", needs=needs, kind=kind)


ENHANCEMENT = (_luma("psnr"), _luma("ssim"), *map(_perceptual, PERCEPTUAL))
