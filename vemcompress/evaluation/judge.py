"""The judge of networks: figures of one or many over the same images, for `eval`, the best checkpoint and searches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from vemcompress.data.latent_set import VECTORS, LatentSet
from vemcompress.data.samples import LatentSamples, Samples
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError, RecipeError
from vemcompress.evaluation.choose import METRICS, Chosen, equip, given_with, real_side, side_of
from vemcompress.evaluation.distances import Frechet, distances
from vemcompress.evaluation.extractors import INCEPTION, Deepest, Extractor
from vemcompress.evaluation.gather import Gathered, sweep
from vemcompress.evaluation.metric import NOT_MADE, Given, Metric, Tools, lacking
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.sources import Kept, Source
from vemcompress.networks.features import FeatureNetwork
from vemcompress.runs.best import Picker, Score
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent

BATCH = 8

# What a recipe calls a metric that checkpoints are picked by, and what it says where that cannot be had.
PICKED_BY = ("ssim_teacher", "l1_target", "frechet", "fid", "miou")
_WORDS = {
    "pictures": "pictures, and these networks give scores of classes; take miou",
    "teacher": "a teacher that does not learn",
    "size": "images of at least {size} px; raise data.size",
    "targets": "pairs; set data.kind to paired or labels",
    "real": "real images of the target's kind; set data.kind to paired, labels or unpaired",
    "images": "at least {images} images; raise data.held_out",
    "features": "features; set train.features",
    "segmenter": "a segmentation network; give its file with train.segmenter",
}
_LATENT_WORDS = {"targets": "a ground truth, which latent vectors have none of", "real": "real images; give --data DIR"}


class Judge:
    """Figures of networks over the images of one source.

    `judge(network)` gives its scores by metric, `judge({name: network, ...})` those of several, in one pass, by name.
    Networks are on the source's device; they run in evaluation mode and get their modes back. Among several ranks
    each takes a share of the images, and all get the same scores. Raises NumericalError for NaN or Inf. `on` says in
    scores which images these are.
    """

    def __init__(self, metrics: Sequence[Metric], tools: Tools, source: Source, on: str = ""):
        self.metrics, self.tools, self.source, self.on = list(metrics), tools, source, on
        self._known: Gathered | None = None

    def settle(self) -> None:
        """Gather the real images now, once and not in every pass. Raises InputError where they are too few."""
        source, self._known = self.source, self._gathered("real")
        if self._known:
            images = source.real_images() if source.real.paths else source.inputs()
            if not sweep(images, {}, self._known, source.device):
                by = next(metric.name for metric in self.metrics if metric.needs.real)
                raise InputError(f"none of the real images to pick the best by '{by}' can be read; give other images.")
            self._known.merge()
            distributed.by_writer(lambda: [gather.settle() for gather in self._known.values()])

    def gather(self, networks: Mapping[str, nn.Module]) -> Gathered:
        """One pass: what every metric gathers of every network's images, and of those beside them."""
        source, device, settled = self.source, self.source.device, self._known is not None
        gathered = self._gathered(*networks, *(() if settled else NOT_MADE))
        gathered.images = sweep(source.inputs(), networks, gathered, device)
        source.check(gathered.images)
        if not settled and any(metric.needs.real for metric in self.metrics):
            known = source.real.statistics
            gathered.real = gathered.images if known is None else known.images
            if source.real.paths:
                gathered.real = sweep(source.real_images(), {}, gathered, device)
                source.check(gathered.real, real=True)
        gathered.merge()
        gathered.update(self._known or {})
        return gathered

    def __call__(self, networks: nn.Module | Mapping[str, nn.Module]) -> dict:
        if isinstance(networks, nn.Module):
            return self({"student": networks})["student"]
        gathered = self.gather(networks)

        def scores(role: str) -> dict[str, Score]:
            found = {m: m.figures(role, gathered, self.tools)[m.name] for m in self.metrics if m.scores(role)}
            return {m.name: Score(m.name, value, m.higher, self.on, gathered.images) for m, value in found.items()}

        return distributed.from_writer(lambda: {role: scores(role) for role in networks})

    def _gathered(self, *roles: str) -> Gathered:
        found = Gathered()
        for role in roles:
            for metric in self.metrics:
                if metric.reads(role) and (role, metric.gathers) not in found:
                    found[role, metric.gathers] = metric.start(self.tools)
        return found


