"""The images of a recipe's data, of any kind: for training, for pictures and for evaluation."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vemcompress.data import degrade
from vemcompress.data.enlarged import EnlargedStream
from vemcompress.data.folders import Found, Listing, find_images, find_test_images, is_twice_as_wide
from vemcompress.data.images import RANDOM, Crop, shorter_side, size_of, why_unreadable
from vemcompress.data.machine import default_workers
from vemcompress.data.on_device import on_device
from vemcompress.data.pair_stream import PairStream, UnpairedStream, is_one_hot, test_pairs
from vemcompress.data.pairs import Pairs, Unpaired, find_pairs
from vemcompress.data.settings import DataSettings
from vemcompress.data.stream import ImageStream, test_batch
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent

HELD_OUT_SHARE, HELD_OUT_MOST, HELD_OUT_FROM = 20, 64, 80
LOOKED_AT = 32  # photos whose size is checked
DECODED_BYTES, OPENED = 16 << 20, 10_000  # small sets are decoded before a run; for others, headers are read


@dataclass(frozen=True)
class Singles:
    """Images without partners, such as the inputs of a frozen teacher."""

    inputs: tuple[Path, ...]
    used: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.inputs)


class Views(NamedTuple):
    """A few images at their full square: inputs B x Cin x H x W, and for pairs the targets B x Cout x H x W."""

    inputs: Tensor
    targets: Tensor | None


@dataclass(frozen=True)
class ImageSet:
    """One split of a recipe's data. `found` lists the files. `settings` says how they are read, with the size of
    inputs; targets have `scale` times that size.
    """

    settings: DataSettings
    found: Singles | Pairs | Unpaired
    scale: int = 1

    @property
    def side(self) -> int:
        """The side of the images to generate, in pixels."""
        return self.scale * self.settings.size

    @property
    def crop(self) -> Crop:
        """The central crop of inputs for pictures and evaluation."""
        return self.settings.size if self.settings.crop == RANDOM else self.settings.crop

    @property
    def target_crop(self) -> Crop:
        """As `crop`, for images of the kind to generate."""
        return self.side if self.settings.crop == RANDOM else self.settings.crop

    @property
    def count(self) -> int:
        """Images per epoch: those of the larger domain if there are two."""
        return self.found.count

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the inputs, in order."""
        return tuple(self.found.inputs)

    @property
    def pairs(self) -> Pairs | None:
        """The pairs, if every input has its ground truth."""
        return self.found if isinstance(self.found, Pairs) else None

    @property
    def scores(self) -> bool:
        """Whether networks output class scores instead of pictures."""
        return self.pairs is not None and self.pairs.classes_are_target

    @property
    def samples(self) -> list[tuple[Path, ...]]:
        """The files of every sample; with two domains each image is a sample."""
        match self.found:
            case Pairs(side_by_side=False):
                return list(zip(self.found.a, self.found.b, strict=True))
            case Unpaired():
                return [(path,) for path in (*self.found.a, *self.found.b)]
        return [(path,) for path in self.found.inputs]

    def unreadable(self) -> dict[Path, str]:
        """The files that are not images, with the reasons. Large files are opened but not decoded. With over 10,000
        files nothing is checked, because it would take minutes.
        """
        files = list(dict.fromkeys(path for sample in self.samples for path in sample))
        if len(files) > OPENED:
            return {}
        whole = sum(map(size_of, files)) <= DECODED_BYTES
        with ThreadPoolExecutor(self.settings.workers or default_workers()) as pool:
            reasons = pool.map(partial(why_unreadable, whole=whole), files)
            return {path: reason for path, reason in zip(files, reasons, strict=True) if reason}

    def readable(self, unreadable: Collection[Path], inputs_only: bool = False) -> int:
        """`count` without these files; with `inputs_only`, the number of inputs without these files."""
        if isinstance(self.found, Unpaired) and inputs_only:
            return sum(path not in unreadable for path in self.found.inputs)
        if isinstance(self.found, Unpaired):
            return max(sum(path not in unreadable for path in side) for side in (self.found.a, self.found.b))
        return sum(not any(path in unreadable for path in sample) for sample in self.samples)

    def channels(self) -> tuple[int, int]:
        """Channels of input and output according to the files."""
        return self.pairs.channels if self.pairs else (3, 3)

    def stream(
        self,
        channels: tuple[int, int],
        batch: int,
        seed: int,
        on_event: Event = silent,
        device: torch.device | None = None,
        views: int = 0,
    ):
        """Training batches (`data.batch.Batch`): images, pairs, or two domains; see `stream`.

        On a GPU `device` batches are assembled there (`on_device`), otherwise on the CPU.
        """
        options = self.settings.model_dump(include={"size", "load_size", "flip", "workers"})
        options |= {"batch": batch, "share": distributed.share(batch), "seed": seed, "views": views}
        options |= {"middle": self.settings.crop, "on_event": on_event}
        match self.found:
            case Pairs() if self.scale > 1 or self.found.degraded or self.settings.crop == RANDOM:
                stream = EnlargedStream(self.found, scale=self.scale, channels=channels, **options)
            case Pairs():
                stream = PairStream(self.found, channels=channels, **options)
            case Unpaired():
                stream = UnpairedStream(self.found, channels=channels, **options)
            case _:
                stream = ImageStream(self.found.inputs, channels=channels[0], **options)
        return on_device(stream, device, self.settings.on_device)

    def views(self, channels: tuple[int, int], count: int | None = None, on_event: Event | None = None) -> Views:
        """The first `count` readable images (None: all), neither cropped nor flipped."""
        size = self.settings.size
        if self.pairs:
            return Views(*test_pairs(self.pairs, size, channels, count, on_event, self.scale, self.target_crop))
        return Views(test_batch(self.found.inputs, size, channels[0], count, on_event, self.crop), None)

    def examples(self, channels: tuple[int, int], count: int, on_event: Event | None = None) -> Tensor:
        """The first real images of the kind that a teacher should generate: targets, or the other domain's."""
        if isinstance(self.found, Unpaired):
            return test_batch(self.found.targets, self.side, channels[1], count, on_event, self.target_crop)
        if self.pairs is None:
            return test_batch(self.found.inputs, self.side, channels[1], count, on_event, self.target_crop)
        return self.views(channels, count, on_event).targets

    def picture(self, inputs: Tensor) -> Tensor:
        """Inputs as pictures, B x 1 or 3 x H x W in [-1, 1]: one-hot label maps in colours."""
        if not (self.pairs and is_one_hot(self.pairs)):
            return inputs
        labels = inputs.argmax(1).masked_fill(inputs.sum(1) == 0, 255).cpu().numpy().astype(np.uint8)
        return torch.from_numpy(self.pairs.labels.colours(labels)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def inputs_alone(self) -> "ImageSet":
        """The same inputs without partners."""
        return replace(self, found=Singles(self.paths, self.found.used))

    def split_off(self) -> tuple["ImageSet", "ImageSet | None"]:
        """The training images, and the held-out ones, spread evenly over the list; None if none are held out.

        Of two domains only the inputs' domain is divided.
        """
        total = len(self.found.inputs)
        wanted = self.settings.held_out
        if wanted is None:
            wanted = min(total // HELD_OUT_SHARE, HELD_OUT_MOST) if total >= HELD_OUT_FROM else 0
        wanted = min(wanted, total - 1)
        if wanted < 1:
            return self, None
        out = _spread(total, wanted)
        return self._subset([i for i in range(total) if i not in out]), self._subset(out)

    def turned(self) -> "ImageSet":
        """The same images of two domains, in the other direction."""
        back = "BtoA" if self.found.direction == "AtoB" else "AtoB"
        return replace(self, found=replace(self.found, direction=back))

    def halves(self) -> tuple["ImageSet", "ImageSet"]:
        """The first half of the list and the second; of two domains only the inputs' is divided. Raises InputError."""
        total = len(self.found.inputs)
        if total < 2:
            raise InputError("this method divides the images into two halves, and there is only one; give more images.")
        return self._subset(list(range(total // 2))), self._subset(list(range(total // 2, total)))

    def spread(self, count: int) -> "ImageSet":
        """The same images, with `count` that are spread evenly over the list first, because neighbours are often
        similar.
        """
        total = len(self.found.inputs)
        first = _spread(total, min(count, total))
        return self._subset(first + [i for i in range(total) if i not in first])

    def _subset(self, indices: list[int]) -> "ImageSet":
        def pick(files: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(files[i] for i in indices)

        match self.found:
            case Pairs(a=a, b=b):
                found = replace(self.found, a=pick(a), b=pick(b))
            case Unpaired(a=a, b=b, direction="AtoB"):
                found = replace(self.found, a=pick(a))
            case Unpaired(b=b):
                found = replace(self.found, b=pick(b))
            case _:
                found = replace(self.found, inputs=pick(self.found.inputs))
        return replace(self, found=found)


def _spread(total: int, count: int) -> list[int]:
    return sorted({int((i + 0.5) * total / count) for i in range(count)})


def training_set(
    settings: DataSettings, *, second_domain: bool = True, scale: int = 1, on_event: Event | None = None
) -> ImageSet:
    """The images of `settings.split` under `settings.roots`; of two domains only the inputs unless `second_domain`.
    `scale`: the factor by which the generators enlarge.

    Raises UsageError if there is no root, InputError, and RecipeError for label settings.
    """
    if not settings.roots:
        raise UsageError("no data: give --data DIR, a folder of images.")
    images = ImageSet(settings, _found(settings, settings.split, find_images, scale, on_event), scale)
    if on_event and images.pairs and images.pairs.degraded:
        _warn_of_small(images, on_event)
    if on_event and images.pairs and images.pairs.side_by_side and not is_twice_as_wide(images.paths):
        message = "these images are cut into two halves, A and B, but are not twice as wide as high; check data.kind."
        on_event({"event": "warning", "message": message})
    if on_event and isinstance(images.found, Singles) and is_twice_as_wide(images.paths):
        message = "these images are twice as wide as high; if they are pairs side by side, set data.kind=paired."
        on_event({"event": "warning", "message": message})
    return images.inputs_alone() if settings.kind == "unpaired" and not second_domain else images


def _warn_of_small(images: ImageSet, on_event: Event) -> None:
    """Warn if photos must be enlarged to become the ground truth, judging by a few of them."""
    looked = images.spread(min(LOOKED_AT, images.count)).paths[:LOOKED_AT]
    sides = [side for path in looked if (side := shorter_side(path)) is not None]
    if small := [side for side in sides if side < images.side]:
        message = (
            f"{len(small)} of {len(sides)} checked photos are smaller than {images.side} px, down to "
            f"{min(small)}, and are enlarged to become the ground truth, which trains blurry images; lower data.size."
        )
        on_event({"event": "warning", "message": message})


def test_set(settings: DataSettings, split: str = "test", on_event: Event | None = None, *, scale: int = 1) -> ImageSet:
    """The test images under `settings.roots`, or the validation images if there are none; `found.used` says which."""
    if settings.kind == "single" and split == "test":
        split = "testA"
    return ImageSet(settings, _found(settings, split, find_test_images, scale, on_event), scale)


test_set.__test__ = False  # not a test: without this, pytest would collect it where it is imported


def _found(
    settings: DataSettings, split: str, find: Callable[..., Found], scale: int, on_event: Event | None
) -> Singles | Pairs | Unpaired:
    """`find` lists single images. Raises RecipeError if a degradation does not fit the scale."""
    listed = Listing(settings.recursive, on_event)
    made = degrade.parse(settings.degrade) if settings.degrade else None
    if made is not None and made.scale != scale:
        advice = f"bicubic{scale}" if made.scale == 1 else "another generator, or another degradation"
        raise RecipeError(
            f"data.degrade {settings.degrade!r:.80}: divides the sides of photos by {made.scale}, but this "
            f"generator multiplies them by {scale}; use {advice}."
        )
    if settings.kind == "single":
        found = find(settings.roots, split, listed=listed)
        if made is not None:
            paths = tuple(found.paths)
            return Pairs("paired", "AtoB", paths, paths, found.used, degraded=made)
        return Singles(tuple(found.paths), found.used)
    if scale > 1 and settings.kind != "paired":
        raise RecipeError(
            f"data.kind '{settings.kind}': a generator that enlarges {scale} times needs single images, or pairs whose "
            "targets are larger by that factor; set data.kind."
        )
    labels = settings.model_dump(include={"classes", "void", "label_input", "label_target", "ids"})
    return find_pairs(settings.roots, split, settings.kind, settings.direction, listed=listed, **labels)
