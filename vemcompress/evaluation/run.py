"""An evaluation: every network runs once per image, and every metric that can be had comes out under its own name."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from vemcompress.data.sets import ImageSet, Singles
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import protocol
from vemcompress.evaluation.batches import default_batch
from vemcompress.evaluation.collect import Pass, collect, generate
from vemcompress.evaluation.inputs import Inputs
from vemcompress.evaluation.prepare import Setup, check_size, inputs_for, prepare
from vemcompress.evaluation.scores import Scorer
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.sides import Side
from vemcompress.evaluation.statistics import OnEvent, image_paths
from vemcompress.system import distributed

DEFAULT_SIZE = 256


@dataclass
class Evaluation:
    """What came out. `metrics` are those of the network that was scored, the `role` "student" or "teacher" of its
    run, after `step` steps; `teacher` its teacher's own scores against the same ground truth and real images; `best`
    the best checkpoint's {"step", "picked_by", "on", "metrics"}; `real` what the real photos themselves reach,
    `miou_real`. `iou`: by role and class, 0..100, None for a class that never appears. `protocol` says how each
    figure was made, `skipped` why a metric is missing, `unreadable` why an image is."""

    metrics: dict[str, float]
    teacher: dict[str, float]
    images: int
    real_images: int | None
    features: str
    size: int
    protocol: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    best: dict | None = None
    step: int | None = None
    role: str = "student"
    real: dict[str, float] = field(default_factory=dict)
    iou: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    student: nn.Module,
    teacher: nn.Module | None,
    images: ImageSet | Sequence[str | os.PathLike],
    *,
    best: nn.Module | None = None,
    metrics: Sequence[str] | None = None,
    real: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    features: str | None = None,
    features_weights: str | os.PathLike | None = None,
    inception: str | os.PathLike | None = None,
    segmenter: Segmenter | None = None,
    size: int | None = None,
    batch: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_event: OnEvent | None = None,
) -> Evaluation:
    """Score a student on test inputs, beside its teacher and its `best` checkpoint.

    `images` are files, resized to `size` x `size` (256 by default), or a set of any kind at its own size. `real` is a
    folder (or files) of real images, or an .npz of their statistics; without it they are the targets of pairs, or the
    other domain's images. `metrics` are names of `plan.METRICS`; None computes what can be had, and puts the reason
    for the rest into `skipped`. `features` with `features_weights` adds distances on a SqueezeNet; `inception` is a
    file that replaces the download; `segmenter` gives mIoU against the label maps that images were drawn from. The
    generators are moved to `device`; a `batch` of None is `batches.default_batch`'s. Events: {"event": "eval",
    "stage": "generate" | "real", "done", "total"} and {"event": "eval", "stage": "unreadable", "path", "reason"}.

    Raises UsageError for a metric that is unknown or lacks its input, NetworkError where weights asked for by name
    cannot be had, InputError for images, weights or statistics that do not serve, RecipeError for label maps that do
    not fit the network, NumericalError for NaN or Inf. Processes that torchrun started take a share of the images each.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"a batch of {batch} images cannot be; give at least 1.")
    device, images = torch.device(device), _image_set(images, size)
    size, report = images.settings.size, on_event or (lambda event: None)
    setup = distributed.writer_first(
        lambda: prepare(metrics, images, teacher, real, features, features_weights, inception, segmenter, device)
    )
    _warn_of_size(setup, real, size, report)
    given = {"student": student, "best": best, "teacher": teacher}
    networks = {role: network for role, network in given.items() if network is not None}

    def ready() -> Inputs:
        check_size(size, setup.plan.fidelity, *networks.values())
        return inputs_for(images, networks, truths=bool(setup.plan.segmented))

    inputs = distributed.together(ready)
    networks = {role: network.to(device) for role, network in networks.items()}
    reading = Pass(size, batch or default_batch(device, size), device, report)
    count, sides = generate(networks, inputs, setup, reading)
    needed = setup.against_real
    features_of = {role: side.features for role, side in sides.items()}
    if setup.real.paths and needed:
        features_of["real"] = collect(setup.real.paths, needed, reading).features

    scorer = Scorer(features_of, setup.real.statistics, seed, device)
    return distributed.from_writer(lambda: _scored(setup, sides, scorer, count, size, reading.unreadable, best))


