"""mIoU and pixel accuracy: a segmentation network's classes of generated images, compared with the label maps.

All pixels of all images enter one confusion matrix, with the truth in rows and the prediction in columns. Predictions
are resized to the size of the label maps. With DRN-D-105 and Cityscapes' 2048x1024 train ids, this is the protocol of
GAN-Compression, OMGD and VEM, which print 100 times the value.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from vemcompress.data import cityscapes
from vemcompress.data.indices import VOID
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation.gather import BYTES, Gather, Gathered, Views
from vemcompress.evaluation.metric import Given, Metric, Needs, Tools
from vemcompress.evaluation.segmenters import OwnScores, Segmenter, class_map
from vemcompress.system import distributed

IGNORE = 255
_MAX_CLASSES = 255


def confusion(truth: Tensor, prediction: Tensor, classes: int, ignore: int = IGNORE) -> Tensor:
    """The confusion matrix, classes x classes int64 on the CPU: how often a pixel of class i was predicted as j.
    `truth` and `prediction` are class numbers of the same shape. Pixels whose truth is `ignore` do not count."""
    counted = truth != ignore
    pairs = truth[counted].long() * classes + prediction[counted].long()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes).cpu()


def iou_per_class(matrix: Tensor, ignore: int = IGNORE) -> Tensor:
    """Intersection over union of each class, float64 in [0, 1]. NaN for a class that is in neither truth nor
    prediction, and for `ignore` if it is one of the classes."""
    matrix = matrix.double()
    both = matrix.diagonal()
    values = both / (matrix.sum(0) + matrix.sum(1) - both)
    values[ignore : ignore + 1] = torch.nan
    return values


def mean_iou(matrix: Tensor, ignore: int = IGNORE) -> float:
    """The mean over the classes that appear, in [0, 1]; NaN for an empty matrix."""
    return float(iou_per_class(matrix, ignore).nanmean())


def pixel_accuracy(matrix: Tensor) -> float:
    """The share of pixels with the correct class, in [0, 1]; NaN for an empty matrix."""
    matrix = matrix.double()
    return float(matrix.trace() / matrix.sum())


class Miou(Gather):
    """Computes mIoU batch by batch. `classes` is the number of classes, or their names. `ignore` is the label value
    that does not count (255 in Cityscapes' train ids). Raises UsageError for an impossible number of classes,
    InputError for a segmenter with another number of classes."""

    def __init__(self, segmenter: Segmenter, classes: int | Sequence[str], ignore: int = IGNORE):
        names = [str(i) for i in range(classes)] if isinstance(classes, int) else list(classes)
        if not 2 <= len(names) <= _MAX_CLASSES or len(set(names)) < len(names):
            raise UsageError(f"mIoU needs 2 to {_MAX_CLASSES} classes with different names, not {len(names)}.")
        self.names, self.ignore, self.segmenter = names, ignore, segmenter
        if segmenter.classes is not None and segmenter.classes != len(names):
            raise self._unfit(f"has {segmenter.classes} classes")
        self.images, self.matrix = 0, torch.zeros(len(names), len(names), dtype=torch.int64)
        self._sizes = set[tuple[int, int]]()

    def add(self, views: Views, role: str) -> None:
        own = isinstance(self.segmenter, OwnScores)
        self.take(views[role].images if own else views[role].rgb, views.truths)

    @torch.no_grad()
    def take(self, images: Tensor, labels: Sequence[Tensor]) -> None:
        """Add B x 3 x H x W images (uint8, or floats in [0, 1]) and their label maps: integers H x W, classes and VOID
        as in `data.labels`."""
        if len(images) != len(labels):
            raise UsageError(f"mIoU needs a label map for every image, but got {len(labels)} for {len(images)}.")
        for scores, label in zip(self.segmenter(images), labels, strict=True):
            if scores.is_floating_point() and len(scores) != len(self.names):
                raise self._unfit(f"has {len(scores)} classes")
            # An ignored label may be a class of the network (a trained void); it does not count in the score.
            truth = label.long().masked_fill(label == self.ignore, VOID)
            prediction = class_map(scores, *truth.shape).cpu()
            if prediction.max() >= len(self.names) or prediction.min() < 0:
                raise self._unfit(f"gives classes {int(prediction.min())} to {int(prediction.max())}")
            self.matrix += confusion(truth, prediction, len(self.names), VOID)
            self._sizes.add(tuple(truth.shape))
            self.images += 1

    def merge(self) -> None:
        parts = distributed.collected((self.matrix, self.images, self._sizes))
        matrices, images, sizes = zip(*parts, strict=True)
        self.matrix, self.images, self._sizes = sum(matrices), sum(images), set().union(*sizes)

    def result(self) -> dict:
        """`miou` and `pixel_accuracy` in [0, 1], and `iou` by class (None for a class that never appears). Raises
        InputError if no pixel counts."""
        if not self.matrix.any():
            raise InputError(
                f"mIoU: no labelled pixel in {self.images} label maps (label {self.ignore} is ignored); give "
                "other label maps."
            )
        values = iou_per_class(self.matrix, self.ignore).tolist()
        iou = {name: None if value != value else value for name, value in zip(self.names, values, strict=True)}
        return {"miou": mean_iou(self.matrix, self.ignore), "pixel_accuracy": pixel_accuracy(self.matrix), "iou": iou}

    @property
    def protocol(self) -> str:
        """How the figure was made, in one sentence."""
        sizes = sorted(self._sizes)
        size = f"{sizes[0][1]}x{sizes[0][0]}" if len(sizes) == 1 else f"{len(sizes)} different sizes"
        return (
            f"mean IoU over the classes that appear, of {len(self.names)} (label {self.ignore} ignored), from one "
            f"confusion matrix; {self.segmenter.protocol}, its scores resized bilinearly to the label maps' {size}; "
            f"{self.images} images."
        )

    def _unfit(self, what: str) -> InputError:
        return InputError(
            f"{self.segmenter.name}: {what}, but the label maps have {len(self.names)}; give a segmenter that was "
            "trained on these labels."
        )


def lacks_labels(images: ImageSet) -> str | None:
    """The reason why there are no label maps as inputs of the images, as the rest of the sentence "needs ..."."""
    pairs = images.pairs
    if pairs is None or pairs.labels is None:
        return "maps of class numbers beside the photos; set data.kind=labels and data.classes"
    if not pairs.labels_are_input and not pairs.classes_are_target:
        return "photos that were drawn from label maps; set data.direction so that the labels are the input"
    return None


def meters(segmenter: Segmenter, images: ImageSet) -> Callable[[], Miou]:
    """A function that makes a new `Miou` for the label maps of `images`. A void class with a channel of its own after
    the classes is not one of the segmenter's. Raises InputError for a segmenter with other classes."""
    labels = images.pairs.labels
    classes, ignore = labels.classes, IGNORE if labels.void is None else labels.void
    if labels.ids != "index":
        classes, ignore = cityscapes.CLASSES, cityscapes.IGNORED
    elif labels.void == classes - 1 and segmenter.classes in (None, classes - 1):
        classes -= 1
    Miou(segmenter, classes, ignore)
    return partial(Miou, segmenter, classes, ignore)


class Segmentation(Metric):
    """mIoU or pixel accuracy in 0..100, as in the papers. `_real` is the score of the real photos."""

    @property
    def does(self) -> str:
        return {
            "miou": "Mean IoU of the outputs' classes, predicted by a segmentation network, with the label maps",
            "pixel_accuracy": "Percentage of labelled pixels whose predicted class is right",
        }[self.name]

    def offered(self, given: Given) -> bool:
        """Offered only if there are label maps or a segmenter."""
        found = given.segmenter, given.no_labels is None
        return all(found) or (any(found) and self.name == "miou")

    def reads(self, role: str) -> bool:
        return role != "real"

    def start(self, tools: Tools) -> Miou:
        return tools.meter()

    def figures(self, role: str, gathered: Gathered, tools: Tools) -> dict[str, float]:
        suffix = "_real" if role == "target" else ""
        return {f"{self.name}{suffix}": 100 * gathered[role, self.gathers].result()[self.name]}

    def by_class(self, role: str, gathered: Gathered) -> dict[str, float | None]:
        found = gathered[role, self.gathers].result()["iou"]
        return {name: None if value is None else 100 * value for name, value in found.items()}

    def protocol(self, gathered: Gathered, tools: Tools) -> str:
        found = next(gather for (_, what), gather in gathered.items() if what == self.gathers)
        said = found.protocol.removesuffix(".")
        made = f"drawn at {tools.size} px" + ("" if tools.scores else f"; {BYTES}")
        if self.name == "miou":
            return f"in 0..100 as the papers print it: {said}, {made}."
        return f"percent of the labelled pixels whose class is right; {said.partition('; ')[2]}, {made}."


SEGMENTATION = tuple(
    Segmentation(name, higher=True, gathers="classes", needs=Needs(labels=True)) for name in ("miou", "pixel_accuracy")
)
