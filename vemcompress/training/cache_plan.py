"""Before a teacher's outputs are kept: how large that becomes, what they are of, and whether the disk has the room."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vemcompress import launch
from vemcompress.algorithms.omgd import OMGD
from vemcompress.errors import OutputError, RecipeError
from vemcompress.recipe import Recipe
from vemcompress.training.records import Records
from vemcompress.training.teacher_cache import Event, Layout, TeacherCache
from vemcompress.weights.files import output_error, write_atomically

VERSION, MANIFEST, VIEWS = 1, "manifest.json", "views.bin"


@dataclass(frozen=True)
class CachePlan:
    """A cache before it is there: how large it can become, and what it is of. `identity` has plain values."""

    layout: Layout
    images: int
    views: int
    identity: dict

    @classmethod
    def of(cls, plan: Recipe, algorithm: OMGD, example: Tensor, paths: Sequence[Path], teacher: str) -> "CachePlan":
        """For a resolved recipe. The teacher, whose file's SHA-256 is `teacher`, is asked once, for `example`.

        Raises RecipeError where several processes share the run.
        """
        if launch.processes() > 1:
            raise RecipeError(
                "train.teacher_cache is for one process, not for several; start or resume the run without torchrun."
            )
        layout, views = Layout.of(algorithm.taught(example)), plan.train.teacher_cache
        identity = {
            "version": VERSION,
            "teacher": plan.teacher.model_dump(mode="json", include={"class_path", "norm"}) | {"sha256": teacher},
            "precision": plan.train.precision,
            "seed": plan.train.seed,
            "data": plan.data.model_dump(mode="json", exclude={"roots", "workers", "on_device"}),
            "images": _fingerprint(paths),
            "views": views,
            "record": {"shape": list(layout.shape), "dtype": str(layout.dtype), "taps": layout.taps},
        }
        return cls(layout, len(paths), views, identity)

    @property
    def bytes(self) -> int:
        """Of the whole cache."""
        return Records.length(self.images * self.views, self.layout.size)

    def check_room(self, folder: Path) -> dict:
        """What is said of the size before the start, as an event. Raises OutputError where the disk has no room."""
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
        """The cache in `folder`; what is there already is used if it is of the same. Raises OutputError."""
        manifest, views = folder / MANIFEST, folder / VIEWS
        try:
            folder.mkdir(exist_ok=True)
            if _read(manifest) != self.identity:
                if views.exists():
                    message = f"{folder}: is of another teacher, precision or set of images, and is made anew."
                    on_event({"event": "warning", "message": message})
                views.unlink(missing_ok=True)  # before the manifest says that it is of this one
                write_atomically(manifest, (json.dumps(self.identity, indent=2) + "\n").encode())
        except OSError as error:
            raise output_error(folder, error) from error
        cache = TeacherCache(Records(views, self.images * self.views, self.layout.size), self.layout, keys, on_event)
        try:
            yield cache
        finally:
            cache.close()


def _fingerprint(paths: Sequence[Path]) -> str:
    """Names of the images in their order, by which views are known, with sizes and times of change."""
    return hashlib.sha256("\n".join(f"{path.name} {_state(path)}" for path in paths).encode()).hexdigest()


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


def _occupied(path: Path) -> int:
    """Bytes on disk, of a file that is sparse or absent."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _read(manifest: Path) -> dict | None:
    try:
        return json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
