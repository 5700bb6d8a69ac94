"""What a metric is: what it needs, what it gathers while the images pass by, and the figure that comes of that. A new
one is a file like `fidelity.py` and a line in `choose.METRICS`."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from vemcompress.data.images import Crop
from vemcompress.evaluation.extractors import Extractor
from vemcompress.evaluation.frechet import Statistics
from vemcompress.evaluation.gather import Gather, Gathered

# Roles of images that no network made: the other sides of pairs, and the set of real images.
NOT_MADE = ("target", "real")


@dataclass(frozen=True)
class Needs:
    """What a metric cannot do without: a `teacher`, the ground truth of each image (`targets`), `labels` with a
    network that reads them, real images or at least their statistics, the `features` of an extractor, so many images,
    of so many pixels."""

    teacher: bool = False
    targets: bool = False
    labels: bool = False
    real: Literal["images", "statistics"] | None = None
    features: str | None = None
    images: int = 1
    size: int = 1


@dataclass(frozen=True)
class Given:
    """What there is for metrics. `features` are the names of extractors that can be loaded; `no_labels` says what label
    maps lack, None where they are there; `latent`: networks take latent vectors; `enhances`: the ground truth is the
    input in a better state, larger or not; `scores`: networks give scores of classes; `wide`: the ground truth is a
    16-bit grey, as depth is; `images` and `size` count where too few are refused beforehand."""

    teacher: bool = False
    targets: bool = False
    real: Literal["images", "statistics"] | None = None
    features: tuple[str, ...] = ()
    segmenter: bool = False
    no_labels: str | None = "maps of class numbers"
    latent: bool = False
    enhances: bool = False
    scores: bool = False
    wide: bool = False
    images: int = sys.maxsize
    size: int = sys.maxsize


def lacking(needs: Needs, given: Given, words: Mapping[str, str]) -> str | None:
    """What is needed and was not given, as the rest of the sentence "needs ...", in `words` by need; else None."""
    missing = {
        "pictures": given.scores and not needs.labels,
        "segmenter": needs.labels and not given.segmenter,
        "labels": needs.labels and given.no_labels is not None,
        "targets": needs.targets and not given.targets,
        "teacher": needs.teacher and not given.teacher,
        "size": given.size < needs.size,
        "real": needs.real is not None and given.real is None,
        "real images": needs.real == "images" and given.real == "statistics",
        "images": given.images < needs.images,
        "features": needs.features is not None and needs.features not in given.features,
    }
    need = next((need for need, is_missing in missing.items() if is_missing), None)
    return given.no_labels if need == "labels" else need and words[need].format(**vars(needs))


@dataclass(frozen=True)
class Real:
    """The real side: the paths of images, the statistics of an .npz, or the `targets` of the pairs that are run
    through. `what` names it in a sentence."""

    paths: tuple[Path, ...] = ()
    statistics: Statistics | None = None
    targets: bool = False
    what: str = "real images"

    @property
    def kind(self) -> Literal["images", "statistics"] | None:
        if self.statistics is not None:
            return "statistics"
        return "images" if self.paths or self.targets else None


@dataclass
class Tools:
    """What metrics work with: the real side, extractors by name, `meter`, which makes a new `Miou`. `size` is the
    images' side in pixels, `seed` that of subsets, `rows` how many features enter a covariance at a time. `crop` is
    what was taken of real images before they were resized; `scale`: by how much networks enlarge; `latents` says how
    latent vectors were drawn, where networks take such; `scores`: networks give scores of classes."""

    device: torch.device
    size: int
    real: Real = Real()
    extractors: dict[str, Extractor] = field(default_factory=dict)
    meter: Callable | None = None
    seed: int = 0
    rows: int | None = None
    crop: Crop = None
    scale: int = 1
    latents: str = ""
    scores: bool = False

    def outputs(self, count: int, noun: str = "outputs") -> str:
        """So many of them, as protocols say it."""
        return f"{count} {noun} at {self.size} px" + (f" ({self.latents})" if self.latents else "")


def cropped(crop: Crop) -> str:
    """What was taken of images, behind the word for them in a sentence."""
    part = "square in the middle" if crop == "square" else f"square of {crop} px in the middle"
    return "" if crop is None else f", the {part} of each,"


@dataclass(frozen=True)
class Metric(ABC):
    """`higher`: whether that is better. Metrics that gather the same have one name for it, `gathers`. Roles are those
    of networks (`student`, `best`, `teacher`, or a candidate's name), `target` and `real`."""

    name: str
    higher: bool
    gathers: str
    needs: Needs

    @abstractmethod
    def offered(self, given: Given) -> bool:
        """Whether it is computed, or told to be missing, where nobody names metrics."""

    @abstractmethod
    def reads(self, role: str) -> bool:
        """Whether it gathers this role's images."""

    def scores(self, role: str) -> bool:
        """Whether it has a figure of this role."""
        return self.reads(role)

    @abstractmethod
    def start(self, tools: Tools) -> Gather:
        """What gathers one role's images."""

    @abstractmethod
    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        """Values by name, the metric's own first. Raises InputError for images that give none."""

    @abstractmethod
    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        """How the figures were made, in one sentence: those of different protocols must not be compared."""

    def by_class(self, role: str, gathered: Gathered) -> dict[str, float | None]:
        """The figure's parts by class, where it has such."""
        return {}
