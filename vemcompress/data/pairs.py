"""Finding the pairs, label maps or domains that a user means by `--data`."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from vemcompress.data.images import ImageError, list_images
from vemcompress.data.indices import holds_numbers, spread
from vemcompress.data.labels import Ids, LabelInput, LabelMaps, label_maps
from vemcompress.data.layouts import Sides, check_widths, is_twice_as_wide, locate, match
from vemcompress.data.pairing import Direction, Pairs, Unpaired
from vemcompress.errors import InputError, RecipeError

__all__ = ["Pairs", "Unpaired", "find_pairs"]

Kind = Literal["auto", "paired", "labels", "unpaired"]
Settings = Callable[[Path], LabelMaps]
LABELS_CHECKED = 32  # before the run begins; the others when they are read


def find_pairs(
    roots: str | os.PathLike | Sequence[str | os.PathLike],
    split: str = "train",
    kind: Kind = "auto",
    direction: Direction = "AtoB",
    *,
    classes: int | None = None,
    void: int | None = None,
    label_input: LabelInput = "onehot",
    ids: Ids | None = None,
) -> Pairs | Unpaired:
    """The pairs of a split, root by root; `test` falls back to `val`, and `used` says so.

    A root is the root of a set (train/ of side-by-side images; train/ + train_label/; trainA/ + trainB/; A/train/ +
    B/train/; train/A/ + train/B/; Cityscapes' leftImg8bit/ + gtFine/), or a folder of A/ and B/, or a folder or a file
    of side-by-side images; or there are two roots, the folders of A and of B. "auto" takes trainA/ + trainB/ for
    unpaired, two other folders for labels where one holds index label maps and else for paired, and single images for
    pairs if they are twice as wide as high. `classes`, `void`, `label_input` and `ids` are LabelMaps' own;
    Cityscapes' files need none (`ids` None: by their names). Raises RecipeError for
    settings that do not exist, InputError for the data.
    """
    if direction not in get_args(Direction):
        raise RecipeError(f"data.direction '{direction}' does not exist; use AtoB or BtoA.")
    if kind not in get_args(Kind):
        raise RecipeError(f"data.kind '{kind}' does not exist for pairs; use {', '.join(get_args(Kind))}.")
    given = [Path(r) for r in ([roots] if isinstance(roots, str | os.PathLike) else roots)]
    if not given:
        raise InputError("no data: name at least one folder of images.")

    def label_settings(path: Path) -> LabelMaps:
        return label_maps(classes, void, label_input, ids or _ids_by_name(path))

    located = locate(given, split, single=kind in ("auto", "paired"))
    return _joined([_find(sides, kind, direction, label_settings) for sides in located], given)


def _find(sides: Sides, kind: Kind, direction: Direction, label_settings: Settings) -> Pairs | Unpaired:
    if sides.a == sides.b:
        return _side_by_side(sides, kind, direction)
    unpaired = kind == "unpaired" or (kind == "auto" and sides.domains)
    if unpaired and not sides.cityscapes:
        a, b = list_images(sides.a), list_images(sides.b)
    else:
        a, b = match(sides, colours=kind in ("paired", "unpaired"))
    side, how = _labelled_side(a, b)
    if how == "grey" and kind in ("paired", "unpaired"):
        raise InputError(
            f"{sides.b if side == 'B' else sides.a}: these are maps of class numbers, nearly black as pictures; set "
            "data.kind=labels and data.classes."
        )
    if unpaired:
        return Unpaired(direction, tuple(a), tuple(b), (sides.used,))
    if kind == "paired" or (kind == "auto" and how is None):
        return Pairs("paired", direction, tuple(a), tuple(b), (sides.used,))
    maps = a if side == "A" else b
    labels = label_settings(maps[0])
    for path in spread(maps, LABELS_CHECKED):
        with contextlib.suppress(ImageError):  # the stream passes over what cannot be read
            labels.read(path)
    return Pairs("labels", direction, tuple(a), tuple(b), (sides.used,), labels=labels, labelled=side)


def _labelled_side(a: list[Path], b: list[Path]) -> tuple[Literal["A", "B"], Literal["palette", "grey"] | None]:
    """Which side holds index label maps, and how; B where none does, for it is where they belong."""
    if how := holds_numbers(b):
        return "B", how
    how = holds_numbers(a)
    return ("A" if how else "B"), how


def _side_by_side(sides: Sides, kind: Kind, direction: Direction) -> Pairs:
    paths = [sides.a] if sides.a.is_file() else list_images(sides.a)
    if kind == "auto" and not is_twice_as_wide(paths):
        raise InputError(
            f"{sides.a}: these images are not twice as wide as high, so it is unclear whether they are pairs side by "
            "side; set data.kind=paired if they are, or give two folders."
        )
    check_widths(paths)
    return Pairs("paired", direction, tuple(paths), tuple(paths), (sides.used,), side_by_side=True)


def _ids_by_name(path: Path) -> Ids:
    return {"labelIds": "cityscapes", "labelTrainIds": "cityscapes_train"}.get(path.stem.rpartition("_")[2], "index")


def _form(found: Pairs | Unpaired) -> Pairs | Unpaired:
    return dataclasses.replace(found, a=(), b=(), used=())


def _joined(found: list[Pairs | Unpaired], roots: list[Path]) -> Pairs | Unpaired:
    first = found[0]
    for other, root in zip(found[1:], roots[1:], strict=False):
        if _form(other) != _form(first):
            raise InputError(f"{root}: its data are stored in another way than those of {roots[0]}; use one of them.")
    return dataclasses.replace(
        first,
        a=tuple(path for part in found for path in part.a),
        b=tuple(path for part in found for path in part.b),
        used=tuple(used for part in found for used in part.used),
    )
