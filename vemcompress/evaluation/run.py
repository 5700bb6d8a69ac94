"""An evaluation: every network runs once per image, and every metric that can be had comes out under its own name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import protocol
from vemcompress.evaluation.collect import Pass, collect, generate
from vemcompress.evaluation.prepare import Setup, check_size, prepare
from vemcompress.evaluation.scores import Scorer
from vemcompress.evaluation.statistics import OnEvent, image_paths

DEFAULT_SIZE, DEFAULT_BATCH = 256, 8


@dataclass
class Evaluation:
    """What came out. `metrics` are the student's, `teacher` its teacher's own scores against the same real images;
    `protocol` says how each figure was made, `skipped` why a metric is missing, `unreadable` why an image is."""

    metrics: dict[str, float]
    teacher: dict[str, float]
    images: int
    real_images: int | None
    features: str
    size: int
    protocol: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        names = ("metrics", "teacher", "images", "real_images", "features", "size", "protocol", "skipped", "unreadable")
        return {name: getattr(self, name) for name in names}


def evaluate(
    student: nn.Module,
    teacher: nn.Module | None,
    images: Sequence[str | os.PathLike],
    *,
    metrics: Sequence[str] | None = None,
    real: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    features: str | None = None,
    features_weights: str | os.PathLike | None = None,
    inception: str | os.PathLike | None = None,
    size: int | None = None,
    batch: int = DEFAULT_BATCH,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_event: OnEvent | None = None,
) -> Evaluation:
    """Score a student on test inputs, beside its teacher.

    `images` are files, resized to `size` x `size` (256 by default). `real` is a folder (or files) of real images, or
    an .npz of their statistics. `metrics` are names of `plan.METRICS`; None computes what can be had, and puts the
    reason for the rest into `skipped`. `features` with `features_weights` adds distances on a SqueezeNet;
    `inception` is a file that replaces the download. The generators are moved to `device`. Events: {"event": "eval",
    "stage": "generate" | "real", "done", "total"} and {"event": "eval", "stage": "unreadable", "path", "reason"}.

    Raises UsageError for a metric that is unknown or lacks its input, NetworkError where weights asked for by name
    cannot be had, InputError for images, weights or statistics that do not serve, NumericalError for NaN or Inf.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} images cannot be; give at least 1.")
    device, size = torch.device(device), DEFAULT_SIZE if size is None else size
    setup = prepare(metrics, teacher, real, features, features_weights, inception, device)
    made_at = setup.real.statistics.size if setup.real.statistics is not None else size
    if made_at != size and on_event:
        other = f"{made_at} px" if made_at else "their own size"
        message = (
            f"the statistics of {real} were made at {other}, the images here are {size} px; use stats --size {size}."
        )
        on_event({"event": "warning", "message": message})
    check_size(size, setup.plan.fidelity, *(m for m in (student, teacher) if m is not None))
    reading = Pass(size, batch, device, on_event or (lambda event: None))
    extractors = list(setup.extractors.values())
    models = (m if m is None else m.to(device) for m in (student, teacher))
    out = generate(*models, image_paths(images), extractors, setup.plan.fidelity, reading)
    against_real = {m.extractor for m in setup.plan.sets if m.against == "real"}
    needed = [e for name, e in setup.extractors.items() if name in against_real]
    found = collect(setup.real.paths, needed, reading) if setup.real.paths and needed else None

    result = Evaluation(dict(out.fidelity), {}, out.images, None, ", ".join(setup.extractors) or "none", size)
    result.skipped, result.unreadable = dict(setup.plan.skipped), reading.unreadable
    result.protocol = {name: protocol.of_fidelity(name, out.images, size) for name in out.fidelity}
    if found is not None or (needed and setup.real.statistics is not None):
        result.real_images = found.count if found is not None else setup.real.statistics.images
    _add_distances(result, setup, Scorer(out.student, out.teacher, found, setup.real.statistics, seed, device))
    return result


def _add_distances(result: Evaluation, setup: Setup, scorer: Scorer) -> None:
    seen = setup.real.statistics
    real = protocol.real_images(result.real_images, seen.size if seen is not None else result.size)
    words = {"real": real, "teacher": f"the teacher's outputs for the same {result.images} inputs"}
    for metric in setup.plan.sets:
        try:
            student, teacher = scorer.scores(metric)
        except InputError as error:
            if setup.plan.asked:
                raise
            result.skipped[metric.name] = str(error)
            continue
        result.metrics |= student
        result.teacher |= teacher
        extractor = setup.extractors[metric.extractor]
        sentence = protocol.of_set(metric, extractor, result.images, result.size, words[metric.against], scorer.seed)
        result.protocol |= dict.fromkeys(student, sentence)
