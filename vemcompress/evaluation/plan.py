"""Which metrics there are, and which of them an evaluation can compute from what it was given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vemcompress.errors import UsageError
from vemcompress.evaluation.features import INCEPTION, SQUEEZENETS

FIDELITY = ("ssim_teacher", "psnr_teacher", "l1_teacher", "ssim_target", "psnr_target", "l1_target")
SEGMENTED = ("miou", "pixel_accuracy")


@dataclass(frozen=True)
class SetMetric:
    """A distance between the student's images and others: `frechet` or `kernel`, to `real` or `teacher`'s images."""

    name: str
    kind: Literal["frechet", "kernel"]
    extractor: str
    against: Literal["real", "teacher"]


def _set_metrics(extractor: str) -> tuple[SetMetric, ...]:
    """Only the Inception's are called FID and KID."""
    names = ("fid", "kid") if extractor == INCEPTION else (f"frechet_{extractor}", f"mmd_{extractor}")
    kinds = tuple(zip(names, ("frechet", "kernel"), strict=True))
    return (
        *(SetMetric(name, kind, extractor, "real") for name, kind in kinds),
        *(SetMetric(f"{name}_to_teacher", kind, extractor, "teacher") for name, kind in kinds),
    )


SET_METRICS = {m.name: m for extractor in (INCEPTION, *SQUEEZENETS) for m in _set_metrics(extractor)}
METRICS = (*FIDELITY, *SEGMENTED, *SET_METRICS)


@dataclass(frozen=True)
class Given:
    """What an evaluation has: a teacher, real images or only their statistics, a feature network beside Inception,
    the ground truth of each image. `no_truths`: what label maps lack, None where they are there."""

    teacher: bool
    real: Literal["images", "statistics"] | None
    features: str | None
    targets: bool = False
    segmenter: bool = False
    no_truths: str | None = "maps of class numbers"


@dataclass(frozen=True)
class Plan:
    """`fidelity` and `segmented` names and `sets` to compute, what is `skipped` and why, and whether the user `asked`
    by name."""

    fidelity: tuple[str, ...]
    segmented: tuple[str, ...]
    sets: tuple[SetMetric, ...]
    skipped: dict[str, str]
    asked: bool


def plan(metrics: Sequence[str] | None, given: Given) -> Plan:
    """Choose the metrics; None means all that can be had, and distances to the teacher only where nothing is real.

    Raises UsageError for an unknown name, for one asked for that lacks its input, and where nothing is left.
    """
    unknown = [m for m in metrics or () if m not in METRICS]
    if unknown:
        raise UsageError(f"metric {unknown[0]!r} is not known; the known ones are {', '.join(METRICS)}.")
    names = list(dict.fromkeys(metrics)) if metrics else _default(given)
    skipped = {}
    for name in names:
        if reason := _lacks(name, given):
            if metrics:
                raise UsageError(f"metric {name} needs {reason}.")
            skipped[name] = f"needs {reason}"
    left = [n for n in names if n not in skipped]
    if not left:
        raise UsageError("there is nothing to compare the images with; give a teacher, or real images with --real.")
    fidelity, segmented = (tuple(n for n in known if n in left) for known in (FIDELITY, SEGMENTED))
    sets = tuple(SET_METRICS[n] for n in left if n in SET_METRICS)
    return Plan(fidelity, segmented, sets, skipped, bool(metrics))


def _default(given: Given) -> list[str]:
    against = "real" if given.real else "teacher"
    extractors = (INCEPTION, given.features)
    names = [n for n in FIDELITY if n.endswith("_teacher") or given.targets]
    if given.segmenter or given.no_truths is None:  # else nobody thinks of segmentation
        names += SEGMENTED if given.segmenter and given.no_truths is None else SEGMENTED[:1]
    return names + [m.name for m in SET_METRICS.values() if m.against == against and m.extractor in extractors]


def _lacks(name: str, given: Given) -> str | None:
    """What a metric needs and was not given, as the rest of the sentence "needs ..."."""
    metric = SET_METRICS.get(name)
    if name in SEGMENTED:
        return given.no_truths if given.segmenter else "a segmentation network; give its file with --segmenter"
    if name.endswith("_target"):
        return None if given.targets else "the ground truth of each image; set data.kind to paired or labels"
    if metric is None or metric.against == "teacher":
        if not given.teacher:
            return "the teacher; give it with --teacher"
    elif given.real is None:
        return "real images; give them with --real"
    elif metric.kind == "kernel" and given.real == "statistics":
        return "real images and not only their statistics; give their folder with --real"
    if metric is not None and metric.extractor not in (INCEPTION, given.features):
        return f"its features; give --features {metric.extractor} --features-weights PATH"
    return None
