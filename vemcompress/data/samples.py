"""Whole images for evaluation: each image of a set once, at its full square, decoded ahead in threads; or latent
vectors.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.depth import wide_tensor
from vemcompress.data.images import Crop, ImageError, middle, read_image, to_square
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.machine import default_workers
from vemcompress.data.on_device import moved, pinned
from vemcompress.data.pair_stream import checked_pair_channels, is_deep, is_one_hot, square_pair
from vemcompress.data.sets import ImageSet
from vemcompress.data.squares import PICTURES, load_square
from vemcompress.errors import InputError
from vemcompress.system import distributed

DEFAULT_BATCH, CUDA_BATCH = 8, 64
# Sixteen maps of 64 channels in float32, more than published generators hold at once at full resolution.
_BYTES_PER_PIXEL = 16 * 64 * 4

Item = TypeVar("Item")
OnBad = Callable[[ImageError], None]


class Sample(NamedTuple):
    """One image as read. Pictures are uint8, H x W x C; a one-hot label map has one channel. `truth` is the label
    map at its own size, uint8, H x W.
    """

    path: Path
    input: np.ndarray
    target: np.ndarray | None
    truth: np.ndarray | None


@dataclass
class Batch:
    """Input batches for evaluation.

    `x`: the network's input, B x Cin x H x W float32, pictures in [-1, 1], one-hot label maps of 0 and 1; or latent
    vectors, B x size; or None without input. `others`: images to compare with, by name; `target` are those of pairs,
    uint8, B x Cout x H x W. `truths`: label maps at their own sizes, uint8, H x W, if requested.
    """

    files: list[Path]
    x: Tensor | None
    others: dict[str, Tensor] = field(default_factory=dict)
    truths: Sequence[Tensor] = ()


class Samples:
    """The images of a set at its size, neither cropped nor flipped, for networks with these channels.

    `side` and `crop` are those of real images to compare with. With several ranks, each reads its share. Raises
    RecipeError or InputError if the images cannot have these channels.
    """

    def __init__(self, images: ImageSet, channels: tuple[int, int], *, truths: bool = False):
        self.pairs, self.size, self.paths = images.pairs, images.settings.size, images.paths
        self.side, self.crop = images.side, images.target_crop
        self._truths, self._input_crop, self._scale = truths, images.crop, images.scale
        self.channels = checked_pair_channels(self.pairs, channels) if self.pairs else channels
        if self.pairs is None and channels[0] not in PICTURES:
            raise InputError(
                f"this network needs {channels[0]} channels, but pictures have 1, 3 or 4; for label maps set "
                "data.kind=labels and data.classes, or use another network."
            )

    def read(self, index: int) -> Sample:
        """Read one image. Raises ImageError for a file that cannot be read, InputError for one that is not a pair or
        label map.
        """
        path = self.paths[index]
        if self.pairs is None:
            return Sample(path, load_square(path, self.size, self.channels[0], self._input_crop), None, None)
        sides = square_pair(self.pairs, index, self.size, self.channels, self._scale, self.crop)
        return Sample(path, *sides, self.pairs.ground_truth(index) if self._truths else None)

    def decoded(self, ahead: int, on_bad: OnBad) -> Iterator[Sample]:
        """All readable images of this rank's share, in order; unreadable ones are passed to `on_bad`."""
        return decoded(self.read, distributed.share(len(self.paths)), ahead, on_bad)

    def batches(self, batch: int, device: torch.device, on_bad: OnBad) -> Iterator[Batch]:
        """As `decoded`, in batches on the device."""
        for samples in _grouped(self.decoded(2 * batch, on_bad), batch):
            yield self.collate(samples, device)

    def collate(self, samples: Sequence[Sample], device: torch.device) -> Batch:
        inputs = stack([sample.input for sample in samples], device)
        one_hot = self.pairs is not None and is_one_hot(self.pairs)
        x = self.pairs.labels.one_hot(inputs[:, 0]) if one_hot else to_network(inputs)
        others = {"target": stack([sample.target for sample in samples], device)} if self.pairs else {}
        if self.pairs is not None and self.pairs.classes_are_target:
            others["target"] = (255 * self.pairs.labels.one_hot(others["target"][:, 0])).to(torch.uint8)
        elif self.pairs is not None and is_deep(self.pairs, self.channels):
            others["target"] = wide_tensor(*others["target"].unbind(1))[:, None]
        truths = [torch.from_numpy(sample.truth) for sample in samples if sample.truth is not None]
        return Batch([sample.path for sample in samples], x, others, truths)


class LatentSamples:
    """The first `count` latent vectors of a set and seed, with the interface of `Samples`; the "path" of a vector is
    its number.
    """

    pairs: ClassVar[None] = None

    def __init__(self, images: LatentSet, count: int, seed: int = 0):
        self.side, self.crop, self.paths = images.takes.image, images.settings.crop, range(count)
        self._vectors = images.vectors(count, seed)

    def decoded(self, ahead: int, on_bad: OnBad) -> Iterator[int]:
        """The numbers of this rank's share."""
        yield from distributed.share(len(self.paths))

    def batches(self, batch: int, device: torch.device, on_bad: OnBad) -> Iterator[Batch]:
        for numbers in _grouped(self.decoded(batch, on_bad), batch):
            yield self.collate(numbers, device)

    def collate(self, samples: Sequence[int], device: torch.device) -> Batch:
        return Batch([Path(f"z {number}") for number in samples], self._vectors[list(samples)].to(device))


def default_batch(device: torch.device, size: int | None) -> int:
    """The default batch size: 8, and on CUDA up to 64 as its free memory allows."""
    if device.type != "cuda":
        return DEFAULT_BATCH
    room = torch.cuda.mem_get_info(device)[0] // (_BYTES_PER_PIXEL * (size or 299) ** 2)
    return max(DEFAULT_BATCH, min(CUDA_BATCH, room))


def batches(
    paths: Sequence[Path],
    size: int | None,
    batch: int,
    on_bad: OnBad,
    device: torch.device | str = "cpu",
    crop: Crop = None,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Paths and their images, B x 3 x H x W uint8 RGB on `device`, in the given order.

    Images, or their central `crop`, are resized to `size` x `size`. With None they keep their size, and a batch ends
    where the size changes. An unreadable image is passed to `on_bad` and skipped.
    """

    def read(index: int) -> tuple[Path, np.ndarray]:
        image = middle(read_image(paths[index]), crop)
        return paths[index], image if size is None else to_square(image, size)

    for group in _grouped(decoded(read, range(len(paths)), 2 * batch, on_bad), batch, lambda item: item[1].shape):
        names, images = zip(*group, strict=True)
        yield list(names), stack(images, device)


def _grouped(items: Iterable[Item], most: int, kind: Callable[[Item], object] = lambda item: None) -> Iterator[list]:
    """Groups of at most `most` consecutive items of the same kind."""
    group: list[Item] = []
    for item in items:
        if group and kind(item) != kind(group[0]):
            yield group
            group = []
        group.append(item)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def decoded(read: Callable[[int], Item], indices: Iterable[int], ahead: int, on_bad: OnBad) -> Iterator[Item]:
    """read(i) for these indices, in order, with at most `ahead` (or two per thread) started. An ImageError is passed
    to `on_bad`.
    """
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
    """Stack uint8 arrays, each H x W x C, to B x C x H x W on the device."""
    device = torch.device(device)
    return moved(pinned(np.stack(images), device), device).permute(0, 3, 1, 2).contiguous()


def to_network(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
