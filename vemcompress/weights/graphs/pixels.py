"""Converts photos to network input and back, in NumPy: a device that runs a student needs no torch."""

import numpy as np

from vemcompress.data.indices import class_colours
from vemcompress.errors import NumericalError

COLOURS = (1, 3, 4)  # channels of pictures


def pad_to_multiple(images: np.ndarray, multiple: int, least: int) -> np.ndarray:
    """N x H x W x C with the last row and column repeated until H and W are multiples of `multiple` and >= `least`."""
    rows, columns = (-(-max(side, least) // multiple) * multiple - side for side in images.shape[1:3])
    return np.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")


def to_float(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 N x H x W x C to float32 N x H x W x C in [low, high]."""
    return images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)


def to_pictures(images: np.ndarray, low: float, high: float, name: str) -> np.ndarray:
    """As `to_bytes`. If there are not 1, 3 or 4 channels, they are class scores; the class with the highest score
    gives the colour.
    """
    levels = to_bytes(images, low, high, name)
    return levels if images.shape[3] in COLOURS else class_colours(images.shape[3])[images.argmax(3)]


def to_bytes(images: np.ndarray, low: float, high: float, name: str) -> np.ndarray:
    """Float N x H x W x C in [low, high] to uint8, rounded to the nearest level and clamped. Raises NumericalError
    (5) for NaN; `name` is the model's.
    """
    if np.isnan(images).any():
        raise NumericalError(
            f"{name}: produced NaN instead of pixels; its weights are damaged or overflow, train it again."
        )
    levels = (images.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)
