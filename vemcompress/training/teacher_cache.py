"""What a frozen teacher makes of a fixed set of views, kept on disk: from the second time on it is not asked again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from vemcompress.algorithms.omgd import Taught
from vemcompress.errors import OutputError
from vemcompress.training.records import Records

Event = Callable[[dict], None]


@dataclass(frozen=True)
class Layout:
    """One view's record: its taps' means, float32, by name and number of channels; then the image as it was made.

    `shape` is C x H x W. In bfloat16 an image is half as large, and nothing is lost, since the teacher made it so.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    taps: dict[str, int]

    @classmethod
    def of(cls, taught: Taught) -> "Layout":
        made, means = taught
        return cls(tuple(made.shape[1:]), made.dtype, {name: mean.shape[1] for name, mean in means.items()})

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return 4 * sum(self.taps.values()) + prod(self.shape) * self.dtype.itemsize

    def pack(self, taught: Taught) -> list[bytes]:
        """A batch as records. One copy from a GPU, which waits for it."""
        made, means = taught
        parts = [*(means[name] for name in self.taps), made]
        flat = torch.cat([part.detach().contiguous().flatten(1).view(torch.uint8) for part in parts], 1).cpu()
        return [row.tobytes() for row in flat.numpy()]

    def unpack(self, records: Sequence[bytearray], device: torch.device) -> Taught:
        """Records as a batch, with its channels together; on a GPU, which does not wait for it."""
        flat = torch.stack([torch.frombuffer(record, dtype=torch.uint8) for record in records])
        flat = flat.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else flat.to(device)
        of_taps = [4 * count for count in self.taps.values()]
        *means, made = flat.split([*of_taps, self.size - sum(of_taps)], 1)
        made = made.contiguous().view(self.dtype).unflatten(1, self.shape)
        made = made.contiguous(memory_format=torch.channels_last)
        named = zip(self.taps, means, strict=True)
        return made, {name: mean.contiguous().view(torch.float32)[:, :, None, None] for name, mean in named}


class TeacherCache:
    """OMGD's `recall`: a batch from disk, or from the teacher where one of its views is not there.

    The teacher is asked for the whole batch, not for the missing views alone: what a network makes of an image can
    differ in the last bit with the number of images beside it, and that number never changes within a run. `keys`
    gives the views of a step, counted from 0. Where the disk is full the cache is removed, so that the run itself can
    be saved, and the run goes on without.
    """

    def __init__(self, records: Records, layout: Layout, keys: Callable[[int], list[int]], on_event: Event):
        self.records: Records | None = records
        self.layout, self.keys, self.on_event = layout, keys, on_event

    def __call__(self, step: int, images: Tensor, ask: Callable[[Tensor], Taught]) -> Taught:
        if self.records is None:
            return ask(images)
        keys = self.keys(step - 1)
        found = [self.records.read(key) for key in keys]
        if None not in found:
            return self.layout.unpack(found, images.device)
        taught = ask(images)
        made = zip(keys, self.layout.pack(taught), found, strict=True)
        self._keep({key: record for key, record, old in made if old is None})
        return taught

    def close(self) -> None:
        if self.records is not None:
            self.records.close()

    def _keep(self, records: dict[int, bytes]) -> None:
        try:
            for key, record in records.items():
                self.records.write(key, record)
        except OutputError as error:
            self.records.remove()
            self.records = None
            message = f"the teacher's cache is removed, and the run goes on without: {error}"
            self.on_event({"event": "warning", "message": message})
