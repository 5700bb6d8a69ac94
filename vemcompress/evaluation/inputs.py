"""What networks are fed with in an evaluation: the images of a set in batches, with their ground truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vemcompress.data.pair_stream import checked_pair_channels, is_one_hot, square_pair
from vemcompress.data.sets import ImageSet
from vemcompress.data.squares import load_square
from vemcompress.errors import InputError
from vemcompress.evaluation.batches import OnBad, decoded, stack, to_network
from vemcompress.system import distributed


class Sample(NamedTuple):
    """One image as read: pictures uint8, H x W x C; a one-hot label map keeps one channel. `truth` is the label map
    at its own size, uint8, H x W."""

    path: Path
    input: np.ndarray
    target: np.ndarray | None
    truth: np.ndarray | None


@dataclass
class Batch:
    """`x`: B x Cin x H x W float32, pictures in [-1, 1], one-hot label maps of 0 and 1. `targets`: the other sides of
    pairs, uint8, B x Cout x H x W. `truths`: label maps at their own sizes, uint8, H x W, where they were asked for."""

    files: list[Path]
    x: Tensor
    targets: Tensor | None
    truths: list[Tensor]


class Inputs:
    """The images of a set at its size, neither cropped nor flipped, for networks of these channels.

    Raises RecipeError or InputError where the images cannot have so many channels.
    """

    def __init__(self, images: ImageSet, channels: tuple[int, int], *, truths: bool = False):
        self.pairs, self.size, self.paths = images.pairs, images.settings.size, images.paths
        self._truths = truths
        self.channels = checked_pair_channels(self.pairs, channels) if self.pairs else channels
        if self.pairs is None and channels[0] not in (1, 3):
            raise InputError(
                f"this network takes {channels[0]} channels, and pictures have 1 or 3; for label maps set "
                "data.kind=labels and data.classes, or give another network."
            )

    def read(self, index: int) -> Sample:
        """Raises ImageError for a file that cannot be read, InputError for one that is no pair or label map."""
        path = self.paths[index]
        if self.pairs is None:
            return Sample(path, load_square(path, self.size, self.channels[0]), None, None)
        sides = square_pair(self.pairs, index, self.size, self.channels)
        return Sample(path, *sides, self.pairs.ground_truth(index) if self._truths else None)

    def samples(self, ahead: int, on_bad: OnBad) -> Iterator[Sample]:
        """All of this rank's share that can be read, in order; the others are given to `on_bad`."""
        return decoded(self.read, distributed.share(len(self.paths)), ahead, on_bad)

    def batches(self, batch: int, device: torch.device, on_bad: OnBad) -> Iterator[Batch]:
        """As `samples`, in batches on the device."""
        waiting: list[Sample] = []
        for sample in self.samples(2 * batch, on_bad):
            waiting.append(sample)
            if len(waiting) == batch:
                yield self.collate(waiting, device)
                waiting = []
        if waiting:
            yield self.collate(waiting, device)

    def collate(self, samples: list[Sample], device: torch.device) -> Batch:
        inputs = stack([sample.input for sample in samples], device)
        one_hot = self.pairs is not None and is_one_hot(self.pairs)
        x = self.pairs.labels.one_hot(inputs[:, 0]) if one_hot else to_network(inputs)
        targets = stack([sample.target for sample in samples], device) if self.pairs else None
        truths = [torch.from_numpy(sample.truth) for sample in samples if sample.truth is not None]
        return Batch([sample.path for sample in samples], x, targets, truths)


def channels_of(network: nn.Module, images: ImageSet) -> tuple[int, int]:
    """Channels that a network takes and gives; where it does not tell, those of the images."""
    natural = images.channels()
    told = getattr(network, "config", None) or network
    return tuple(getattr(told, name, n) for name, n in zip(("in_channels", "out_channels"), natural, strict=True))
