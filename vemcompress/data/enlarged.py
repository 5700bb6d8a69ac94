"""Training batches of pairs whose sides differ in size, or of which a degradation makes the input."""

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.images import RANDOM, ImageError
from vemcompress.data.pair_stream import PairStream, degraded, square_sides
from vemcompress.data.pairs import Pairs
from vemcompress.data.squares import to_tensor, whole
from vemcompress.errors import RecipeError

DEGRADED = 9  # beside stream.py's purposes of a random generator


class EnlargedStream(PairStream):
    """Batches of `input`, B x Cin x size x size, and `target`, B x Cout x scale size x scale size, float32 in [-1, 1].

    A crop of the input and the crop of the target belong together, and share one flip. Of photos that become pairs a
    crop of the target is degraded, anew at each sample, by the seed and the sample's number. With `middle` "random"
    files keep their own size, and the target's must be `scale` times the input's.
    """

    uniform = False

    def __init__(self, pairs: Pairs, *, scale: int = 1, **options):
        self.scale = scale
        super().__init__(pairs, **options)
        if pairs.wide and self.pair_channels[1] == 1:
            raise RecipeError(
                "16-bit targets are resized as a whole; leave data.crop out, for a generator that does not enlarge."
            )

    @property
    def depth(self) -> int:
        inputs, targets = self.pair_channels
        return targets * self.scale**2 + (0 if self.pairs.degraded else inputs)

    def _load(self, index: int) -> np.ndarray:
        """The input, and behind its channels those of the target's pixels that lie where each of its own does."""
        if self.middle == RANDOM:
            sides = self._natural(index)
        else:
            sides = square_sides(self.pairs, index, self.load_size, self.pair_channels, self.scale, self.middle)
        parts = [] if sides[0] is None else [sides[0]]
        return np.concatenate([*parts, folded(sides[1], self.scale)], axis=2)

    def _natural(self, index: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Both sides at their own sizes, the target cut to a multiple of the scale. Raises ImageError."""
        (inputs, targets), scale = self.pair_channels, self.scale
        given, target = self.pairs.read(index, self.pair_channels)
        if self.pairs.degraded:
            target = whole(target, scale * self.size, targets)
            height, width = (side // scale * scale for side in target.shape[:2])
            return None, target[:height, :width]
        if tuple(scale * side for side in given.shape[:2]) != target.shape[:2]:
            sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in (given, target)]
            told = f"its pair has {sizes[0]} and {sizes[1]} px, which must differ by {scale} times"
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
    """scale H x scale W x C to H x W x scale^2 C: the pixels of a square as the channels of one."""
    height, width, channels = image.shape
    squares = image.reshape(height // scale, scale, width // scale, scale, channels)
    return squares.swapaxes(1, 2).reshape(height // scale, width // scale, scale**2 * channels)


def unfolded(image: np.ndarray, scale: int) -> np.ndarray:
    """The way back."""
    height, width, channels = image.shape
    squares = image.reshape(height, width, scale, scale, channels // scale**2)
    return squares.swapaxes(1, 2).reshape(scale * height, scale * width, channels // scale**2)
