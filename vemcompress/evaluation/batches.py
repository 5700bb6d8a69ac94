"""Images in batches for an evaluation; decoding runs ahead in threads while the network works."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.images import ImageError, read_image, to_square

WORKERS = 2


def batches(
    paths: Sequence[Path], size: int | None, batch: int, on_bad: Callable[[ImageError], None]
) -> Iterator[tuple[list[Path], Tensor]]:
    """Paths and their images, B x 3 x H x W uint8 RGB, in the given order.

    Images are resized to `size` x `size`; with None they keep their size, and a batch ends where the size changes.
    An image that cannot be read is given to `on_bad` and left out.
    """
    names: list[Path] = []
    images: list[np.ndarray] = []
    for path, image in _decoded(paths, size, batch, on_bad):
        if images and (len(images) == batch or image.shape != images[0].shape):
            yield names, _stack(images)
            names, images = [], []
        names.append(path)
        images.append(image)
    if images:
        yield names, _stack(images)


def _decoded(paths, size, batch, on_bad) -> Iterator[tuple[Path, np.ndarray]]:
    def decode(path: Path) -> np.ndarray:
        image = read_image(path)
        return image if size is None else to_square(image, size)

    rest = iter(paths)
    pending: deque = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            while True:
                while len(pending) < 2 * batch and (path := next(rest, None)) is not None:
                    pending.append((path, pool.submit(decode, path)))
                if not pending:
                    return
                path, future = pending.popleft()
                try:
                    image = future.result()
                except ImageError as error:
                    on_bad(error)
                    continue
                yield path, image
        finally:
            for _, future in pending:
                future.cancel()


def _stack(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def to_network(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """A network's output in [-1, 1] to uint8 by truncation of (x + 1) / 2 * 255: OMGD's protocol."""
    return ((images.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