def _scored(
    setup: Setup, sides: dict[str, Side], scorer: Scorer, count: int, size: int, unreadable: dict[str, str], best
) -> Evaluation:
    """Every figure, of what all ranks have collected."""
    result = Evaluation({}, {}, count, None, ", ".join(setup.extractors) or "none", size)
    result.best = None if best is None else {"metrics": {}}
    result.skipped, result.unreadable = dict(setup.plan.skipped), unreadable
    if setup.against_real:
        known = setup.real.statistics
        result.real_images = known.images if known is not None else scorer.count("real")
    _add_fidelity(result, sides)
    _add_segmentation(result, setup, sides)
    _add_distances(result, setup, scorer)
    return result


def _image_set(images: ImageSet | Sequence[str | os.PathLike], size: int | None) -> ImageSet:
    if not isinstance(images, ImageSet):
        paths: list[Path] = image_paths(images)
        images = ImageSet(DataSettings(size=DEFAULT_SIZE), Singles(tuple(paths), ()))
    return images if size is None else ImageSet(images.settings.model_copy(update={"size": size}), images.found)


def _warn_of_size(setup: Setup, real, size: int, report: OnEvent) -> None:
    made_at = setup.real.statistics.size if setup.real.statistics is not None else size
    if made_at != size:
        other = f"{made_at} px" if made_at else "their own size"
        message = (
            f"the statistics of {real} were made at {other}, the images here are {size} px; use stats --size {size}."
        )
        report({"event": "warning", "message": message})


def _store(result: Evaluation, role: str, values: dict[str, float]) -> None:
    columns = {"student": result.metrics, "teacher": result.teacher, "real": result.real}
    (result.best["metrics"] if role == "best" else columns[role]).update(values)


def _add_fidelity(result: Evaluation, sides: dict[str, Side]) -> None:
    for role, side in sides.items():
        values = side.fidelity(result.images)
        _store(result, role, values)
        result.protocol |= {name: protocol.of_fidelity(name, result.images, result.size) for name in values}


def _add_segmentation(result: Evaluation, setup: Setup, sides: dict[str, Side]) -> None:
    """As the papers print them, in 0..100."""
    for role, side in sides.items():
        if side.meter is None:
            continue
        try:
            found = side.meter.result()
        except InputError as error:  # not one labelled pixel
            if setup.plan.asked:
                raise
            result.skipped |= dict.fromkeys(setup.plan.segmented, str(error))
            return
        suffix = "_real" if role == "real" else ""
        _store(result, role, {f"{name}{suffix}": 100 * found[name] for name in setup.plan.segmented})
        result.iou[role] = {name: None if v is None else 100 * v for name, v in found["iou"].items()}
        sentences = {n: protocol.of_segmentation(n, side.meter.protocol, result.size) for n in setup.plan.segmented}
        result.protocol |= sentences


def _add_distances(result: Evaluation, setup: Setup, scorer: Scorer) -> None:
    seen = setup.real.statistics
    real = protocol.real_images(result.real_images, seen.size if seen is not None else result.size, setup.real.what)
    words = {"real": real, "teacher": f"the teacher's outputs for the same {result.images} inputs"}
    for metric in setup.plan.sets:
        try:
            found = scorer.scores(metric)
        except InputError as error:
            if setup.plan.asked:
                raise
            result.skipped[metric.name] = str(error)
            continue
        for role, values in found.items():
            _store(result, role, values)
        extractor = setup.extractors[metric.extractor]
        sentence = protocol.of_set(metric, extractor, result.images, result.size, words[metric.against], scorer.seed)
        result.protocol |= dict.fromkeys(found["student"], sentence)
