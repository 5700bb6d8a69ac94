"""Batches assembled on a GPU from bytes: only bytes are transferred, or nothing if the images are kept on the GPU."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.pair_stream import UnpairedStream, joined
from vemcompress.data.prefetch import Joined
from vemcompress.data.stream import ImageStream

# The largest share of a GPU's memory for a data set.
SHARE, MOST_BYTES = 10, 4 << 30

Stream = ImageStream | UnpairedStream


class DeviceStream(Joined):
    """The batches of a stream, identical to the last bit, on `device`. `keep`: whether its images stay there, decoded
    once.

    Reading, decoding and random draws are done by the stream, ahead in threads; only the caller's thread uses the
    device. Bad images, events and errors are handled by the stream.
    """

    def __init__(self, stream: Stream, device: torch.device, *, keep: bool):
        self._stream, self.parts = stream, stream.parts
        self.workers, self.epoch_length = stream.workers, stream.epoch_length
        self._feeds = [(Kept if keep else Sent)(part, device) for part in stream.parts]

    def keys(self, step: int) -> list[int]:
        """As in ImageStream."""
        return self._stream.keys(step)

    def _prepare(self, step: int) -> list:
        return [feed.prepare(step) for feed in self._feeds]

    def _deliver(self, prepared: list) -> Batch:
        return joined([feed.deliver(part) for feed, part in zip(self._feeds, prepared, strict=True)])


class Sent:
    """Sends the crops of every batch to a device."""

    def __init__(self, stream: ImageStream, device: torch.device):
        self._stream, self._device = stream, device

    def prepare(self, step: int) -> tuple[Tensor, Tensor]:
        samples, index = self._stream._samples(step)
        return pinned(samples, self._device), pinned(index.numpy(), self._device)

    def deliver(self, prepared: tuple[Tensor, Tensor]) -> Batch:
        return self._stream._collate(*(moved(tensor, self._device) for tensor in prepared))


class Ticket(NamedTuple):
    """A batch to be cut on the device. `views`: B x 4, int64. `images`: those that are not on the device yet;
    `fresh` are their numbers, and `places` the same as a tensor.
    """

    views: Tensor
    fresh: tuple[int, ...] = ()
    places: Tensor | None = None
    images: Tensor | None = None


class Kept:
    """Sends every image to a device once, when a batch first uses it, and then only views."""

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
        # Several prepared batches may bring the same image: the first one delivered needs it, and the bytes are the
        # same.
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
    """The stream for a run on `device`. On CUDA, batches are assembled there. With `where` "auto" the images are
    kept there if they need at most a tenth of its free memory and 4 GiB. Other streams are returned unchanged, as
    are those whose images differ in size.
    """
    if device is None or device.type != "cuda" or not all(part.uniform for part in stream.parts):
        return stream
    room = min(torch.cuda.mem_get_info(device)[0] // SHARE, MOST_BYTES)
    return DeviceStream(stream, device, keep=where == "auto" and stream.nbytes <= room)


def pinned(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor in pinned memory, from which a GPU can copy asynchronously."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without blocking. The caller may drop `tensor` at once: PyTorch reuses pinned memory only
    after copies from it have finished.
    """
    return tensor.to(device, non_blocking=True)
