"""mIoU against label maps in files, which users have as data sets and only tests give one by one."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vemcompress.data.labels import LabelMaps
from vemcompress.errors import UsageError
from vemcompress.evaluation import segmentation
from vemcompress.evaluation.segmentation import IGNORE
from vemcompress.evaluation.segmenters import Segmenter


class Miou(segmentation.Miou):
    def take(self, images: Tensor, labels: Sequence[str | os.PathLike]) -> None:
        maps = LabelMaps(len(self.names), self.ignore)
        super().take(images, [torch.from_numpy(maps.read(Path(path))) for path in labels])


def evaluate_miou(
    images: Iterable[Tensor],
    labels: Sequence[str | os.PathLike],
    segmenter: Segmenter,
    classes: int | Sequence[str],
    ignore: int = IGNORE,
) -> dict:
    """`Miou` of batches whose images follow each other as `labels` do; returns `Miou.result()`.

    Raises what `Miou` raises, and UsageError where there are more images than labels or fewer.
    """
    meter, rest = Miou(segmenter, classes, ignore), iter(labels)
    for batch in images:
        meter.take(batch, list(islice(rest, len(batch))))
    if surplus := sum(1 for _ in rest):
        raise UsageError(f"mIoU was given {meter.images} images and {meter.images + surplus} label maps; pair them.")
    return meter.result()
