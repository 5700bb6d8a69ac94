"""Training batches as a pure function of (seed, step), so that a resumed run gets the same batches as an uninterrupted
one.

The augmentation of CycleGAN and OMGD: resize to 286/256 of the size, bicubic; random crop; flip with p = 0.5.
"""

import functools
import threading
from collections import deque
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.images import RANDOM, Crop, ImageError, read_image, tell_notes
from vemcompress.data.machine import default_cache, default_workers
from vemcompress.data.prefetch import Stream
from vemcompress.data.squares import checked_channels, load_square, test_batch, to_tensor, whole
from vemcompress.data.vanished import Vanished
from vemcompress.errors import InputError, RecipeError
from vemcompress.system.events import Event, silent

__all__ = ["ImageStream", "test_batch"]

ORDER, AUGMENTATION, FIXED_VIEW = 0, 1, 4  # purposes of a random generator, as part of its seed


class View(NamedTuple):
    """The view of a sample: image number `index` of the paths, from pixel `top`, `left` on, mirrored or not."""

    index: int
    top: int
    left: int
    flipped: bool


class ImageStream(Stream):
    """Batches whose `input` is images, B x channels x size x size, float32 in [-1, 1]; `channels` is 3 (RGB), 1, or 4
    for files with four.

    Sample k = step * batch + j is number k mod N of epoch k div N, a permutation of the N paths. An unreadable image is
    replaced by the next readable one in that epoch's order, listed in `skipped` with the reason, and reported once as
    an event {"event": "skipped", "path", "reason"}, from the thread that asks for batches. If more than one in ten (and
    more than one) of the initially readable images are lost, batches end with InputError.

    `batch` is the global batch size; `share` is this rank's part of it, by default all. `load_size` is the square that
    images are resized to before the crop, by default size * 286 / 256, or `size` if `crop` is off. Resized images are
    cached in memory up to `cache_bytes`, so that each is decoded once. The number of bytes and of threads (`workers`)
    adapts to the machine if None. Neither changes a batch.

    `middle`: the part of each image that is used before resizing, `data.crop`. With "random" there is no resizing: an
    image smaller than `size` is enlarged to it, and `load_size` has no effect.

    `views`: 0 crops and flips every sample again each time, as published. N > 0 gives each image N fixed views, which
    depend only on the seed, the image and the view; epoch e uses view e mod N. This augmentation is weaker than the
    published one: from epoch N on nothing new is seen. `keys` identifies the views.
    """

    noun, augmentation = "images", AUGMENTATION
    uniform = True  # all images have the same size when they are cut, from the bytes that make a batch

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        size: int,
        load_size: int | None = None,
        flip: bool = True,
        crop: bool = True,
        batch: int,
        share: range | None = None,
        seed: int,
        channels: int = 3,
        cache_bytes: int | None = None,
        workers: int | None = None,
        views: int = 0,
        middle: Crop = None,
        on_event: Event = silent,
    ):
        if not paths:
            raise InputError("no images to train on; give at least one folder of images.")
        self.paths, self.size, self.flip, self.middle = [Path(p) for p in paths], size, flip, middle
        self.load_size = _load_size(size, load_size, crop)
        self.uniform = self.uniform and middle != RANDOM
        self.batch_size, self.seed, self.views = batch, seed, views
        self.share = range(batch) if share is None else share
        self.workers, self.epoch_length = workers or default_workers(), len(paths) / batch
        self.channels = checked_channels(channels)
        self.skipped: dict[Path, str] = {}
        self._vanished = Vanished(self._files())
        self._tell, self._untold = on_event, deque()
        self._bad: set[int] = set()
        self._cache: dict[int, np.ndarray] = {}
        self._room = default_cache() if cache_bytes is None else cache_bytes
        self._lock = threading.Lock()
        self._order = functools.lru_cache(maxsize=4)(self._permutation)

    @property
    def parts(self) -> "tuple[ImageStream, ...]":
        """The streams that a batch is assembled from."""
        return (self,)

    @property
    def depth(self) -> int:
        """Bytes per pixel of a cached image."""
        return self.channels

    @property
    def nbytes(self) -> int:
        """Bytes of all images, resized."""
        return len(self.paths) * self.load_size**2 * self.depth

    def keys(self, step: int) -> list[int]:
        """The keys, image * views + view, of the samples of a step. Its batch must have been made first, because
        only then the unreadable images are known.
        """
        shown = {k: next(i for i in self._candidates(k) if i not in self._bad) for k in self._numbers(step)}
        return [index * self.views + self._number(k) for k, index in shown.items()]

    def _prepare(self, step: int) -> Batch:
        return self._collate(*self._samples(step))

    def _numbers(self, step: int) -> range:
        """This rank's samples in a step's batch, counted from the first sample of the run."""
        start = step * self.batch_size
        return range(start + self.share.start, start + self.share.stop)

    def _collate(self, samples: np.ndarray | Tensor, index: Tensor) -> Batch:
        """A batch from the bytes of its samples, B x size x size x depth; a tensor stays on its device."""
        return Batch(to_tensor(samples), index=index)

    def _samples(self, step: int) -> tuple[np.ndarray, Tensor]:
        """The bytes of a step's samples, B x size x size x depth, and the indices of their images, B, int64."""
        indices, samples = zip(*(self._sample(k) for k in self._numbers(step)), strict=True)
        return np.stack(samples), torch.tensor(indices)

    def _sample(self, k: int) -> tuple[int, np.ndarray]:
        index, image = self._readable(k)
        view = self._view(k, index, image.shape[:2])
        image = image[view.top : view.top + self.size, view.left : view.left + self.size]
        return index, image[:, ::-1] if view.flipped else image

    def _view(self, k: int, index: int, sides: tuple[int, int] | None = None) -> View:
        """Crop and flip of sample k, which uses image `index` with these sides."""
        chance = (FIXED_VIEW, index, self._number(k)) if self.views else (self.augmentation, k)
        rng = np.random.default_rng((self.seed, *chance))
        height, width = sides or (self.load_size, self.load_size)
        top, left = rng.integers(0, (height - self.size + 1, width - self.size + 1))
        return View(index, int(top), int(left), bool(self.flip and rng.random() < 0.5))

    def _number(self, k: int) -> int:
        """The number of the fixed view of sample k: each epoch uses the next, so all are used equally often."""
        return k // len(self.paths) % self.views

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, ORDER, epoch)).permutation(len(self.paths))

    def _candidates(self, k: int) -> Iterator[int]:
        """The image of sample k, and its replacements in order if it cannot be read."""
        epoch, position = divmod(k, len(self.paths))
        order = self._order(epoch)
        return (int(order[(position + shift) % len(order)]) for shift in range(len(order)))

    def _readable(self, k: int, elsewhere: Container[int] = ()) -> tuple[int, np.ndarray | None]:
        """The index of the image for sample k, and the image; None instead of an image that is kept elsewhere."""
        for index in self._candidates(k):
            if index in elsewhere:
                return index, None
            image = self._image(index)
            if image is not None:
                return index, image
        path, reason = next(iter(self.skipped.items()))
        raise InputError(
            f"none of {len(self.paths)} {self.noun} can be read (the first, {path}: {reason}); give other images."
        )

    def _files(self) -> list[tuple[Path, ...]]:
        """The files of each sample."""
        return [(path,) for path in self.paths]

    def _load(self, index: int) -> np.ndarray:
        if self.middle == RANDOM:
            return whole(read_image(self.paths[index], self.channels), self.size, self.channels)
        return load_square(self.paths[index], self.load_size, self.channels, self.middle)

    def _image(self, index: int) -> np.ndarray | None:
        image = self._cache.get(index)
        if image is not None or index in self._bad:
            return image
        try:
            image = self._load(index)
        except ImageError as error:
            self._vanished.check(index, error)
            with self._lock:
                self._bad.add(index)
                if error.path not in self.skipped:
                    self.skipped[error.path] = error.reason
                    self._untold.append({"event": "skipped", "path": str(error.path), "reason": error.reason})
            return None
        with self._lock:
            if index not in self._cache and image.nbytes <= self._room:
                self._cache[index] = image
                self._room -= image.nbytes
        return image

    def _forget(self, index: int) -> None:
        """Free an image that is kept elsewhere from now on."""
        with self._lock:
            image = self._cache.pop(index, None)
            self._room += 0 if image is None else image.nbytes

    def _report(self) -> None:
        while self._untold:
            self._tell(self._untold.popleft())
        tell_notes(self._tell)


def _load_size(size: int, load_size: int | None, crop: bool) -> int:
    if load_size is None:
        return round(size * 286 / 256) if crop else size
    if load_size < size:
        raise RecipeError(
            f"images resized to {load_size} px cannot be cropped to {size} px; lower data.size or raise data.load_size."
        )
    if load_size > size and not crop:
        raise RecipeError(
            f"load_size {load_size} is larger than size {size} but crop is off; turn it on or omit load_size."
        )
    return load_size
