"""Image files as square tensors of one size, the input of a network."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vemcompress.data.images import Crop, ImageError, middle, read_image, resized, tell_notes, to_square
from vemcompress.errors import InputError
from vemcompress.system.events import Event

PICTURES = (1, 3, 4)  # possible channels: grey, RGB, or four as in the file
Item, Read = TypeVar("Item"), TypeVar("Read")


def load_square(path: Path, size: int, channels: int = 3, crop: Crop = None) -> np.ndarray:
    """An image file, or its central `crop`, as uint8, size x size x channels. Raises ImageError."""
    return square_of(middle(read_image(path, channels), crop), size, channels)


def square_of(image: np.ndarray, size: int, channels: int = 3) -> np.ndarray:
    """A picture, uint8, H x W x 3, as size x size x channels (one channel is its luma); or H x W x 4 with all four."""
    if channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))
    return to_square(image, size).reshape(size, size, channels)


def whole(image: np.ndarray, least: int, channels: int = 3) -> np.ndarray:
    """A picture, uint8, H x W x 3 (or x 4), as H x W x channels at its own size, or enlarged so that both sides have
    at least `least` pixels.
    """
    if channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    shorter = min(image.shape[:2])
    if shorter >= least:
        return image
    return resized(image, *(max(least, round(side * least / shorter)) for side in image.shape[:2]))


def to_tensor(images: np.ndarray | Tensor) -> Tensor:
    """uint8, B x H x W x C to float32, B x C x H x W in [-1, 1], on the same device."""
    if isinstance(images, Tensor):
        flat = images.permute(0, 3, 1, 2).contiguous()
        return _table(images.device).index_select(0, flat.flatten().int()).view(flat.shape)
    values = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    # In numpy, because torch would start a team of OpenMP threads in every thread that prepares batches.
    values /= 127.5
    values -= 1
    return torch.from_numpy(values)


@functools.cache
def _table(device: torch.device) -> Tensor:
    """The value of every byte, computed on the CPU: a GPU would multiply by 1 / 127.5, which rounds differently."""
    return to_tensor(np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)).flatten().to(device)


def test_batch(
    paths: Sequence[Path],
    size: int,
    channels: int = 3,
    count: int | None = None,
    on_event: Event | None = None,
    crop: Crop = None,
) -> Tensor:
    """The first `count` readable images (None: all) resized to the square, unflipped: B x channels x size x size.

    For pictures of progress, which must show the same images each time. Raises InputError if none can be read.
    """
    channels = checked_channels(channels)
    images = first_readable(paths, count, lambda path: load_square(path, size, channels, crop), "images", on_event)
    return to_tensor(np.stack(images))


test_batch.__test__ = False  # not a test: without this, pytest would collect it where it is imported


def first_readable(
    items: Sequence[Item],
    count: int | None,
    read: Callable[[Item], Read],
    noun: str,
    on_event: Event | None = None,
) -> list[Read]:
    """The results of `read` for the first `count` (None: all) readable items; unreadable ones are reported.

    Raises InputError if there is none.
    """
    found, first = [], ""
    for item in items:
        if len(found) == count:
            break
        try:
            found.append(read(item))
        except ImageError as error:
            first = first or f" (the first, {error.path}: {error.reason})"
            if on_event:
                on_event({"event": "skipped", "path": str(error.path), "reason": error.reason})
    if on_event:
        tell_notes(on_event)
    if not found:
        raise InputError(f"none of {len(items)} {noun} can be read{first}; give other images.")
    return found


def checked_channels(channels: int) -> int:
    """`channels`, if pictures can have that many; else raises InputError."""
    if channels not in PICTURES:
        raise InputError(f"pictures have 1, 3 or 4 channels, not the {channels} of this network; use another network.")
    return channels
