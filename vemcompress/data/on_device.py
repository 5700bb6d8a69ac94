"""Batches made on a GPU from bytes: only these cross the bus, or nothing does where the images stay there."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.pair_stream import UnpairedStream, joined
from vemcompress.data.prefetch import Joined
from vemcompress.data.stream import ImageStream

# What a set may take of a GPU that has networks to hold.
SHARE, MOST_BYTES = 10, 4 << 30

Stream = ImageStream | UnpairedStream


class DeviceStream(Joined):
    """The batches of a stream, bit for bit the same, on `device`. `keep`: its images stay there, decoded once.

    What is read, decoded and drawn is the stream's own work, ahead in threads; the caller's thread alone talks to the
    device. Bad images, events and errors are the stream's.
    """

    def __init__(self, stream: Stream, device: torch.device, *, keep: bool):
        self._stream, self.parts = stream, stream.parts
        self.workers, self.epoch_length = stream.workers, stream.epoch_length
        self._feeds = [(Kept if keep else Sent)(part, device) for part in stream.parts]

    def keys(self, step: int) -> list[int]:
        """As ImageStream's."""
        return self._stream.keys(step)

    def _prepare(self, step: int) -> list:
        return [feed.prepare(step) for feed in self._feeds]

    def _deliver(self, prepared: list) -> Batch:
        return joined([feed.deliver(part) for feed, part in zip(self._feeds, prepared, strict=True)])


class Sent:
    """Feeds a device with the crops of every batch."""

    def __init__(self, stream: ImageStream, device: torch.device):
        self._stream, self._device = stream, device

    def prepare(self, step: int) -> tuple[Tensor, Tensor]:
        samples, index = self._stream._samples(step)
        return pinned(samples, self._device), pinned(index.numpy(), self._device)

    def deliver(self, prepared: tuple[Tensor, Tensor]) -> Batch:
        return self._stream._collate(*(moved(tensor, self._device) for tensor in prepared))


class Ticket(NamedTuple):
    """A batch to be cut on the device: `views` (B x 4, int64), and `images` that are not there yet: `fresh` are their
    numbers, in `places` as a tensor."""

    views: Tensor
    fresh: tuple[int, ...] = ()
    places: Tensor | None = None
    images: Tensor | None = None


class Kept:
    """Feeds a device with every image once, when a batch first shows it, and then with views alone."""

    def __init__(self, stream: ImageStream, device: torch.device):
        self._stream, self._device = stream, device
        shape = len(stream.paths), stream.load_size, stream.load_size, stream.depth
        self._images = torch.empty(shape, dtype=torch.uint8, device=device)
        self._there: set[int] = set()
        self._across = torch.arange(stream.size, device=device)

    def prepare(self, step: int) -> Ticket:
        views, fresh = [], {}
        for k in self._stream._numbers(step):
            index, image = self._stream._readable(k, self._there)
            views.append(self._stream._view(k, index))
            if image is not None:
                fresh[index] = image
        views = pinned(np.array(views, np.int64), self._device)
        if not fresh:
            return Ticket(views)
        # Batches ahead may bring the same image: whichever is delivered first needs it, and the bytes are the same.
        places, images = np.array(list(fresh), np.int64), np.stack(list(fresh.values()))
        return Ticket(views, tuple(fresh), pinned(places, self._device), pinned(images, self._device))

    def deliver(self, ticket: Ticket) -> Batch:
        if ticket.fresh:
            self._images.index_copy_(0, moved(ticket.places, self._device), moved(ticket.images, self._device))
            self._there.update(ticket.fresh)
            for index in ticket.fresh:
                self._stream._forget(index)
        views = moved(ticket.views, self._device)
        index, top, left, flipped = views[..., None].unbind(1)
        rows = top + self._across
        columns = left + torch.where(flipped > 0, self._across.flip(0), self._across)
        crops = self._images[index[..., None], rows[:, :, None], columns[:, None, :]]
        return self._stream._collate(crops, views[:, 0])


def on_device(stream: Stream, device: torch.device | None, where: str) -> Stream | DeviceStream:
    """The stream for a run on `device`: on CUDA batches are made there, and with `where` "auto" the images are kept
    there if they take at most a tenth of its free memory and 4 GiB. Others stay as they are, and so do those whose
    images differ in size."""
    if device is None or device.type != "cuda" or not all(part.uniform for part in stream.parts):
        return stream
    room = min(torch.cuda.mem_get_info(device)[0] // SHARE, MOST_BYTES)
    return DeviceStream(stream, device, keep=where == "auto" and stream.nbytes <= room)


def pinned(array: np.ndarray, device: torch.device) -> Tensor:
    """In memory that a GPU can copy from while both go on."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it. The caller may drop `tensor` at once: PyTorch gives pinned memory out
    again only after the copies that were issued from it are done."""
    return tensor.to(device, non_blocking=True)
