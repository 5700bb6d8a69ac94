"""Training batches of pairs whose sides differ in size, or whose input is a degraded copy of the target."""

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.images import RANDOM, ImageError
from vemcompress.data.pair_stream import PairStream, degraded, square_sides
from vemcompress.data.pairs import Pairs
from vemcompress.data.squares import to_tensor, whole
from vemcompress.errors import RecipeError

DEGRADED = 9  # purpose of a random generator, as those in stream.py


class EnlargedStream(PairStream):
    """Batches of `input`, B x Cin x size x size, and `target`, B x Cout x scale size x scale size, float32 in [-1, 1].

    The crops of input and target correspond, and share one flip. If photos become pairs, a crop of the target is
    degraded, differently at each sample, depending on the seed and the sample's number. With `middle` "random" images
    keep their own size, and the target must be `scale` times as large as the input.
    """

    uniform = False

    def __init__(self, pairs: Pairs, *, scale: int = 1, **options):
        self.scale = scale
        super().__init__(pairs, **options)
        if pairs.wide and self.pair_channels[1] == 1:
            raise RecipeError(
                "16-bit targets are resized as a whole; omit data.crop, and use a generator that does not enlarge."
            )

    @property
    def depth(self) -> int:
        inputs, targets = self.pair_channels
        return targets * self.scale**2 + (0 if self.pairs.degraded else inputs)

    def _load(self, index: int) -> np.ndarray:
        """The input, followed by the channels of the target's pixels at the position of each input pixel."""
        if self.middle == RANDOM:
            sides = self._natural(index)
        else:
            sides = square_sides(self.pairs, index, self.load_size, self.pair_channels, self.scale, self.middle)
        parts = [] if sides[0] is None else [sides[0]]
        return np.concatenate([*parts, folded(sides[1], self.scale)], axis=2)

    def _natural(self, index: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Both sides at their own sizes, with the target cut to a multiple of the scale. Raises ImageError."""
        (inputs, targets), scale = self.pair_channels, self.scale
        given, target = self.pairs.read(index, self.pair_channels)
        if self.pairs.degraded:
            target = whole(target, scale * self.size, targets)
            height, width = (side // scale * scale for side in target.shape[:2])
            return None, target[:height, :width]
        if tuple(scale * side for side in given.shape[:2]) != target.shape[:2]:
            sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in (given, target)]
            told = f"its pair has {sizes[0]} and {sizes[1]} px, which must differ by a factor of {scale}"
            raise ImageError(self.paths[index], told)
        if min(given.shape[:2]) < self.size:
            raise ImageError(self.paths[index], f"smaller than data.size {self.size}")
        return whole(given, 1, inputs), whole(target, 1, targets)

    def _sample(self, k: int) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
        index, image = self._readable(k)
        view = self._view(k, index, image.shape[:2])
        image = image[view.top : view.top + self.size, view.left : view.left + self.size]
        own = image.shape[2] - self.pair_channels[1] * self.scale**2
        target = unfolded(image[:, :, own:], self.scale)
        target = target[:, ::-1] if view.flipped else target
        if self.pairs.degraded:
            chance = (self.seed, DEGRADED, *((index, self._number(k)) if self.views else (k,)))
            given = degraded(self.pairs, target, np.random.default_rng(chance), self.pair_channels)
        else:
            given = image[:, ::-1, :own] if view.flipped else image[:, :, :own]
        return index, (given, target)

    def _samples(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray], Tensor]:
        indices, samples = zip(*(self._sample(k) for k in self._numbers(step)), strict=True)
        inputs, targets = (np.stack(side) for side in zip(*samples, strict=True))
        return (inputs, targets), torch.tensor(indices)

    def _collate(self, samples: tuple[np.ndarray, np.ndarray], index: Tensor) -> Batch:
        return Batch(to_tensor(samples[0]), to_tensor(samples[1]), index=index)


def folded(image: np.ndarray, scale: int) -> np.ndarray:
    """scale H x scale W x C to H x W x scale^2 C: the pixels of each square become the channels of one pixel."""
    height, width, channels = image.shape
    squares = image.reshape(height // scale, scale, width // scale, scale, channels)
    return squares.swapaxes(1, 2).reshape(height // scale, width // scale, scale**2 * channels)


def unfolded(image: np.ndarray, scale: int) -> np.ndarray:
    """The inverse of `folded`."""
    height, width, channels = image.shape
    squares = image.reshape(height, width, scale, scale, channels // scale**2)
    return squares.swapaxes(1, 2).reshape(scale * height, scale * width, channels // scale**2)
