"""The label maps that generated images are segmented against: which data have them, and how mIoU reads them."""

from vemcompress.data import cityscapes
from vemcompress.data.sets import ImageSet
from vemcompress.evaluation.miou import IGNORE, Miou
from vemcompress.evaluation.segmenters import Segmenter


def lacks_truths(images: ImageSet) -> str | None:
    """Why images have no label maps that a generator draws photos from, as the rest of the sentence "needs ..."."""
    pairs = images.pairs
    if pairs is None or pairs.labels is None:
        return "maps of class numbers beside the photos; set data.kind=labels and data.classes"
    if not pairs.labels_are_input:
        return "photos that were drawn from label maps; set data.direction so that the labels are the input"
    return None


def meter(segmenter: Segmenter, images: ImageSet) -> Miou:
    """mIoU against the label maps of `images`, which have some. Raises InputError for a segmenter of other classes.

    A void that has a channel of its own behind the classes is none of the segmenter's.
    """
    labels = images.pairs.labels
    if labels.ids != "index":
        return Miou(segmenter, cityscapes.CLASSES, cityscapes.IGNORED)
    classes = labels.classes
    if labels.void == classes - 1 and segmenter.classes in (None, classes - 1):
        classes -= 1
    return Miou(segmenter, classes, IGNORE if labels.void is None else labels.void)
