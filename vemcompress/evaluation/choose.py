"""Choice of metrics: the list of all, those that can be computed, and loading what they need before images are read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vemcompress.data.latent_set import LatentSet
from vemcompress.data.pairs import Unpaired
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError, NetworkError, OutputError, UsageError
from vemcompress.evaluation.distances import DISTANCES
from vemcompress.evaluation.enhancement import ENHANCEMENT
from vemcompress.evaluation.extractors import INCEPTION, load_extractor, squeezenet_name
from vemcompress.evaluation.fidelity import FIDELITY
from vemcompress.evaluation.metric import Given, Metric, Real, Tools, lacking
from vemcompress.evaluation.precision import NEIGHBOURS
from vemcompress.evaluation.segmentation import SEGMENTATION, lacks_labels, meters
from vemcompress.evaluation.segmenters import OwnScores
from vemcompress.evaluation.statistics import check_fit, image_paths, load_statistics
from vemcompress.system.events import Event, silent
from vemcompress.system.plugins import Registry
from vemcompress.weights.features import distance_name

_OWN: tuple[Metric, ...] = (*FIDELITY, *ENHANCEMENT, *SEGMENTATION, *DISTANCES, *NEIGHBOURS)
METRICS: Registry[Metric] = Registry("metrics", _OWN, Metric)

VGG = distance_name("vgg16")  # its weights are downloaded

_WORDS = {
    "pictures": "pictures, but these networks output class scores; use miou or pixel_accuracy",
    "segmenter": "a segmentation network; give its file with --segmenter",
    "targets": "the ground truth of each image; set data.kind to paired or labels",
    "teacher": "the teacher; give it with --teacher",
    "real": "real images; give them with --real",
    "real images": "the real images, not only their statistics; give their folder with --real",
    "features": "its features; give --features {features} --features-weights PATH",
}


@dataclass
class Chosen:
    """The `metrics` to compute, the `skipped` ones with reasons, and whether the user `asked` for metrics by name."""

    metrics: list[Metric]
    asked: bool
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, metrics: Sequence[Metric], error: Exception) -> None:
        """Skip these metrics. Raises the error if the user asked for them."""
        if metrics and self.asked:
            raise error
        self.metrics = [metric for metric in self.metrics if metric not in metrics]
        self.skipped |= {metric.name: str(error) for metric in metrics}


def choose(names: Sequence[str] | None, given: Given) -> Chosen:
    """Choose the metrics. `names` None means all that are offered; distances to the teacher, for example, are offered
    only without real images. Metrics on features come last, in the order in which they were asked for. Raises
    UsageError for an unknown name, for a named metric whose input is missing, and if no metric is left."""
    if unknown := [name for name in names or () if name not in METRICS]:
        raise UsageError(f"metric {unknown[0]!r} is not known; choose from {', '.join(METRICS)}.")
    chosen = Chosen([], bool(names))
    for metric in [METRICS[n] for n in dict.fromkeys(names or ())] or _offered(given):
        if reason := lacking(metric.needs, given, _WORDS):
            if names:
                raise UsageError(f"metric {metric.name} needs {reason}.")
            chosen.skipped[metric.name] = f"needs {reason}"
        else:
            chosen.metrics.append(metric)
    if not chosen.metrics:
        raise UsageError("there is nothing to compare the images with; give a teacher, or real images with --real.")
    order = list(METRICS)
    chosen.metrics.sort(key=lambda metric: len(order) if metric.needs.features else order.index(metric.name))
    return chosen


def _offered(given: Given) -> list[Metric]:
    return [m for m in METRICS.values() if m.offered(given) and (m.needs.labels or not given.scores)]


def prepare(
    metrics,
    images: ImageSet | LatentSet,
    teacher,
    real,
    features,
    features_weights,
    inception,
    segmenter,
    device,
    seed,
    on_event,
) -> tuple[Chosen, Tools]:
    """The metrics of an evaluation and their tools. Arguments and errors are those of `evaluate`. Cheap checks come
    first."""
    if features is not None:
        features = squeezenet_name(features, features_weights)
    is_npz = isinstance(real, str | os.PathLike) and Path(real).suffix.lower() == ".npz"
    side = Real() if is_npz else real_side(images, real, on_event)
    given = given_with(images, "statistics" if is_npz else side.kind, features, teacher, segmenter)
    chosen = choose(metrics, given)
    if given.latent:
        _skip_small(chosen, side_of(images))
    elif not chosen.asked:
        _skip_for_size(chosen, side_of(images))
    if is_npz:
        side = Real(statistics=load_statistics(real))
    crop = images.settings.crop if isinstance(images, LatentSet) else images.target_crop
    tools = Tools(device, side_of(images), side, seed=seed, crop=crop, latents=_drawn(images, seed))
    tools.scale, tools.scores = 1 if isinstance(images, LatentSet) else images.scale, images.scores
    weights = {INCEPTION: inception, features: features_weights}
    weights |= {} if features is None else {distance_name(features): features_weights}
    equip(chosen, tools, images, segmenter, weights, real)
    return chosen, tools


def side_of(images: ImageSet | LatentSet) -> int:
    """The side in pixels of the images that networks output for this set."""
    return images.takes.image if isinstance(images, LatentSet) else images.side


def _drawn(images: ImageSet | LatentSet, seed: int) -> str:
    """How the latent vectors of an evaluation are drawn, in words for protocols."""
    if not isinstance(images, LatentSet):
        return ""
    prior = {"normal": "N(0, 1)", "uniform": "uniform in [-1, 1]"}[images.takes.prior]
    return f"latent vectors of {images.takes.size} numbers, {prior}, seed {seed}"


def given_with(images: ImageSet | LatentSet, real, features: str | None, teacher, segmenter) -> Given:
    """The inputs that metrics can use, from these arguments and an image set. Number and size of the images are not
    checked."""
    return Given(
        teacher=teacher is not None,
        targets=images.pairs is not None,
        real=real,
        features=(INCEPTION, VGG, *((features, distance_name(features)) if features else ())),
        segmenter=segmenter is not None or images.scores,
        no_labels=lacks_labels(images),
        latent=isinstance(images, LatentSet),
        enhances=not isinstance(images, LatentSet) and images.pairs is not None and _enhances(images),
        scores=images.scores,
        wide=images.pairs is not None and images.pairs.wide,
    )


def _enhances(images: ImageSet) -> bool:
    return images.scale > 1 or images.pairs.degraded is not None


def real_side(images: ImageSet | LatentSet, real=None, on_event: Event = silent) -> Real:
    """The real images: those that the user gave; else the targets of pairs, the images of the other domain, or those
    beside latent vectors."""
    if real is not None:
        return Real(tuple(image_paths(real, recursive=images.settings.recursive, on_event=on_event)))
    if isinstance(images, LatentSet):
        return Real(images.paths, what="real images" + (f" ({_parts(images.real)})" if images.real else ""))
    part = _parts(images)
    if images.scores:
        return Real()
    if images.pairs is not None:
        return Real(targets=True, what=f"ground-truth images of the same pairs ({part})")
    if isinstance(images.found, Unpaired):
        return Real(tuple(images.found.targets), what=f"images of the other domain ({part})")
    return Real()


def _parts(images: ImageSet) -> str:
    return ", ".join(dict.fromkeys(images.found.used))


def _skip_small(chosen: Chosen, size: int) -> None:
    """Skip metrics that need larger images: the side is fixed by the network. Raises UsageError if the user asked for
    such a metric, or if no metric is left."""
    for metric in _too_large(chosen, size):
        told = f"{metric.name} needs images of at least {metric.needs.size} px, and this model draws {size} px"
        chosen.skip([metric], UsageError(f"{told}; choose other metrics."))
    if not chosen.metrics:
        raise UsageError(f"no metric can be computed on images of {size} px; give a teacher to compare them with.")


def _skip_for_size(chosen: Chosen, size: int) -> None:
    """Skip metrics that need larger images than those of the size that was chosen, if others are left."""
    large = _too_large(chosen, size)
    for metric in large if len(large) < len(chosen.metrics) else ():
        reason = f"needs images of at least {metric.needs.size} px, and these are {size} px; raise the size"
        chosen.skip([metric], UsageError(reason))


def _too_large(chosen: Chosen, size: int) -> list[Metric]:
    """The metrics that need larger images than those of this size."""
    return [metric for metric in chosen.metrics if size < metric.needs.size]


def equip(chosen: Chosen, tools: Tools, images: ImageSet | LatentSet, segmenter, weights: dict, real=None) -> None:
    """Load the segmentation meters and the extractors of the metrics, each once, from `weights` by name.

    If an extractor cannot be loaded, its metrics are skipped. This is an error if the user asked for them, or if no
    metric is left. The same holds for metrics whose features differ from those of the `real` statistics."""
    if any(metric.needs.labels for metric in chosen.metrics):
        tools.meter = meters(OwnScores(images.pairs.labels.classes) if images.scores else segmenter, images)
    misfit = lost = None
    for name in dict.fromkeys(metric.needs.features for metric in chosen.metrics if metric.needs.features):
        metrics = [metric for metric in chosen.metrics if metric.needs.features == name]
        try:
            extractor = tools.extractors.pop(name, None) or load_extractor(name, weights.get(name)).to(tools.device)
        except (NetworkError, OutputError) as error:
            chosen.skip(metrics, error)
            lost = error
            continue
        to_real = [metric for metric in metrics if metric.needs.real and tools.real.statistics is not None]
        try:
            if to_real:
                check_fit(tools.real.statistics, extractor, real)
        except InputError as error:
            chosen.skip(to_real, error)
            misfit = error
        if any(metric in chosen.metrics for metric in metrics):
            tools.extractors[name] = extractor
    if misfit and not tools.extractors:
        raise misfit
    if lost and not chosen.metrics:
        raise lost
