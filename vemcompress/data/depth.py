"""16-bit greys, as depth is stored: read in full, resized, and kept as the two bytes of each pixel."""

import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vemcompress.data.images import ImageError, open_image

WIDE = "I;16"  # how Pillow's modes of 16-bit greys begin


def is_wide(path: str | os.PathLike) -> bool:
    """Whether a file is a 16-bit grey, as depth is stored, by its header; a file that cannot be read is none."""
    try:
        with open_image(path) as image:
            return image.mode.startswith(WIDE)
    except ImageError:
        return False


def read_wide(path: str | os.PathLike) -> np.ndarray:
    """A 16-bit grey as uint16, H x W, upright. Raises ImageError for another picture."""
    with open_image(path) as image:
        if not image.mode.startswith(WIDE):
            raise ImageError(path, "it is no 16-bit grey, as others of its side are")
        image.load()
        return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)


def wide_square(values: np.ndarray, size: int) -> np.ndarray:
    """Resize uint16, H x W, to size x size, as `to_square`, and give its high and low bytes: uint8, size x size x 2."""
    if values.shape != (size, size):
        image = Image.fromarray(values.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        values = np.round(np.asarray(image)).clip(0, 65535).astype(np.uint16)
    return np.stack((values >> 8, values & 255), axis=2).astype(np.uint8)


def wide_tensor(high: Tensor, low: Tensor) -> Tensor:
    """The bytes of 16-bit greys, of equal shapes, to float32 in [-1, 1] on their device."""
    values = 256 * high.float() + low.float()
    return values / torch.full_like(values, 32767.5) - 1  # a GPU would multiply by the inverse of a number
