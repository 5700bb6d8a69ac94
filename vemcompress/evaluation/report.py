"""A complete evaluation: runs the student, its teacher and the best checkpoint, and computes all possible metrics."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import nn

from vemcompress.data.latent_set import LatentSet
from vemcompress.data.samples import LatentSamples, Samples, default_batch
from vemcompress.data.sets import ImageSet, Singles
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation.choose import Chosen, prepare, side_of
from vemcompress.evaluation.conditions import conditions
from vemcompress.evaluation.gather import Gathered
from vemcompress.evaluation.judge import Judge
from vemcompress.evaluation.metric import Metric, Tools
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.sources import Source
from vemcompress.evaluation.statistics import image_paths
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent

DEFAULT_SIZE, DEFAULT_SAMPLES = 256, 10_000


@dataclass
class Evaluation:
    """The result of an evaluation.

    - `metrics`: scores of the network after `step` steps; `role` is "student" or "teacher".
    - `teacher`: the teacher's own scores against the same ground truth and real images.
    - `best`: the best checkpoint's {"step", "picked_by", "on", "metrics"}.
    - `real`: the scores of the real photos themselves, `miou_real`.
    - `iou`: by role and class, 0..100; None for a class that never appears.
    - `protocol`: how each score was made. `skipped`: why a metric is missing. `unreadable`: why an image is missing.
    - `information_share`: for a run with an add-on, its share of the gradient at the student's image; the median of
      the logged steps.
    - `latents`: how the latent vectors were drawn, {"size", "prior", "seed"}; `images` is their number.
    - `conditions`: what the scores depend on besides the network, from `conditions.conditions`."""

    metrics: dict[str, float]
    teacher: dict[str, float]
    images: int
    real_images: int | None
    features: str
    size: int
    protocol: dict[str, str] = field(default_factory=dict, repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    best: dict | None = None
    step: int | None = None
    role: str = "student"
    real: dict[str, float] = field(default_factory=dict)
    iou: dict[str, dict[str, float | None]] = field(default_factory=dict)
    information_share: float | None = None
    latents: dict | None = None
    conditions: dict = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    student: nn.Module,
    teacher: nn.Module | None,
    images: ImageSet | LatentSet | Sequence[str | os.PathLike],
    *,
    samples: int | None = None,
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
    about: dict | None = None,
    known: Callable[[dict], Evaluation | None] | None = None,
    on_event: Event = silent,
) -> Evaluation:
    """Score a student on test inputs, together with its teacher and its `best` checkpoint.

    `images` are files, which are resized to `size` x `size` (256 by default), or an image set, which keeps its size.
    `real` is a folder (or files) of real images, or an .npz file of their statistics. Without it, the targets of pairs
    or the images of the other domain are used. For networks that take latent vectors, `images` is a LatentSet, which
    may have `real` images of its own. All networks draw `samples` images (10,000 by default) from the same vectors of
    `seed`.

    `metrics` are names of `METRICS`. None computes all that are possible, and writes the reasons for the others to
    `skipped`. `features` with `features_weights` adds distances on a SqueezeNet. `inception` is a file that replaces
    the download. `segmenter` adds mIoU against the label maps from which images were drawn.

    `about` has further conditions of the scores. `known` is called with all conditions before any image is scored; it
    may return a finished evaluation. The generators are moved to `device`. `batch`: None uses `default_batch`. With
    torchrun, each process handles a share of the images. Events: {"event": "eval", "stage": "generate" | "real",
    "done", "total"} and {"event": "eval", "stage": "unreadable", "path", "reason"}.

    Raises UsageError for a metric that is unknown or lacks its input, NetworkError if weights for a named metric cannot
    be downloaded, InputError for unsuitable images, weights or statistics, RecipeError for label maps that do not fit
    the network, NumericalError for NaN or Inf.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"batch {batch}: must be at least 1; give another --batch.")
    if samples is not None and (samples < 1 or not isinstance(images, LatentSet)):
        raise UsageError("samples must be at least 1, and only generators from latent vectors use them.")
    device, images = torch.device(device), _image_set(images, size)
    size = side_of(images)
    chosen, tools = distributed.writer_first(
        lambda: prepare(
            metrics, images, teacher, real, features, features_weights, inception, segmenter, device, seed, on_event
        )
    )
    _warn_of_misfit(tools, real, on_event)
    count = (samples or DEFAULT_SAMPLES) if isinstance(images, LatentSet) else None
    under = distributed.from_writer(lambda: conditions(images, chosen, tools, count, about or {}))
    if known is not None and (earlier := distributed.from_writer(lambda: known(under))) is not None:
        return earlier
    given = {"student": student, "best": best, "teacher": teacher}
    networks = {role: network for role, network in given.items() if network is not None}

    def ready() -> Samples | LatentSamples:
        if isinstance(images, LatentSet):
            _check_takes(images, networks)
            return LatentSamples(images, count, seed)
        _check_size(images.settings.size, size, chosen.metrics, *networks.values())
        return _samples(images, networks, truths=tools.meter is not None)

    fed = distributed.together(ready)
    networks = {role: network.to(device) for role, network in networks.items()}
    source = Source(fed, tools.real, batch or default_batch(device, size), device, on_event)
    gathered = Judge(chosen.metrics, tools, source).gather(networks)
    result = distributed.from_writer(lambda: _reported(chosen, tools, gathered, source.unreadable, list(networks)))
    result.conditions = under
    if isinstance(images, LatentSet):
        result.latents = {"size": images.takes.size, "prior": images.takes.prior, "seed": seed}
    return result


