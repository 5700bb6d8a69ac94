"""Training batches of pairs, and of two unpaired domains; as in `stream.py`, pure functions of (seed, step)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.depth import wide_square, wide_tensor
from vemcompress.data.images import Crop, middle
from vemcompress.data.indices import nearest_square
from vemcompress.data.machine import default_cache
from vemcompress.data.pairs import Pairs, Unpaired
from vemcompress.data.prefetch import Joined
from vemcompress.data.squares import checked_channels, first_readable, square_of, to_tensor
from vemcompress.data.stream import ImageStream
from vemcompress.errors import RecipeError
from vemcompress.system.events import Event

DRAW, AUGMENTATION_B = 2, 3  # purposes of a random generator, as those in stream.py


class PairStream(ImageStream):
    """Batches of `input` and `target`, float32: B x Cin x size x size and B x Cout x size x size.

    Pictures are in [-1, 1], and 16-bit greys are used at full precision as targets with one channel. One-hot label maps
    are 0 and 1 as input, -1 and 1 as targets; label maps may also be colour pictures. Both sides of a pair share one
    crop and one flip, after resizing: pictures bicubic, label maps by nearest neighbour. If one side of a pair cannot
    be read, the whole pair is replaced. `channels`: the network's input and output channels, by default those of the
    pairs. Options and events are as in ImageStream.
    """

    noun = "pairs"

    def __init__(self, pairs: Pairs, *, channels: tuple[int, int] | None = None, **options):
        self.pairs, self.pair_channels = pairs, checked_pair_channels(pairs, channels)
        super().__init__(pairs.inputs, **options)

    @property
    def depth(self) -> int:
        return sum(_kept(self.pairs, self.pair_channels))

    def _files(self) -> list[tuple[Path, ...]]:
        return list(zip(self.pairs.a, self.pairs.b, strict=True))

    def _load(self, index: int) -> np.ndarray:
        return np.concatenate(square_pair(self.pairs, index, self.load_size, self.pair_channels), axis=2)

    def _collate(self, samples: np.ndarray | Tensor, index: Tensor) -> Batch:
        depth, _ = _kept(self.pairs, self.pair_channels)
        sides = samples[..., :depth], samples[..., depth:]
        return Batch(*to_tensors(self.pairs, *sides, self.pair_channels), index=index)


class UnpairedStream(Joined):
    """Batches of two domains, A as `input` and B as `real`, each as in ImageStream and augmented separately.

    A follows the order of its epochs. B is drawn at random for every sample, as in CycleGAN, with the same seed.
    `epoch_length` counts the larger domain.
    """

    def __init__(
        self, domains: Unpaired, *, channels: tuple[int, int] = (3, 3), cache_bytes: int | None = None, **options
    ):
        share = {"cache_bytes": (default_cache() if cache_bytes is None else cache_bytes) // 2, **options}
        self.a = ImageStream(domains.inputs, channels=channels[0], **share)
        self.b = _DrawnStream(domains.targets, channels=channels[1], **{**share, "views": 0})
        self.parts = self.a, self.b
        self.workers, self.epoch_length = self.a.workers, domains.count / self.a.batch_size

    def keys(self, step: int) -> list[int]:
        """As in ImageStream, for A: B has no fixed views."""
        return self.a.keys(step)

    def _prepare(self, step: int) -> Batch:
        return joined([part._prepare(step) for part in self.parts])


def joined(parts: Sequence[Batch]) -> Batch:
    """The batch of a stream from those of its parts: of one, or of each domain."""
    first, *others = parts
    return Batch(first.input, real=others[0].input, index=first.index) if others else first


class _DrawnStream(ImageStream):
    """Sample k is a random image, determined by the seed and k. An image that cannot be read is replaced by the next
    in the list.
    """

    augmentation = AUGMENTATION_B

    def _candidates(self, k: int) -> Iterator[int]:
        count = len(self.paths)
        drawn = int(np.random.default_rng((self.seed, DRAW, k)).integers(count))
        return ((drawn + shift) % count for shift in range(count))


def test_pairs(
    pairs: Pairs,
    size: int,
    channels: tuple[int, int] | None = None,
    count: int | None = None,
    on_event: Event | None = None,
    scale: int = 1,
    crop: Crop = None,
) -> tuple[Tensor, Tensor]:
    """The first `count` readable pairs (None: all), neither cropped nor flipped: (input, target), as `square_pair`.

    Raises InputError if none can be read.
    """
    channels = checked_pair_channels(pairs, channels)
    read = first_readable(
        range(pairs.count), count, lambda i: square_pair(pairs, i, size, channels, scale, crop), "pairs", on_event
    )
    inputs, targets = zip(*read, strict=True)
    return to_tensors(pairs, np.stack(inputs), np.stack(targets), channels)


test_pairs.__test__ = False  # not a test: without this, pytest would collect it where it is imported


def square_pair(
    pairs: Pairs, index: int, size: int, channels: tuple[int, int], scale: int = 1, crop: Crop = None
) -> tuple[np.ndarray, np.ndarray]:
    """The input, size x size x C, and the target, `scale` times as large, of a pair, uint8. A label map that becomes
    one-hot has one channel. `crop`: the central crop of the target, in its own pixels, and of the input accordingly.
    A photo is degraded in the same way every time.
    """
    given, target = square_sides(pairs, index, size, channels, scale, crop)
    if given is None:
        given = degraded(pairs, target, np.random.default_rng((index, size)), channels)
    return given, target


def square_sides(
    pairs: Pairs, index: int, size: int, channels: tuple[int, int], scale: int = 1, crop: Crop = None
) -> tuple[np.ndarray | None, np.ndarray]:
    """As `square_pair`; the input is None if a degradation makes it from the target."""
    sides: list[np.ndarray | None] = []
    for side, wanted, larger in zip(pairs.read(index, channels), channels, (1, scale), strict=True):
        if pairs.degraded and not sides:
            sides.append(None)
        elif side.dtype == np.uint16:
            sides.append(wide_square(side, larger * size))
        elif side.ndim == 3:
            own = crop * larger // scale if isinstance(crop, int) else crop
            sides.append(square_of(middle(side, own), larger * size, wanted))
        else:
            labels = nearest_square(side, size)
            one_hot = pairs.classes_are_target if sides else is_one_hot(pairs)
            sides.append(labels[:, :, None] if one_hot else pairs.labels.colours(labels))
    return sides[0], sides[1]


def degraded(pairs: Pairs, target: np.ndarray, random: np.random.Generator, channels: tuple[int, int]) -> np.ndarray:
    """A degraded target with the channels of the input: grey from colours, or grey as RGB."""
    image = pairs.degraded.apply(target, random)
    if image.shape[2] == channels[0]:
        return image
    return square_of(image, len(image), 1) if channels[0] == 1 else np.repeat(image, channels[0], 2)


def is_one_hot(pairs: Pairs) -> bool:
    """Whether the inputs are label maps that become one channel per class."""
    return pairs.labels_are_input and pairs.labels.input == "onehot"


def _kept(pairs: Pairs, channels: tuple[int, int]) -> tuple[int, int]:
    """Bytes per pixel of `square_pair`'s input and target."""
    targets = 1 if pairs.classes_are_target else 2 if is_deep(pairs, channels) else channels[1]
    return 1 if is_one_hot(pairs) else channels[0], targets


