"""Image files of class numbers: reading them exactly, telling them from pictures, resizing them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from vemcompress.data.images import ImageError, open_image
from vemcompress.errors import InputError

VOID = 255  # inside: a pixel of no class
Item = TypeVar("Item")


def read_indices(path: Path) -> tuple[np.ndarray, str]:
    """The values of a lossless image of one channel or with a palette, integer H x W, and its mode in Pillow's words.

    Raises ImageError for a file that cannot be read, InputError for one that holds no exact numbers.
    """
    with open_image(path) as image:
        if image.format == "JPEG":
            raise InputError(f"{path}: a JPEG cannot be a label map, for it changes values; give it as PNG.")
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise InputError(
                f"{path}: a colour picture ({image.mode}), not a map of class numbers; for colour label maps set "
                "data.kind=paired."
            )
        image.load()
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype == bool else values, image.mode


def holds_numbers(paths: Sequence[Path]) -> Literal["palette", "grey"] | None:
    """How files are index label maps, or None for pictures: all have a palette, or are grey with low values only.

    Low is up to 64, and 255 may be beside it; drawings of 0 and 255 alone are pictures. Judged by at most 8
    readable files, spread evenly.
    """
    modes, present = set[str](), set[int]()
    for path in spread(paths, 8):
        try:
            values, mode = read_indices(path)
        except ImageError:
            continue
        except InputError:
            return None
        modes.add(mode)
        present.update(np.unique(values).tolist())
    if modes == {"P"}:
        return "palette"
    low = present != {0, VOID} and all(0 <= value <= 64 or value == VOID for value in present)
    return "grey" if modes and low else None


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` (2 or more) of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def nearest_square(labels: np.ndarray, size: int) -> np.ndarray:
    """A label map, uint8, H x W, as size x size; every pixel keeps a class that was there."""
    if labels.shape == (size, size):
        return labels
    return np.array(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def class_colours(count: int) -> np.ndarray:
    """A colour for each of so many classes, uint8, count x 3: PASCAL VOC's, shifted by one so that none is black."""
    return np.array([_voc_colour(number + 1) for number in range(count)], np.uint8).reshape(count, 3)


def _voc_colour(number: int) -> tuple[int, int, int]:
    """PASCAL VOC's colour of a class: its bits, three at a time, from the top bit of R, G and B down."""
    return tuple(sum(((number >> (3 * j + c)) & 1) << (7 - j) for j in range(8)) for c in range(3))
