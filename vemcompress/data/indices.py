"""Label maps stored as class numbers: reading them exactly, detecting them, resizing them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from vemcompress.data.images import ImageError, open_image
from vemcompress.errors import InputError

VOID = 255  # internally: a pixel without a class
Item = TypeVar("Item")


def read_indices(path: Path) -> tuple[np.ndarray, str]:
    """The values of a lossless image with one channel or a palette, integer H x W, and its mode in Pillow.

    Raises ImageError for a file that cannot be read, InputError for one without exact numbers.
    """
    with open_image(path) as image:
        if image.format == "JPEG":
            raise InputError(f"{path}: a JPEG cannot be a label map, because JPEG changes values; store it as PNG.")
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise InputError(
                f"{path}: a colour picture ({image.mode}), not a map of class numbers; for colour label maps set "
                "data.kind=paired."
            )
        image.load()
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype == bool else values, image.mode


def holds_numbers(paths: Sequence[Path]) -> Literal["palette", "grey"] | None:
    """How label maps of class numbers are stored, or None for pictures: all files have a palette, or are grey with low
    values.

    Low is up to 64, and 255 may also occur. Drawings with only 0 and 255 are pictures. Judged by at most 8 readable
    files, spread evenly.
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
    """At most `count` (2 or more) of the items, evenly spread, including the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def nearest_square(labels: np.ndarray, size: int) -> np.ndarray:
    """Resize a label map, uint8, H x W, to size x size; every pixel keeps an existing class."""
    if labels.shape == (size, size):
        return labels
    return np.array(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def class_colours(count: int) -> np.ndarray:
    """A colour for each of `count` classes, uint8, count x 3: PASCAL VOC's, shifted by one so that none is black."""
    return np.array([_voc_colour(number + 1) for number in range(count)], np.uint8).reshape(count, 3)


def _voc_colour(number: int) -> tuple[int, int, int]:
    """PASCAL VOC's colour of a class: three bits at a time fill R, G and B from the highest bit down."""
    return tuple(sum(((number >> (3 * j + c)) & 1) << (7 - j) for j in range(8)) for c in range(3))
