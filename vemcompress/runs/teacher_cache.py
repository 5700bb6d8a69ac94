"""A disk cache of a frozen teacher's outputs for a fixed set of views. Each view is computed once."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from vemcompress.errors import OutputError, RecipeError
from vemcompress.runs.records import Records
from vemcompress.system import launch
from vemcompress.system.events import Event
from vemcompress.system.files import output_error, read_json, write_atomically

Taught = tuple[Tensor, dict[str, Tensor]]  # a frozen teacher's images, and its taps or their means over pixels


@dataclass(frozen=True)
class Layout:
    """The layout of one view's record: its taps, float32, by name and shape; then the image.

    `shape` is the image's C x H x W. Taps are C x 1 x 1 if their means suffice, otherwise whole maps. An image that the
    teacher computed in bfloat16 is stored in bfloat16, at half the size and without loss.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    taps: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, taught: Taught) -> "Layout":
        made, taps = taught
        return cls(tuple(made.shape[1:]), made.dtype, {name: tuple(tap.shape[1:]) for name, tap in taps.items()})

    @property
    def size(self) -> int:
        """Bytes per record."""
        return 4 * sum(map(prod, self.taps.values())) + prod(self.shape) * self.dtype.itemsize

    def as_dict(self) -> dict:
        """The layout as plain values. Taps that are means are described by their number of channels."""
        taps = {name: shape[0] if shape[1:] == (1, 1) else list(shape) for name, shape in self.taps.items()}
        return {"shape": list(self.shape), "dtype": str(self.dtype), "taps": taps}

    def pack(self, taught: Taught) -> list[bytes]:
        """A batch as records, with one synchronous copy from a GPU."""
        made, taps = taught
        parts = [*(taps[name] for name in self.taps), made]
        flat = torch.cat([part.detach().contiguous().flatten(1).view(torch.uint8) for part in parts], 1).cpu()
        return [row.tobytes() for row in flat.numpy()]

    def unpack(self, records: Sequence[bytearray], device: torch.device) -> Taught:
        """Records as a batch, in the channels_last format, with an asynchronous copy to a GPU."""
        flat = torch.stack([torch.frombuffer(record, dtype=torch.uint8) for record in records])
        flat = flat.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else flat.to(device)
        of_taps = [4 * prod(shape) for shape in self.taps.values()]
        *taps, made = flat.split([*of_taps, self.size - sum(of_taps)], 1)
        made = made.contiguous().view(self.dtype).unflatten(1, self.shape)
        made = made.contiguous(memory_format=torch.channels_last)
        floats = (tap.contiguous().view(torch.float32) for tap in taps)
        maps = {name: part.unflatten(1, shape) for (name, shape), part in zip(self.taps.items(), floats, strict=True)}
        return made, {name: tap.contiguous(memory_format=torch.channels_last) for name, tap in maps.items()}


class TeacherCache:
    """A frozen teacher's `recall`: a batch from disk, or from the teacher if one of its views is not stored yet.

    The teacher computes the whole batch, not only the missing views: its outputs can differ in the last bit with the
    batch size, and the batch size never changes within a run. `keys` gives the views of a step, counted from 0. If the
    disk is full, the cache is removed so that the run itself can be saved, and the run continues without it.
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
            message = f"the teacher's cache is removed, and the run continues without it: {error}"
            self.on_event({"event": "warning", "message": message})


VERSION, MANIFEST, VIEWS = 1, "manifest.json", "views.bin"


@dataclass(frozen=True)
class CachePlan:
    """The plan of a cache: how large it can become, and what it stores. `identity` has plain values."""

    layout: Layout
    images: int
    views: int
    identity: dict

    @classmethod
    def of(cls, made_by: dict, views: int, example: Taught, paths: Sequence[Path]) -> "CachePlan":
        """The plan for this number of `views` of each image.

        `made_by` has, as plain values, what else determines the outputs (teacher, precision, seed, data). `example` is
        the teacher's output for one input. Raises RecipeError if several processes share the run.
        """
        if launch.processes() > 1:
            raise RecipeError(
                "train.teacher_cache works with one process only; start or resume the run without torchrun."
            )
        layout = Layout.of(example)
        identity = {"version": VERSION, **made_by, "images": _fingerprint(paths), "views": views}
        identity["record"] = layout.as_dict()
        return cls(layout, len(paths), views, identity)

    @property
    def bytes(self) -> int:
        """Bytes of the whole cache."""
        return Records.length(self.images * self.views, self.layout.size)

    def check_room(self, folder: Path) -> dict:
        """The event that reports the size before the start. Raises OutputError if the disk does not have enough
        space."""
        occupied = _occupied(folder / VIEWS)
        free = shutil.disk_usage(next(p for p in (folder, *folder.resolve().parents) if p.is_dir())).free
        if self.bytes - occupied > free:
            raise OutputError(
                f"{folder}: the teacher's cache needs up to {(self.bytes - occupied) / 2**20:,.1f} MiB more for "
                f"{self.images} images x {self.views} views, and {free / 2**20:,.1f} MiB are free; free some space, or "
                "start a run with a lower train.teacher_cache."
            )
        figures = {"images": self.images, "views": self.views, "bytes": self.bytes, "kept": occupied, "free": free}
        return {"event": "teacher_cache", "path": str(folder), **figures}

    @contextmanager
    def opened(self, folder: Path, keys: Callable[[int], list[int]], on_event: Event) -> Iterator["TeacherCache"]:
        """Open the cache in `folder`. An existing one is used if it has the same identity. Raises OutputError."""
        manifest, views = folder / MANIFEST, folder / VIEWS
        try:
            folder.mkdir(exist_ok=True)
            if _read(manifest) != self.identity:
                if views.exists():
                    message = f"{folder}: was made from another teacher, precision or set of images, and is replaced."
                    on_event({"event": "warning", "message": message})
                views.unlink(missing_ok=True)  # before the manifest is written
                write_atomically(manifest, (json.dumps(self.identity, indent=2) + "\n").encode())
        except OSError as error:
            raise output_error(folder, error) from error
        cache = TeacherCache(Records(views, self.images * self.views, self.layout.size), self.layout, keys, on_event)
        try:
            yield cache
        finally:
            cache.close()


def _fingerprint(paths: Sequence[Path]) -> str:
    """The images' names in order, with sizes and modification times. They identify the views."""
    return hashlib.sha256(
        "\n".join(f"{path.name} {_state(path)}" for path in paths).encode("utf-8", "surrogateescape")
    ).hexdigest()


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


def _occupied(path: Path) -> int:
    """Bytes on disk of a file, which may be sparse or missing."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _read(manifest: Path) -> dict | None:
    try:
        return read_json(manifest)
    except (OSError, ValueError):
        return None
