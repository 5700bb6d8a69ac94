"""Latent vectors as a run's data, with real images beside them if given; the interface is that of `sets.ImageSet`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.latents import draw
from vemcompress.data.machine import default_workers
from vemcompress.data.prefetch import Stream
from vemcompress.data.sets import HELD_OUT_MOST, ImageSet, Views
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent

HELD_OUT, SHOWN, TEST = 1, 2, 4  # added to a seed's purpose: vectors that training never draws
VECTORS = "vectors"  # the name of such vectors in protocols of scores


class LatentStream(Stream):
    """Batches whose `input` is latent vectors, B x size, and whose `real` is the images of another stream, if given.

    Sample k of a run has vector number k of its seed; `batch` and `share` are as in ImageStream.
    """

    def __init__(
        self, takes, images: Stream | None, *, batch: int, share: range, seed: int, workers: int | None = None
    ):
        self.takes, self.images = takes, images
        self.batch_size, self.share, self.seed = batch, share, seed
        self.workers = images.workers if images is not None else workers or default_workers()
        self.epoch_length = images.epoch_length if images is not None else 1.0

    @property
    def paths(self) -> list[Path]:
        return self.images.paths if self.images is not None else []

    @property
    def skipped(self) -> dict[Path, str]:
        return self.images.skipped if self.images is not None else {}

    def _prepare(self, step: int) -> tuple[Tensor, Any]:
        numbers = range(step * self.batch_size + self.share.start, step * self.batch_size + self.share.stop)
        z = torch.from_numpy(draw(self.takes.prior, self.takes.size, self.seed, numbers))
        return z, None if self.images is None else self.images._prepare(step)

    def _deliver(self, prepared: tuple[Tensor, Any]) -> Batch:
        z, images = prepared
        return Batch(z, real=None if images is None else self.images._deliver(images).input)

    def _report(self) -> None:
        if self.images is not None:
            self.images._report()


@dataclass(frozen=True)
class LatentSet:
    """`takes` describes the vectors, `real` holds the real images. `purpose` is 0 for the training vectors. `least`
    is the number of vectors if there are no real images to count.
    """

    settings: DataSettings
    takes: Any
    real: ImageSet | None
    purpose: int = 0
    least: int = HELD_OUT_MOST

    pairs: ClassVar[None] = None
    scores: ClassVar[bool] = False

    @property
    def count(self) -> int:
        """Real images per epoch; 0 without real images."""
        return self.real.count if self.real is not None else 0

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.real.paths if self.real is not None else ()

    def channels(self) -> tuple[int, int]:
        """The size of a vector, and the channels of the real images."""
        return self.takes.size, 3

    def unreadable(self) -> dict[Path, str]:
        return self.real.unreadable() if self.real is not None else {}

    def readable(self, unreadable: Collection[Path], inputs_only: bool = False) -> int:
        return self.real.readable(unreadable, inputs_only) if self.real is not None else 0

    def stream(
        self,
        channels: tuple[int, int],
        batch: int,
        seed: int,
        on_event: Event = silent,
        device: torch.device | None = None,
        views: int = 0,
    ) -> LatentStream:
        images = None
        if self.real is not None:
            images = self.real.stream((channels[1], channels[1]), batch, seed, on_event, device)
        share, workers = distributed.share(batch), self.settings.workers
        return LatentStream(self.takes, images, batch=batch, share=share, seed=seed, workers=workers)

    def vectors(self, count: int, seed: int = 0) -> Tensor:
        """The first `count` of this set's own vectors."""
        own = int(np.random.SeedSequence((seed, self.purpose)).generate_state(1)[0]) if self.purpose else seed
        return torch.from_numpy(draw(self.takes.prior, self.takes.size, own, range(count)))

    def views(self, channels: tuple[int, int], count: int | None = None, on_event: Event | None = None) -> Views:
        return Views(self.vectors(self.least if count is None else count), None)

    def examples(self, channels: tuple[int, int], count: int, on_event: Event | None = None) -> Tensor:
        """The first real images. Raises InputError if there are none."""
        if self.real is None:
            raise InputError("no real images to measure features on; give --data DIR.")
        return self.real.views((channels[1], channels[1]), count, on_event).inputs

    def split_off(self) -> tuple["LatentSet", "LatentSet | None"]:
        """The training set, and held-out vectors and real images that training never uses; None if the recipe holds
        out none.
        """
        learn_on, held_out = self.real.split_off() if self.real is not None else (None, None)
        if self.settings.held_out == 0:
            return replace(self, real=learn_on), None
        found = replace(self, real=learn_on)
        return found, found.unseen(held_out)

    def unseen(self, real: ImageSet | None) -> "LatentSet":
        """Vectors that training never draws, as many as these real images, or a default number without them."""
        least = real.count if real is not None else self.settings.held_out or HELD_OUT_MOST
        return replace(self, real=real, purpose=HELD_OUT, least=least)

    def spread(self, count: int) -> "LatentSet":
        """Vectors for pictures, the same at every step."""
        return replace(self, purpose=self.purpose + SHOWN)