def is_deep(pairs: Pairs, channels: tuple[int, int]) -> bool:
    """Whether the targets for these channels are 16-bit greys, stored as two bytes."""
    return pairs.wide and channels[1] == 1


def to_tensors(
    pairs: Pairs, inputs: np.ndarray | Tensor, targets: np.ndarray | Tensor, channels: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Stacks of `square_pair` as float32, B x C x H x W."""
    given = pairs.labels.one_hot(inputs[..., 0]) if is_one_hot(pairs) else to_tensor(inputs)
    if pairs.classes_are_target:
        return given, 2 * pairs.labels.one_hot(targets[..., 0]) - 1
    if is_deep(pairs, channels):
        return given, wide_tensor(*torch.as_tensor(targets).unbind(3))[:, None]
    return given, to_tensor(targets)


def checked_pair_channels(pairs: Pairs, channels: tuple[int, int] | None) -> tuple[int, int]:
    """`channels` of the network's input and output, if they fit the pairs; pictures have 1, 3 or 4.

    Raises RecipeError for label maps that do not fit the network, InputError for pictures.
    """
    if channels is None:
        return pairs.channels
    if pairs.labels_are_input and channels[0] != pairs.channels[0]:
        hint = "data.classes" if pairs.labels.input == "onehot" else "data.label_input"
        raise RecipeError(
            f"label maps as {pairs.labels.input} have {pairs.channels[0]} channels, but the network needs "
            f"{channels[0]}; set {hint}, or use another network."
        )
    if pairs.labels and not pairs.labels_are_input and channels[1] != pairs.channels[1]:
        what = f"{pairs.channels[1]} channels, one for each class" if pairs.classes_are_target else "RGB pictures"
        raise RecipeError(
            f"label maps as targets are {what}, but the network's output has {channels[1]} channels; set "
            "data.direction, or data.label_target and data.classes."
        )
    for side, labelled in zip(channels, (pairs.labels_are_input, pairs.classes_are_target), strict=True):
        if not labelled:
            checked_channels(side)
    return channels
