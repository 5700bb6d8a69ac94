"""The judge: scores one or many networks on the same images, for `eval`, for the best checkpoint and for searches."""

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

# Metrics for train.best_by by their names in recipes, and the messages for missing inputs.
PICKED_BY = ("ssim_teacher", "l1_target", "frechet", "fid", "miou")
_WORDS = {
    "pictures": "pictures, but these networks output class scores; use miou",
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
    """Scores networks on the images of one source.

    `judge(network)` returns scores by metric. `judge({name: network, ...})` scores several networks in one pass, and
    returns their scores by name. Networks must be on the source's device. They run in evaluation mode, and their own
    modes are restored. With several ranks, each processes a share of the images, and all get the same scores. Raises
    NumericalError for NaN or Inf. `on` names the images in the scores.
    """

    def __init__(self, metrics: Sequence[Metric], tools: Tools, source: Source, on: str = ""):
        self.metrics, self.tools, self.source, self.on = list(metrics), tools, source, on
        self._known: Gathered | None = None

    def settle(self) -> None:
        """Gather the real images now, once instead of in every pass. Raises InputError if there are too few."""
        source, self._known = self.source, self._gathered("real")
        if self._known:
            images = source.real_images() if source.real.paths else source.inputs()
            if not sweep(images, {}, self._known, source.device):
                by = next(metric.name for metric in self.metrics if metric.needs.real)
                raise InputError(f"none of the real images to pick the best by '{by}' can be read; give other images.")
            self._known.merge()
            distributed.by_writer(lambda: [gather.settle() for gather in self._known.values()])

    def gather(self, networks: Mapping[str, nn.Module]) -> Gathered:
        """Make one pass, and gather each metric's data from the images of all networks, the targets and the real
        images."""
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
    """A judge for generators with these channels on `device`. It uses all `images`, at their full squares, or latent
    vectors of the set: at least as many as `least` says and, if they are compared with real images, as there are of
    those.

    Everything that does not change is computed here once and kept on the CPU. `names` may contain:

    - "ssim_teacher": against a frozen `teacher`;
    - "l1_target": against the ground truth, in [0, 1];
    - "fid": with Inception's weights in the file `inception`, or downloaded;
    - "frechet": the same distance on `features`; of a FeatureNetwork, the deepest map averaged over its places;
    - "miou": by `segmenter`, in 0..100.

    Real images are the targets of pairs, those of the other domain, or those beside latent vectors. Raises RecipeError
    if the data or the recipe does not allow the metric, InputError if no image can be read, NetworkError.
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
    """A function that scores a generator by one metric. Arguments and errors are those of `judge_by`."""
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
    """The metric of this name; nothing is computed yet. `segmenter` and `teacher`: any value but None means that there
    is one. Raises RecipeError if the data or the recipe does not allow the metric."""
    if isinstance(features, FeatureNetwork):
        features = Deepest(features)
    given = given_with(images, real_side(images).kind, features and features.name, teacher, segmenter)
    count = len(images.paths) or (images.least if given.latent else 0)
    return _metric(by, features, replace(given, images=count, size=side_of(images)))


def _metric(by: str, features: Extractor | None, given: Given) -> Metric:
    """The metric of this name. Raises RecipeError if its inputs are missing."""
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
