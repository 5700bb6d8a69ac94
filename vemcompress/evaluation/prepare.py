"""What an evaluation checks and loads before any image is read, so that a typing error costs no minute."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vemcompress.data.pairs import Unpaired
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError, NetworkError, OutputError, UsageError
from vemcompress.evaluation.features import INCEPTION, Extractor, load_extractor, squeezenet_name
from vemcompress.evaluation.fidelity import WINDOW
from vemcompress.evaluation.frechet import Statistics
from vemcompress.evaluation.inputs import Inputs, channels_of
from vemcompress.evaluation.miou import Miou
from vemcompress.evaluation.plan import Given, Plan, plan
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.statistics import check_fit, image_paths, load_statistics
from vemcompress.evaluation.truths import lacks_truths, meter


@dataclass(frozen=True)
class Real:
    """The real side: the paths of images, the statistics of an .npz, or the `targets` of the pairs that are run
    through. `what` names it in a sentence."""

    paths: tuple[Path, ...] = ()
    statistics: Statistics | None = None
    targets: bool = False
    what: str = "real images"


@dataclass(frozen=True)
class Setup:
    """A plan that can be carried out: with its extractors, on the device, its real side, and meters of mIoU."""

    plan: Plan
    extractors: dict[str, Extractor]
    real: Real
    meter: Callable[[], Miou] | None = None

    @property
    def against_real(self) -> list[Extractor]:
        """The extractors that real images must go through."""
        needed = {m.extractor for m in self.plan.sets if m.against == "real"}
        return [extractor for name, extractor in self.extractors.items() if name in needed]


def prepare(
    metrics, images: ImageSet, teacher, real, features, features_weights, inception, segmenter: Segmenter | None, device
) -> Setup:
    """Arguments as `evaluate`'s, in which see what is raised; cheap checks come first."""
    if features is not None:
        features = squeezenet_name(features, features_weights)
    is_npz = isinstance(real, str | os.PathLike) and Path(real).suffix.lower() == ".npz"
    side = Real() if is_npz else _real_side(real, images)
    kind = "statistics" if is_npz else "images" if side.paths or side.targets else None
    no_truths = lacks_truths(images)
    found = Given(teacher is not None, kind, features, images.pairs is not None, segmenter is not None, no_truths)
    chosen = plan(metrics, found)
    if is_npz:
        side = Real(statistics=load_statistics(real))
    if chosen.segmented:
        meter(segmenter, images)  # a segmenter of other classes is refused at once
    chosen, extractors = _load(chosen, {INCEPTION: inception, features: features_weights}, device)
    if side.statistics is not None:
        chosen = _fitting(chosen, side.statistics, extractors, real)
        extractors = {m.extractor: extractors[m.extractor] for m in chosen.sets}
    return Setup(chosen, extractors, side, (lambda: meter(segmenter, images)) if chosen.segmented else None)


def _real_side(real, images: ImageSet) -> Real:
    """What the user gave; else the other sides of pairs, or the other domain's images."""
    if real is not None:
        return Real(tuple(image_paths(real)))
    part = ", ".join(dict.fromkeys(images.found.used))
    if images.pairs is not None:
        return Real(targets=True, what=f"ground-truth images of the same pairs ({part})")
    if isinstance(images.found, Unpaired):
        return Real(images.found.targets, what=f"images of the other domain ({part})")
    return Real()


def inputs_for(images: ImageSet, networks: dict[str, nn.Module], truths: bool) -> Inputs:
    """What all of the networks are fed with. Raises InputError where they take different channels, and as `Inputs`."""
    channels = {role: channels_of(network, images) for role, network in networks.items()}
    (first, expected), *others = channels.items()
    for role, found in others:
        if found != expected:
            raise InputError(
                f"the {first} takes {expected[0]} and gives {expected[1]} channels, the {role} {found[0]} and "
                f"{found[1]}; evaluate a student with its own teacher."
            )
    return Inputs(images, expected, truths=truths)


def check_size(size: int, metrics: tuple[str, ...], *models: nn.Module) -> None:
    """Raises UsageError for a size that a generator or SSIM cannot take."""
    for model in models:
        multiple, least = getattr(model, "multiple", 1), getattr(model, "min_size", 1)
        if size < max(least, 1) or size % multiple:
            raise UsageError(
                f"images of {size} px do not go through this {type(model).__name__}; give a size of at least "
                f"{least} px that {multiple} divides."
            )
    if size < WINDOW and (name := next((m for m in metrics if m.startswith("ssim")), None)):
        raise UsageError(f"{name} cannot be taken at {size} px; give a size of at least {WINDOW} px.")


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
