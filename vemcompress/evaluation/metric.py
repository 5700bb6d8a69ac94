"""Base class of metrics: what a metric needs, what it gathers during the pass over the images, and its scores.

To add a metric, write a module like `fidelity.py` and add a line to `choose.METRICS`.
"""

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

# Roles of images that no network made: the targets of pairs, and the set of real images.
NOT_MADE = ("target", "real")


@dataclass(frozen=True)
class Needs:
    """The requirements of a metric: a `teacher`, the ground truth of each image (`targets`), `labels` with a
    segmentation network, real images or at least their statistics, the `features` of an extractor, a least number of
    images, a least size in pixels."""

    teacher: bool = False
    targets: bool = False
    labels: bool = False
    real: Literal["images", "statistics"] | None = None
    features: str | None = None
    images: int = 1
    size: int = 1


@dataclass(frozen=True)
class Given:
    """The inputs that are available to metrics. `features`: names of extractors that can be loaded. `no_labels`: the
    reason why there are no label maps, None if there are. `latent`: networks take latent vectors. `enhances`: the
    ground truth is the input in better quality, perhaps larger. `scores`: networks output class scores. `wide`: the
    ground truth is 16-bit grey, such as depth. `images` and `size` are set if too few are refused in advance."""

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
    """The missing input, as the rest of the sentence "needs ...", from `words`; None if nothing is missing."""
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
    """The real images: paths, the statistics of an .npz file, or the `targets` of the evaluated pairs. `what` names
    them in a sentence."""

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
    """The tools of metrics: the real images, extractors by name, and `meter`, which makes a new `Miou`. `size`: side of
    the images in pixels. `seed`: for random subsets. `rows`: features per update of a covariance. `crop`: the part of
    real images that is cut out before resizing. `scale`: the networks' enlargement. `latents`: how latent vectors were
    drawn, if there are any. `scores`: networks output class scores."""

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
        """The number of images and their size, in words for protocols."""
        return f"{count} {noun} at {self.size} px" + (f" ({self.latents})" if self.latents else "")


def cropped(crop: Crop) -> str:
    """The crop in words, to follow the word for the images in a sentence."""
    part = "square in the middle" if crop == "square" else f"square of {crop} px in the middle"
    return "" if crop is None else f", the {part} of each,"


@dataclass(frozen=True)
class Metric(ABC):
    """A metric. `higher`: whether higher is better. Metrics that gather the same data share one name, `gathers`. Roles
    are those of networks (`student`, `best`, `teacher`, or a candidate's name), `target` and `real`."""

    name: str
    higher: bool
    gathers: str
    needs: Needs

    @property
    def does(self) -> str:
        """What it measures, in one sentence for `recipes methods`. An empty one is replaced by the module's."""
        return ""

    @abstractmethod
    def offered(self, given: Given) -> bool:
        """Whether it is computed, or reported as missing, if the user names no metrics."""

    @abstractmethod
    def reads(self, role: str) -> bool:
        """Whether it gathers data from this role's images."""

    def scores(self, role: str) -> bool:
        """Whether it has a score for this role."""
        return self.reads(role)

    @abstractmethod
    def start(self, tools: Tools) -> Gather:
        """A new collector for one role's images."""

    @abstractmethod
    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        """Scores by name, the metric's own first. Raises InputError if the images give none."""

    @abstractmethod
    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        """How the scores were made, in one sentence. Scores with different protocols must not be compared."""

    def by_class(self, role: str, gathered: Gathered) -> dict[str, float | None]:
        """The score by class, if there are classes."""
        return {}
