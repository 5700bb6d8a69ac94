"""Aligned pairs of images and two unpaired domains, and finding them in the folders given by `--data`.

A is the left half, the first folder, trainA or the photos; B is the right half, the second folder, trainB or the
labels. `AtoB` translates A to B.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vemcompress.data.degrade import Degradation
from vemcompress.data.depth import is_wide, read_wide
from vemcompress.data.folders import Listing, Sides, check_widths, find_sides, is_twice_as_wide, match, odd_width
from vemcompress.data.images import ImageError, read_image
from vemcompress.data.indices import holds_numbers, spread
from vemcompress.data.labels import Ids, LabelInput, LabelMaps, label_maps
from vemcompress.errors import InputError, RecipeError
from vemcompress.system import names

Direction = Literal["AtoB", "BtoA"]
Kind = Literal["auto", "paired", "labels", "unpaired"]
Settings = Callable[[Path], LabelMaps]
LABELS_CHECKED = 32  # files that are checked before the run; the others are checked when they are read


@dataclass(frozen=True)
class Pairs:
    """Pairs `a[i]`, `b[i]`; in one file side by side if `side_by_side`.

    `used`: for each root the split (or FLAT, FILE) that was used. `labels`: how the label maps of the side `labelled`
    are read; None if both sides are pictures. `degraded`: a photo is the target, and its degraded copy the input.
    `wide`: the targets are 16-bit greys, such as depth, which a network with one output channel gets at full precision.
    """

    kind: Literal["paired", "labels"]
    direction: Direction
    a: tuple[Path, ...]
    b: tuple[Path, ...]
    used: tuple[str, ...]
    side_by_side: bool = False
    labels: LabelMaps | None = None
    labelled: Literal["A", "B"] = "B"
    degraded: Degradation | None = None
    wide: bool = False

    @property
    def count(self) -> int:
        return len(self.a)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files of the inputs, in order; results are named after them."""
        return self.a if self.direction == "AtoB" else self.b

    @property
    def targets(self) -> tuple[Path, ...]:
        """The files of the targets, in order."""
        return self.b if self.direction == "AtoB" else self.a

    @property
    def labels_are_input(self) -> bool:
        return self.labels is not None and self.direction.startswith(self.labelled)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of input and target. Pictures count as RGB, although a network may use grey, and 16-bit targets
        as one.
        """
        inputs = self.labels.channels if self.labels_are_input else 3
        if self.labels is not None and not self.labels_are_input:
            return inputs, self.labels.target_channels
        return inputs, 1 if self.wide else 3

    @property
    def classes_are_target(self) -> bool:
        """Whether the ground truth has one channel per class, as in dense prediction."""
        return self.labels is not None and not self.labels_are_input and self.labels.target == "onehot"

    def read(self, index: int, channels: tuple[int, int] = (3, 3)) -> tuple[np.ndarray, np.ndarray]:
        """Input and target of a pair at their own sizes. Pictures are uint8, H x W x 3, or all four channels if the
        value in `channels` is 4; label maps are uint8, H x W; 16-bit targets are uint16, H x W. Cityscapes' label ids
        used in colour are pictures.

        Raises ImageError for a file that cannot be read, InputError for one that is not half of a pair or has values
        outside the classes.
        """
        if self.wide and channels[1] == 1:
            return self._read("", self.inputs[index], channels[0]), read_wide(self.targets[index])
        forth = self.direction == "AtoB"
        wanted = channels if forth else channels[::-1]
        if self.side_by_side:
            a, b = (self._half(self.a[index], side, count) for side, count in enumerate(wanted))
        else:
            a, b = (self._read("A", self.a[index], wanted[0]), self._read("B", self.b[index], wanted[1]))
        return (a, b) if forth else (b, a)

    def ground_truth(self, index: int) -> np.ndarray:
        """The label map of a pair at its own size, uint8, H x W, with 0..classes-1 and VOID; only for data with
        label maps.
        """
        return self.labels.read((self.a if self.labelled == "A" else self.b)[index])

    def _half(self, path: Path, side: int, channels: int) -> np.ndarray:
        both = read_image(path, channels)
        if both.shape[1] % 2:
            raise odd_width(path, both.shape[1])
        return np.split(both, 2, axis=1)[side]

    def _read(self, side: str, path: Path, channels: int) -> np.ndarray:
        if self.labels is None or side != self.labelled:
            return read_image(path, channels)
        coloured = self.labels.target == "colour" if not self.labels_are_input else self.labels.input == "colour"
        if coloured and self.labels.ids == "cityscapes":  # as published: a colour picture, resized as such
            return self.labels.picture(path)
        return self.labels.read(path)


@dataclass(frozen=True)
class Unpaired:
    """Two domains of images without pairs; inputs are A's with AtoB, else B's."""

    direction: Direction
    a: tuple[Path, ...]
    b: tuple[Path, ...]
    used: tuple[str, ...]
    kind: Literal["unpaired"] = "unpaired"

    @property
    def count(self) -> int:
        """Images per epoch: those of the larger domain, as CycleGAN counts."""
        return max(len(self.a), len(self.b))

    @property
    def inputs(self) -> tuple[Path, ...]:
        return self.a if self.direction == "AtoB" else self.b

    @property
    def targets(self) -> tuple[Path, ...]:
        return self.b if self.direction == "AtoB" else self.a


def find_pairs(
    roots: str | os.PathLike | Sequence[str | os.PathLike],
    split: str = "train",
    kind: Kind = "auto",
    direction: Direction = "AtoB",
    *,
    classes: int | None = None,
    void: int | None = None,
    label_input: LabelInput = "onehot",
    label_target: LabelInput = "colour",
    ids: Ids | None = None,
    listed: Listing = Listing(),
) -> Pairs | Unpaired:
    """The pairs of a split, root by root; `test` falls back to `val`, and `used` says so.

    A root is the root of a set (train/ of side-by-side images; train/ + train_label/; trainA/ + trainB/; A/train/ +
    B/train/; train/A/ + train/B/; Cityscapes' leftImg8bit/ + gtFine/), or a folder with A/ and B/, or a folder or a
    file of side-by-side images. Or there are two roots, the folders of A and of B.

    "auto" treats trainA/ + trainB/ as unpaired; two other folders as labels if one holds label maps of class numbers,
    else as paired; and single images as pairs if they are twice as wide as high. `classes`, `void`, `label_input`,
    `label_target` and `ids` are those of LabelMaps; Cityscapes' files need none (`ids` None: by their names). Folders
    are listed as `listed` says. Raises RecipeError for invalid settings, InputError for the data.
    """
    if direction not in get_args(Direction):
        raise RecipeError(f"data.direction '{direction}' is not known; use AtoB or BtoA.")
    if kind not in get_args(Kind):
        raise RecipeError(f"data.kind '{kind}' is not known for pairs; use {', '.join(get_args(Kind))}.")
    given = [Path(names.found(r)) for r in ([roots] if isinstance(roots, str | os.PathLike) else roots)]
    if not given:
        raise InputError("no data: give at least one folder of images.")

    def label_settings(path: Path) -> LabelMaps:
        return label_maps(classes, void, label_input, ids or _ids_by_name(path), label_target)

    located = find_sides(given, split, single=kind in ("auto", "paired"))
    return _joined([_find(sides, kind, direction, label_settings, listed) for sides in located], given)


def _find(
    sides: Sides, kind: Kind, direction: Direction, label_settings: Settings, listed: Listing
) -> Pairs | Unpaired:
    if sides.a == sides.b:
        return _side_by_side(sides, kind, direction, listed)
    unpaired = kind == "unpaired" or (kind == "auto" and sides.domains)
    if unpaired and not sides.cityscapes:
        a, b = listed(sides.a), listed(sides.b)
    else:
        a, b = match(sides, kind in ("paired", "unpaired"), listed)
    side, how = _labelled_side(a, b)
    if how == "grey" and kind in ("paired", "unpaired"):
        raise InputError(
            f"{sides.b if side == 'B' else sides.a}: these are maps of class numbers, nearly black as pictures; set "
            "data.kind=labels and data.classes."
        )
    if unpaired:
        return Unpaired(direction, tuple(a), tuple(b), (sides.used,))
    if kind == "paired" or (kind == "auto" and how is None):
        wide = any(is_wide(path) for path in (b if direction == "AtoB" else a)[:8])
        return Pairs("paired", direction, tuple(a), tuple(b), (sides.used,), wide=wide)
    maps = a if side == "A" else b
    labels = label_settings(maps[0])
    for path in spread(maps, LABELS_CHECKED):
        with contextlib.suppress(ImageError):  # the stream skips unreadable files
            labels.read(path)
    return Pairs("labels", direction, tuple(a), tuple(b), (sides.used,), labels=labels, labelled=side)


def _labelled_side(a: list[Path], b: list[Path]) -> tuple[Literal["A", "B"], Literal["palette", "grey"] | None]:
    """Which side holds label maps of class numbers, and how; B if neither does, because labels belong there."""
    if how := holds_numbers(b):
        return "B", how
    how = holds_numbers(a)
    return ("A" if how else "B"), how


def _side_by_side(sides: Sides, kind: Kind, direction: Direction, listed: Listing) -> Pairs:
    paths = [sides.a] if sides.a.is_file() else listed(sides.a)
    if kind == "auto" and not is_twice_as_wide(paths):
        raise InputError(
            f"{sides.a}: these images are not twice as wide as high, so it is unclear whether they are pairs side by "
            "side; set data.kind=paired if they are, or give two folders."
        )
    check_widths(paths)
    return Pairs("paired", direction, tuple(paths), tuple(paths), (sides.used,), side_by_side=True)


def _ids_by_name(path: Path) -> Ids:
    return {"labelIds": "cityscapes", "labelTrainIds": "cityscapes_train"}.get(path.stem.rpartition("_")[2], "index")


def _joined(found: list[Pairs | Unpaired], roots: list[Path]) -> Pairs | Unpaired:
    first, *others = found
    for other, root in zip(others, roots[1:], strict=False):
        if replace(other, a=first.a, b=first.b, used=first.used) != first:
            raise InputError(f"{root}: its layout differs from that of {roots[0]}; use only one of them.")
    return replace(
        first,
        a=tuple(path for part in found for path in part.a),
        b=tuple(path for part in found for path in part.b),
        used=tuple(used for part in found for used in part.used),
    )
