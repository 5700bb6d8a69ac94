"""Images in batches for an evaluation; decoding runs ahead in threads while the network works."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.images import ImageError, read_image, to_square
from vemcompress.data.machine import default_workers
from vemcompress.data.on_device import moved, pinned

DEFAULT_BATCH, CUDA_BATCH = 8, 64
# Sixteen maps of 64 channels in float32, more than published generators hold at once at their full resolution.
_BYTES_PER_PIXEL = 16 * 64 * 4

Item = TypeVar("Item")
OnBad = Callable[[ImageError], None]


def default_batch(device: torch.device, size: int | None) -> int:
    """Images at a time where nobody says: 8, and on CUDA up to 64 as its free memory allows."""
    if device.type != "cuda":
        return DEFAULT_BATCH
    room = torch.cuda.mem_get_info(device)[0] // (_BYTES_PER_PIXEL * (size or 299) ** 2)
    return max(DEFAULT_BATCH, min(CUDA_BATCH, room))


def batches(
    paths: Sequence[Path], size: int | None, batch: int, on_bad: OnBad, device: torch.device | str = "cpu"
) -> Iterator[tuple[list[Path], Tensor]]:
    """Paths and their images, B x 3 x H x W uint8 RGB on `device`, in the given order.

    Images are resized to `size` x `size`; with None they keep their size, and a batch ends where the size changes.
    An image that cannot be read is given to `on_bad` and left out.
    """

    def read(index: int) -> tuple[Path, np.ndarray]:
        image = read_image(paths[index])
        return paths[index], image if size is None else to_square(image, size)

    names: list[Path] = []
    images: list[np.ndarray] = []
    for path, image in decoded(read, range(len(paths)), 2 * batch, on_bad):
        if images and (len(images) == batch or image.shape != images[0].shape):
            yield names, stack(images, device)
            names, images = [], []
        names.append(path)
        images.append(image)
    if images:
        yield names, stack(images, device)


def decoded(read: Callable[[int], Item], indices: Iterable[int], ahead: int, on_bad: OnBad) -> Iterator[Item]:
    """read(i) of these indices, in order, at most `ahead` (or two for each thread) of them begun; an ImageError is
    given to `on_bad`."""
    rest, workers = iter(indices), default_workers()
    pending: deque = deque()
    ahead = max(ahead, 2 * workers)
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(pending) < ahead and (index := next(rest, None)) is not None:
                    pending.append(pool.submit(read, index))
                if not pending:
                    return
                try:
                    item = pending.popleft().result()
                except ImageError as error:
                    on_bad(error)
                    continue
                yield item
        finally:
            for future in pending:
                future.cancel()


def stack(images: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """uint8, each H x W x C, to B x C x H x W on the device."""
    device = torch.device(device)
    return moved(pinned(np.stack(images), device), device).permute(0, 3, 1, 2).contiguous()


def to_network(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """A network's output in [-1, 1] to uint8 by truncation of (x + 1) / 2 * 255: OMGD's protocol."""
    return ((images.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
