"""16-bit grey images, the usual format of depth: read at full precision, resized, and stored as two bytes per pixel."""

import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vemcompress.data.images import ImageError, open_image

WIDE = "I;16"  # prefix of Pillow's modes of 16-bit greys


def is_wide(path: str | os.PathLike) -> bool:
    """Whether a file is a 16-bit grey image, by its header; False for a file that cannot be read."""
    try:
        with open_image(path) as image:
            return image.mode.startswith(WIDE)
    except ImageError:
        return False


def read_wide(path: str | os.PathLike) -> np.ndarray:
    """A 16-bit grey image as uint16, H x W, upright. Raises ImageError for another kind of image."""
    with open_image(path) as image:
        if not image.mode.startswith(WIDE):
            raise ImageError(path, "it is not a 16-bit grey image, as the others are")
        image.load()
        return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)


def wide_square(values: np.ndarray, size: int) -> np.ndarray:
    """Resize uint16, H x W, to size x size, as `to_square`. Returns its high and low bytes: uint8, size x size x 2."""
    if values.shape != (size, size):
        image = Image.fromarray(values.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        values = np.round(np.asarray(image)).clip(0, 65535).astype(np.uint16)
    return np.stack((values >> 8, values & 255), axis=2).astype(np.uint8)


def wide_tensor(high: Tensor, low: Tensor) -> Tensor:
    """The high and low bytes of 16-bit greys, of equal shapes, as float32 in [-1, 1] on their device."""
    values = 256 * high.float() + low.float()
    return values / torch.full_like(values, 32767.5) - 1  # by a scalar, a GPU would multiply by its rounded inverse
