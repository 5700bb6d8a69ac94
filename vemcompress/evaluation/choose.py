"""Which metrics there are, which of them can be had, and what they need, loaded before any image is read."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vemcompress.data.pairs import Unpaired
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError, NetworkError, OutputError, UsageError
from vemcompress.evaluation.distances import DISTANCES
from vemcompress.evaluation.extractors import INCEPTION, Extractor, load_extractor, squeezenet_name
from vemcompress.evaluation.fidelity import FIDELITY
from vemcompress.evaluation.metric import Given, Metric, Real, Tools, lacking
from vemcompress.evaluation.segmentation import SEGMENTATION, lacks_labels, meter
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.statistics import check_fit, image_paths, load_statistics

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*FIDELITY, *SEGMENTATION, *DISTANCES)}

_WORDS = {
    "segmenter": "a segmentation network; give its file with --segmenter",
    "targets": "the ground truth of each image; set data.kind to paired or labels",
    "teacher": "the teacher; give it with --teacher",
    "real": "real images; give them with --real",
    "real images": "real images and not only their statistics; give their folder with --real",
    "features": "its features; give --features {features} --features-weights PATH",
}


@dataclass
class Chosen:
    """The `metrics` to compute, those that are `skipped` and why, and whether the user `asked` by name."""

    metrics: list[Metric]
    asked: bool
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, metric: Metric, error: Exception) -> None:
        """Raises the error where the metric was asked for."""
        if self.asked:
            raise error
        self.metrics.remove(metric)
        self.skipped[metric.name] = str(error)


def choose(names: Sequence[str] | None, given: Given) -> Chosen:
    """Choose the metrics; None means all that are offered, such as distances to the teacher where nothing is real.

    Raises UsageError for an unknown name, for one asked for that lacks its input, and where nothing is left.
    """
    if unknown := [name for name in names or () if name not in METRICS]:
        raise UsageError(f"metric {unknown[0]!r} is not known; the known ones are {', '.join(METRICS)}.")
    chosen = Chosen([], bool(names))
    wanted = dict.fromkeys(names or ())
    for metric in [METRICS[name] for name in wanted] or [m for m in METRICS.values() if m.offered(given)]:
        if reason := lacking(metric.needs, given, _WORDS):
            if names:
                raise UsageError(f"metric {metric.name} needs {reason}.")
            chosen.skipped[metric.name] = f"needs {reason}"
        else:
            chosen.metrics.append(metric)
    if not chosen.metrics:
        raise UsageError("there is nothing to compare the images with; give a teacher, or real images with --real.")
    return chosen


def prepare(
    metrics: Sequence[str] | None,
    images: ImageSet,
    teacher,
    real,
    features: str | None,
    features_weights,
    inception,
    segmenter: Segmenter | None,
    device: torch.device,
    seed: int = 0,
) -> tuple[Chosen, Tools]:
    """The metrics of an evaluation and what they work with. Arguments and errors are `evaluate`'s; cheap checks come
    first."""
    if features is not None:
        features = squeezenet_name(features, features_weights)
    is_npz = isinstance(real, str | os.PathLike) and Path(real).suffix.lower() == ".npz"
    side = Real() if is_npz else real_side(images, real)
    chosen = choose(
        metrics,
        Given(
            teacher=teacher is not None,
            targets=images.pairs is not None,
            real="statistics" if is_npz else side.kind,
            features=(INCEPTION, features) if features else (INCEPTION,),
            segmenter=segmenter is not None,
            no_labels=lacks_labels(images),
        ),
    )
    if is_npz:
        side = Real(statistics=load_statistics(real))
    tools = Tools(device, images.settings.size, side, seed=seed)
    if any(metric.needs.labels for metric in chosen.metrics):
        tools.meter = meter_of(segmenter, images)
    _load_extractors(chosen, tools, {INCEPTION: inception, features: features_weights})
    if side.statistics is not None:
        _check_statistics(chosen, tools, real)
    return chosen, tools


def real_side(images: ImageSet, real=None) -> Real:
    """What the user gave; else the other sides of pairs, or the other domain's images."""
    if real is not None:
        return Real(tuple(image_paths(real)))
    part = ", ".join(dict.fromkeys(images.found.used))
    if images.pairs is not None:
        return Real(targets=True, what=f"ground-truth images of the same pairs ({part})")
    if isinstance(images.found, Unpaired):
        return Real(tuple(images.found.targets), what=f"images of the other domain ({part})")
    return Real()


def meter_of(segmenter: Segmenter, images: ImageSet):
    """What makes a new `Miou`. Raises InputError for a segmenter of other classes, at once."""
    meter(segmenter, images)
    return lambda: meter(segmenter, images)


def _load_extractors(chosen: Chosen, tools: Tools, weights: dict) -> None:
    """What cannot be had is an error where it was asked for, else its metrics are skipped."""
    found: dict[str, Extractor | Exception] = {}
    for metric in [metric for metric in chosen.metrics if metric.needs.features]:
        name = metric.needs.features
        if name not in found:
            try:
                found[name] = load_extractor(name, weights.get(name)).to(tools.device)
            except (NetworkError, OutputError) as error:
                found[name] = error
        if isinstance(found[name], Exception):
            chosen.skip(metric, found[name])
    _keep(chosen.metrics, tools, found)


def _check_statistics(chosen: Chosen, tools: Tools, path) -> None:
    """Leave out the metrics whose features are not those of the statistics; an error where none fits them."""
    distances, last = [metric for metric in chosen.metrics if metric.needs.features], None
    left = len(distances)
    for metric in distances:
        try:
            if metric.needs.real:
                check_fit(tools.real.statistics, tools.extractors[metric.needs.features], path)
        except InputError as error:
            chosen.skip(metric, error)
            left, last = left - 1, error
    if last is not None and not left:
        raise last
    _keep(chosen.metrics, tools, tools.extractors)


def _keep(metrics: Iterable[Metric], tools: Tools, found: dict) -> None:
    """The extractors of the metrics that are left."""
    tools.extractors = {m.needs.features: found[m.needs.features] for m in metrics if m.needs.features}
