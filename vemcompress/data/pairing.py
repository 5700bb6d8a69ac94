"""What a data set of pairs, or of two domains, is once it has been found.

A is the left half, the first folder, trainA or the photos; B the right half, the second, trainB or the labels.
`AtoB` learns B from A.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vemcompress.data.images import read_image
from vemcompress.data.labels import LabelMaps
from vemcompress.data.layouts import odd_width

Direction = Literal["AtoB", "BtoA"]


@dataclass(frozen=True)
class Pairs:
    """Aligned pairs, `a[i]` with `b[i]`; side by side in one file where `side_by_side`.

    `used`: per root the split (or FLAT, FILE) that was taken. `labels`: how the label maps of the side `labelled` are
    read; None for pictures on both sides.
    """

    kind: Literal["paired", "labels"]
    direction: Direction
    a: tuple[Path, ...]
    b: tuple[Path, ...]
    used: tuple[str, ...]
    side_by_side: bool = False
    labels: LabelMaps | None = None
    labelled: Literal["A", "B"] = "B"

    @property
    def count(self) -> int:
        return len(self.a)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files of the inputs, in order; what results are named after."""
        return self.a if self.direction == "AtoB" else self.b

    @property
    def labels_are_input(self) -> bool:
        return self.labels is not None and self.direction.startswith(self.labelled)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of input and target; pictures count as RGB, though a network may ask for grey."""
        return (self.labels.channels if self.labels_are_input else 3), 3

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and target of a pair at their own sizes: pictures uint8, H x W x 3; label maps uint8, H x W.

        Cityscapes' label ids that are seen in colour come as pictures.

        Raises ImageError for a file that cannot be read, InputError for one that is no half of a pair or has values
        outside the classes.
        """
        if self.side_by_side:
            both = read_image(self.a[index])
            if both.shape[1] % 2:
                raise odd_width(self.a[index], both.shape[1])
            a, b = np.split(both, 2, axis=1)
        else:
            a, b = self._read("A", self.a[index]), self._read("B", self.b[index])
        return (a, b) if self.direction == "AtoB" else (b, a)

    def ground_truth(self, index: int) -> np.ndarray:
        """The label map of a pair at its own size, uint8, H x W, of 0..classes-1 and VOID; only where there are any."""
        return self.labels.read((self.a if self.labelled == "A" else self.b)[index])

    def _read(self, side: str, path: Path) -> np.ndarray:
        if self.labels is None or side != self.labelled:
            return read_image(path)
        coloured = self.labels.input == "colour" or not self.labels_are_input
        if coloured and self.labels.ids == "cityscapes":  # the published input is such a picture, resized as one
            return self.labels.picture(path)
        return self.labels.read(path)


@dataclass(frozen=True)
class Unpaired:
    """Two domains of images that do not belong together one by one; inputs are A's with AtoB, else B's."""

    direction: Direction
    a: tuple[Path, ...]
    b: tuple[Path, ...]
    used: tuple[str, ...]
    kind: Literal["unpaired"] = "unpaired"

    @property
    def count(self) -> int:
        """Images of an epoch: those of the larger domain, as CycleGAN counts."""
        return max(len(self.a), len(self.b))

    @property
    def inputs(self) -> tuple[Path, ...]:
        return self.a if self.direction == "AtoB" else self.b

    @property
    def targets(self) -> tuple[Path, ...]:
        return self.b if self.direction == "AtoB" else self.a