def _reported(
    chosen: Chosen, tools: Tools, gathered: Gathered, unreadable: dict[str, str], networks: Sequence[str]
) -> Evaluation:
    """All scores, from the data of all ranks."""
    result = Evaluation({}, {}, gathered.images, gathered.real, ", ".join(tools.extractors) or "none", tools.size)
    result.unreadable = unreadable
    columns = {"student": result.metrics, "teacher": result.teacher, "target": result.real}
    if "best" in networks:
        columns["best"] = {}
        result.best = {"metrics": columns["best"]}
    for metric in list(chosen.metrics):
        roles = [role for role in (*networks, *(() if tools.scores else ("target",))) if metric.scores(role)]
        try:
            found = {role: metric.figures(role, gathered, tools) for role in roles}
        except InputError as error:  # too few images, or no labelled pixel
            chosen.skip([metric], error)
            continue
        for role, values in found.items():
            columns[role].update(values)
            if parts := metric.by_class(role, gathered):
                result.iou["real" if role == "target" else role] = parts
        result.protocol |= dict.fromkeys(found["student"], metric.protocol(gathered, tools))
    result.skipped = chosen.skipped
    return result


def _image_set(images: ImageSet | LatentSet | Sequence[str | os.PathLike], size: int | None) -> ImageSet | LatentSet:
    if isinstance(images, LatentSet):
        if size not in (None, images.takes.image):
            raise UsageError(f"size {size}: this network draws images of {images.takes.image} px; omit the size.")
        return images
    if not isinstance(images, ImageSet):
        images = ImageSet(DataSettings(size=DEFAULT_SIZE), Singles(tuple(image_paths(images)), ()))
    return images if size is None else replace(images, settings=images.settings.model_copy(update={"size": size}))


def _warn_of_misfit(tools: Tools, real, on_event: Event) -> None:
    """Warn if the statistics were made from images of another size, or with another crop."""
    known, size, crop = tools.real.statistics, tools.size, tools.crop
    if known is not None and known.size != size:
        other = f"{known.size} px" if known.size else "their own size"
        message = f"the statistics of {real} were made at {other}, the images here are {size} px; use stats --size "
        on_event({"event": "warning", "message": f"{message}{size}."})
    # Images from latent vectors have no crop; only a run knows the crop of the images that it was trained on.
    if known is not None and known.crop != crop and not (tools.latents and crop is None):
        other = "whole images" if known.crop is None else f"images with crop {known.crop}"
        message = (
            f"the statistics of {real} were made of {other}, and data.crop is {crop or 'not set'} here; make them "
        )
        on_event({"event": "warning", "message": message + (f"with stats --crop {crop}." if crop else "without it.")})


def _check_size(size: int, side: int, metrics: Sequence[Metric], *models: nn.Module) -> None:
    """Raises UsageError if a generator cannot take inputs of this `size`, or a metric images of this `side`."""
    for model in models:
        if (only := getattr(model, "only_size", None)) not in (None, size):
            raise UsageError(f"images of {size} px do not go through this {type(model).__name__}; give --size {only}.")
        multiple, least = getattr(model, "multiple", 1), getattr(model, "min_size", 1)
        if size < max(least, 1) or size % multiple:
            raise UsageError(
                f"images of {size} px do not go through this {type(model).__name__}; give a size of at least "
                f"{least} px that {multiple} divides."
            )
    if metric := next((metric for metric in metrics if side < metric.needs.size), None):
        raise UsageError(f"{metric.name} needs images of at least {metric.needs.size} px, not {side}; raise the size.")


def _check_takes(images: LatentSet, networks: dict[str, nn.Module]) -> None:
    """Raises InputError if a network takes other vectors than the others, or gives images of another size."""
    for role, network in networks.items():
        takes = getattr(network, "takes", images.takes)
        if takes != images.takes:
            found, wanted = (
                f"{of.size} latent numbers ({of.prior}) and draws {of.image} px" if of.kind == "latent" else "images"
                for of in (takes, images.takes)
            )
            raise InputError(f"the {role} takes {found}, and not {wanted}; evaluate a student with its own teacher.")


def _samples(images: ImageSet, networks: dict[str, nn.Module], truths: bool) -> Samples:
    """The inputs for all networks, with the networks' number of channels or, if a network does not state it, that of
    the images. Raises InputError if networks take different channels, and the errors of `Samples`."""
    channels = {}
    for role, network in networks.items():
        told, natural = getattr(network, "config", None) or network, images.channels()
        channels[role] = getattr(told, "in_channels", natural[0]), getattr(told, "out_channels", natural[1])
    (first, expected), *others = channels.items()
    for role, found in others:
        if found != expected:
            raise InputError(
                f"the {first} takes {expected[0]} and gives {expected[1]} channels, the {role} {found[0]} and "
                f"{found[1]}; evaluate a student with its own teacher."
            )
    return Samples(images, expected, truths=truths)
