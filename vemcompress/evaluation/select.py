"""One figure for a network that is still learning, by which its best checkpoint is picked."""

from collections.abc import Callable

import torch
from torch import nn

from vemcompress.data.pairs import Unpaired
from vemcompress.data.sets import ImageSet
from vemcompress.errors import RecipeError
from vemcompress.evaluation.features import INCEPTION, Extractor, load_extractor
from vemcompress.evaluation.measures import MEASURES, Cached, Given
from vemcompress.evaluation.running import evaluating
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.statistics import OnEvent
from vemcompress.evaluation.truths import lacks_truths
from vemcompress.losses.image import WINDOW
from vemcompress.networks.features import FeatureNetwork
from vemcompress.runs.best import Score
from vemcompress.system import distributed


def scorer(
    by: str,
    images: ImageSet,
    channels: tuple[int, int],
    device: torch.device | str,
    *,
    features: Extractor | FeatureNetwork | None = None,
    segmenter: Segmenter | None = None,
    inception: str | None = None,
    teacher: nn.Module | None = None,
    on: str = "held_out",
    on_event: OnEvent | None = None,
) -> Callable[[nn.Module], Score]:
    """A function that scores a generator (on `device`, of these channels) on all `images`, at their full squares.

    What does not change is computed here, once, and kept on the CPU. `by`: "ssim_teacher", against a frozen
    `teacher`; "l1_target", against the ground truth, in [0, 1]; "fid", with Inception's weights in the file
    `inception` or downloaded; "frechet", the same distance on `features`, of a FeatureNetwork the deepest map
    averaged over its places; "miou", by `segmenter`, in 0..100. Real images are the pairs' targets, or the other
    domain's. Calling it leaves all modules in their modes. Among several ranks each takes a share of the images, and
    all get the same score.

    Raises RecipeError where the data or the recipe cannot give it, InputError where no image can be read,
    NetworkError; the function NumericalError for NaN or Inf.
    """
    if by not in MEASURES:
        raise RecipeError(f"train.best_by '{by}' is not known; use one of {', '.join(MEASURES)}, auto or none.")
    if reason := _lacks(by, images, features, segmenter, teacher):
        raise RecipeError(f"train.best_by '{by}' needs {reason}; or choose another best_by.")
    if by == "fid":
        features = distributed.writer_first(lambda: load_extractor(INCEPTION, inception))
    cached = Cached(images, channels, torch.device(device), on_event or (lambda event: None), truths=by == "miou")
    name, higher, measure = MEASURES[by](Given(cached, features, segmenter, teacher))

    @torch.no_grad()
    def score(network: nn.Module) -> Score:
        with evaluating(network):
            return Score(name, measure(cached.made_by(network)), higher, on, cached.count)

    return score


def _lacks(by: str, images: ImageSet, features, segmenter, teacher) -> str | None:
    """What a score needs and was not given, as the rest of the sentence "needs ..."."""
    match by:
        case "ssim_teacher" if teacher is None:
            return "a teacher that does not learn"
        case "ssim_teacher" if images.settings.size < WINDOW:
            return f"images of at least {WINDOW} px; raise data.size"
        case "l1_target" if images.pairs is None:
            return "pairs; set data.kind to paired or labels"
        case "frechet" | "fid" if images.pairs is None and not isinstance(images.found, Unpaired):
            return "real images of the target's kind; set data.kind to paired, labels or unpaired"
        case "frechet" | "fid" if len(images.paths) < 2:
            return "at least 2 images; raise data.held_out"
        case "frechet" if features is None:
            return "features; set algorithm.features"
        case "miou" if segmenter is None:
            return "a segmentation network; give its file with train.segmenter"
        case "miou":
            return lacks_truths(images)
    return None
