"""What an evaluation checks and loads before any image is read, so that a typing error costs no minute."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vemcompress.errors import InputError, NetworkError, OutputError, UsageError
from vemcompress.evaluation.features import INCEPTION, Extractor, load_extractor, squeezenet_name
from vemcompress.evaluation.fidelity import WINDOW
from vemcompress.evaluation.frechet import Statistics
from vemcompress.evaluation.plan import Given, Plan, plan
from vemcompress.evaluation.statistics import check_fit, image_paths, load_statistics


@dataclass(frozen=True)
class Real:
    """The real side: the paths of images, or the statistics of an .npz."""

    paths: tuple[Path, ...] = ()
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Setup:
    """A plan that can be carried out: with its extractors, on the device, and its real side."""

    plan: Plan
    extractors: dict[str, Extractor]
    real: Real


def prepare(metrics, teacher, real, features, features_weights, inception, device) -> Setup:
    """Arguments as `evaluate`'s, in which see what is raised; cheap checks come first."""
    if features is not None:
        features = squeezenet_name(features, features_weights)
    is_npz = isinstance(real, str | os.PathLike) and Path(real).suffix.lower() == ".npz"
    kind = None if real is None else "statistics" if is_npz else "images"
    chosen = plan(metrics, Given(teacher is not None, kind, features))
    if is_npz:
        side = Real(statistics=load_statistics(real))
    else:
        side = Real() if real is None else Real(tuple(image_paths(real)))
    chosen, extractors = _load(chosen, {INCEPTION: inception, features: features_weights}, device)
    if side.statistics is not None:
        chosen = _fitting(chosen, side.statistics, extractors, real)
        extractors = {m.extractor: extractors[m.extractor] for m in chosen.sets}
    return Setup(chosen, extractors, side)


def check_size(size: int, metrics: tuple[str, ...], *models: nn.Module | None) -> None:
    """Raises UsageError for a size that a generator or SSIM cannot take."""
    for model in models:
        multiple, least = getattr(model, "multiple", 1), getattr(model, "min_size", 1)
        if size < max(least, 1) or size % multiple:
            raise UsageError(
                f"images of {size} px do not go through this {type(model).__name__}; give a size of at least "
                f"{least} px that {multiple} divides."
            )
    if "ssim_teacher" in metrics and size < WINDOW:
        raise UsageError(f"ssim_teacher cannot be taken at {size} px; give a size of at least {WINDOW} px.")


def _load(chosen: Plan, weights: dict, device: torch.device | str) -> tuple[Plan, dict[str, Extractor]]:
    """The extractors of a plan; what cannot be had is an error where it was asked for, else its metrics are skipped."""
    extractors, reasons = {}, {}
    for name in dict.fromkeys(m.extractor for m in chosen.sets):
        try:
            extractors[name] = load_extractor(name, weights.get(name)).to(device)
        except (NetworkError, OutputError) as error:
            if chosen.asked:
                raise
            reasons[name] = str(error)
    skipped = {m.name: reasons[m.extractor] for m in chosen.sets if m.extractor in reasons}
    return _without(chosen, skipped), extractors


def _fitting(chosen: Plan, statistics: Statistics, extractors: dict[str, Extractor], path) -> Plan:
    """Leave out the metrics whose features are not those of the statistics; an error where none fits them."""
    skipped, last = {}, None
    for metric in chosen.sets:
        try:
            if metric.against == "real":
                check_fit(statistics, extractors[metric.extractor], path)
        except InputError as error:
            if chosen.asked:
                raise
            skipped[metric.name], last = str(error), error
    if last is not None and len(skipped) == len(chosen.sets):
        raise last
    return _without(chosen, skipped)


def _without(chosen: Plan, skipped: dict[str, str]) -> Plan:
    sets = tuple(m for m in chosen.sets if m.name not in skipped)
    return replace(chosen, sets=sets, skipped={**chosen.skipped, **skipped})