def judge_by(
    names: Sequence[str],
    images: ImageSet | LatentSet,
    channels: tuple[int, int],
    device: torch.device | str,
    *,
    features: Extractor | FeatureNetwork | None = None,
    segmenter: Segmenter | None = None,
    inception: str | None = None,
    teacher: nn.Module | None = None,
    on: str = "held_out",
    on_event: Event = silent,
) -> Judge:
    """A judge of generators (on `device`, of these channels) by all `images`, at their full squares, or by a set's own
    latent vectors: `least`, and where real images are compared with at least as many as there are of those.

    What does not change is computed here, once, and kept on the CPU. `names`: "ssim_teacher", against a frozen
    `teacher`; "l1_target", against the ground truth, in [0, 1]; "fid", with Inception's weights in the file
    `inception` or downloaded; "frechet", the same distance on `features`, of a FeatureNetwork the deepest map
    averaged over its places; "miou", by `segmenter`, in 0..100. Real images are the pairs' targets, the other
    domain's, or those beside latent vectors.

    Raises RecipeError where the data or the recipe cannot give it, InputError where no image can be read,
    NetworkError.
    """
    if isinstance(features, FeatureNetwork):
        features = Deepest(features)
    device, real, size = torch.device(device), real_side(images), side_of(images)
    metrics = [check_by(name, images, features=features, segmenter=segmenter, teacher=teacher) for name in names]
    tools = Tools(device, size, real, {features.name: features.to(device)} if features else {}, rows=BATCH)
    tools.scale = getattr(images, "scale", 1)
    distributed.writer_first(lambda: equip(Chosen(metrics, True), tools, images, segmenter, {INCEPTION: inception}))
    if isinstance(images, LatentSet):
        samples, on = LatentSamples(images, _count(images, metrics)), VECTORS
    else:
        samples = Samples(images, channels, truths=tools.meter is not None)
    compared = any(metric.needs.targets for metric in metrics)
    source = Kept(samples, real, BATCH, device, on_event, targets=compared)
    if any(metric.needs.teacher for metric in metrics):
        source.remember("teacher", teacher.to(device))
    judge = Judge(metrics, tools, source, on)
    judge.settle()
    return judge


def _count(images: LatentSet, metrics: Sequence[Metric]) -> int:
    to_real = any(metric.needs.real for metric in metrics)
    return max(images.least, len(images.paths) if to_real else 0)


def scorer(
    by: str, images: ImageSet | LatentSet, channels: tuple[int, int], device: torch.device | str, **options
) -> Picker:
    """A function that scores a generator by one name; arguments and errors are `judge_by`'s."""
    judge = judge_by([by], images, channels, device, **options)
    return lambda network: next(iter(judge(network).values()))


def check_by(
    by: str,
    images: ImageSet | LatentSet,
    *,
    features: Extractor | FeatureNetwork | None = None,
    segmenter=None,
    teacher=None,
) -> Metric:
    """The metric of this name, of which nothing is computed yet. `segmenter` and `teacher`: anything but None says that
    there is one. Raises RecipeError where the data or the recipe cannot give it."""
    if isinstance(features, FeatureNetwork):
        features = Deepest(features)
    given = given_with(images, real_side(images).kind, features and features.name, teacher, segmenter)
    count = len(images.paths) or (images.least if given.latent else 0)
    return _metric(by, features, replace(given, images=count, size=side_of(images)))


def _metric(by: str, features: Extractor | None, given: Given) -> Metric:
    """Raises RecipeError where it cannot be had."""
    if by not in PICKED_BY:
        raise RecipeError(f"train.best_by '{by}' is not known; use one of {', '.join(PICKED_BY)}, auto or none.")
    if by != "frechet":
        metric = METRICS[by]
    elif isinstance(features, Deepest | None):
        metric = Frechet.to("real", by, Deepest.name)
    else:
        metric = distances(features.name)[0]
    if reason := lacking(metric.needs, given, _WORDS | (_LATENT_WORDS if given.latent else {})):
        raise RecipeError(f"train.best_by '{by}' needs {reason}; or choose another best_by.")
    return metric
