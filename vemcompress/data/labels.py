"""Label maps: images whose pixels are class numbers, as network input or as ground truth.

Internally a label map is uint8, H x W, with 0..classes-1, and VOID for pixels without a class.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vemcompress.data import cityscapes
from vemcompress.data.indices import VOID, class_colours, read_indices
from vemcompress.errors import InputError, RecipeError

Ids = Literal["index", "cityscapes", "cityscapes_train"]
LabelInput = Literal["onehot", "colour"]


@dataclass(frozen=True)
class LabelMaps:
    """How the label maps of a data set are read, and how a network gets them.

    `classes`: 1..255. `void`: the file's value for pixels without a class; a value below `classes` is a class like any
    other, with its own channel. `input`: "onehot", one channel of 0 and 1 per class, all 0 at void, as in pix2pixHD; or
    "colour", an RGB image in [-1, 1]. `target`: the same for ground truth, where one-hot channels are -1 and 1, like a
    generator's outputs, and all -1 at void. `ids`: "index", the file's values are the classes; "cityscapes", they are
    Cityscapes' label ids, which are converted to its 19 train ids; "cityscapes_train", they are its train ids.
    """

    classes: int
    void: int | None = None
    input: LabelInput = "onehot"
    ids: Ids = "index"
    target: LabelInput = "colour"

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return self.classes if self.input == "onehot" else 3

    @property
    def target_channels(self) -> int:
        """Channels of the label maps as ground truth."""
        return self.classes if self.target == "onehot" else 3

    def read(self, path: Path) -> np.ndarray:
        """Read a PNG, BMP or TIFF with one channel or a palette as uint8, H x W, with 0..classes-1 and VOID.

        Raises ImageError for a file that cannot be read, and InputError for one that is not a label map or has values
        outside the classes.
        """
        values = self._values(path, 255)
        allowed, classes = self._tables
        if not allowed[values].all():
            raise self._outside(path, int(values[~allowed[values]].min()))
        return classes[values]

    def picture(self, path: Path) -> np.ndarray:
        """A file of Cityscapes' label ids in the colours of all its labels, uint8, H x W x 3, as in its `*_color.png`.

        Raises as `read`, which keeps only the trained classes.
        """
        colours = np.array([label.colour for label in cityscapes.LABELS], np.uint8)
        return colours[self._values(path, len(colours) - 1)]

    def _values(self, path: Path, highest: int) -> np.ndarray:
        values = read_indices(path)[0]
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > highest:
            raise self._outside(path, low if low < 0 else high)
        return values.astype(np.uint8)

    def one_hot(self, maps: np.ndarray | Tensor) -> Tensor:
        """uint8, B x H x W to float32, B x classes x H x W of 0 and 1; void is 0 in every channel. A tensor stays on
        its device.
        """
        if isinstance(maps, Tensor):
            numbers = torch.arange(self.classes, dtype=torch.uint8, device=maps.device)
            return (maps[:, None] == numbers[None, :, None, None]).float()
        classes = np.arange(self.classes, dtype=np.uint8)[None, :, None, None]
        return torch.from_numpy((maps[:, None] == classes).astype(np.float32))

    def colours(self, maps: np.ndarray) -> np.ndarray:
        """Label maps of any shape as RGB, uint8, ... x 3; void is black."""
        return self.palette[maps]

    @cached_property
    def palette(self) -> np.ndarray:
        """Colours by class, uint8, 256 x 3: Cityscapes' own, or PASCAL VOC's shifted by one, so that no class is
        black.
        """
        colours = np.zeros((256, 3), np.uint8)
        if self.ids == "index":
            count = min(self.classes, VOID)
            colours[:count] = class_colours(count)
        else:
            colours[: len(cityscapes.TRAIN_COLOURS)] = cityscapes.TRAIN_COLOURS
        return colours

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """For each value in the file, 0..255: whether it is allowed, and its class or VOID."""
        allowed, classes = np.zeros(256, bool), np.full(256, VOID, np.uint8)
        if self.ids == "cityscapes":
            numbers = [label.train_id for label in cityscapes.LABELS]
        else:
            numbers = list(range(self.classes))
        classes[: len(numbers)] = numbers
        allowed[: len(numbers)] = True
        if self.void is not None:
            allowed[self.void] = True
        return allowed, classes

    def _outside(self, path: Path, value: int) -> InputError:
        if self.ids == "cityscapes":
            return InputError(
                f"{path}: label value {value} is not one of Cityscapes' label ids (0 to 33); check the file."
            )
        void = "no void value" if self.void is None else f"void {self.void}"
        return InputError(
            f"{path}: label value {value} is outside the {self.classes} classes (0 to {self.classes - 1}, {void}); "
            "set data.classes and data.void, or correct the file."
        )


def label_maps(
    classes: int | None = None,
    void: int | None = None,
    input: LabelInput = "onehot",
    ids: Ids = "index",
    target: LabelInput = "colour",
) -> LabelMaps:
    """LabelMaps from a recipe's settings. Cityscapes has its own 19 classes and void 255. Raises RecipeError."""
    if ids != "index":
        if classes not in (None, len(cityscapes.CLASSES)) or void not in (None, cityscapes.IGNORED):
            raise RecipeError(
                "data.classes and data.void: Cityscapes' train ids have 19 classes and void 255; omit both, or "
                "set data.ids=index to use the file's values as they are."
            )
        classes, void = len(cityscapes.CLASSES), cityscapes.IGNORED
    if classes is None:
        raise RecipeError("data.classes is not set; set it to the number of classes in the label maps.")
    if not 1 <= classes <= 255:
        raise RecipeError(f"data.classes {classes} is not possible; label maps have 1 to 255 classes.")
    if void is not None and not 0 <= void <= 255:
        raise RecipeError(f"data.void {void} is not possible; it must be a value of a label map, 0 to 255.")
    return LabelMaps(classes, void, input, ids, target)
