"""Photos of any size through a generator: an .onnx file with ONNX Runtime alone, or a PyTorch model."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.data.images import EXTENSIONS, ImageError, read_image, save_png, tell_notes
from vemcompress.data.listing import list_images
from vemcompress.errors import InputError, MemoryExhausted, OutputError, UsageError
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.session import open_onnx
from vemcompress.system.events import Event, silent
from vemcompress.weights.trust import named


@dataclass
class GenerateResult:
    """What was written, what was skipped and why, and how long the networks ran (seconds, without files)."""

    written: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    seconds: float = 0.0
    assumed: str = ""

    def as_dict(self) -> dict:
        """For --json."""
        return {
            "written": [str(path) for path in self.written],
            "skipped": {str(path): reason for path, reason in self.skipped.items()},
            "seconds": self.seconds,
            "assumed": self.assumed,
        }


def generate(
    model_path: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch: int = 1,
    device: str = "cpu",
    size: int | tuple[int, int] | None = None,
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    widths: str | None = None,
    recursive: bool = False,
    on_event: Event = silent,
) -> GenerateResult:
    """Run a photo, or every photo of a folder, through a model, and write PNG files of the photos' sizes.

    `output` is a folder (created), or for one photo a .png file. `size` resizes first: a number is the shorter side,
    a pair height and width, in pixels. Photos of equal size that follow each other run together, up to `batch`.
    A model of one fixed size gets photos resized to it, and its pictures are resized back. A run that learnt to draw
    from label maps is given label maps; a network of the user's own class needs `teacher_class`, and `teacher_key` is
    the name of the generator in a file that has several; `widths` gives a supernet's sub-network. `recursive`: photos
    in sub-folders too, whose pictures go into equal ones. Unreadable photos are skipped and named in the result. No
    input file is overwritten.

    Raises InputError (4: model or photos unreadable, none left), UsageError (2), OutputError (9), MemoryExhausted (6: a
    photo that memory cannot hold is not begun).
    """
    _check_numbers(batch, size)
    if str(model_path).lower().endswith(".onnx"):
        model = open_onnx(model_path, device=device)
    else:
        from vemcompress.export.torch_model import open_torch  # torch takes seconds, and a device may not have it

        labels = _labels_of(Path(model_path))
        with named(teacher_class):
            about = {"class_path": teacher_class, "key": teacher_key, "widths": widths}
            model = open_torch(model_path, device=device, labels=labels, **about, on_event=on_event)
    plan = _plan(Path(input), Path(output), recursive, on_event)
    result = GenerateResult(assumed=model.assumed)
    if model.assumed:
        on_event({"event": "assumed", "model": str(model_path), "assumed": model.assumed})
    try:
        limit = _memory_limit(model, device)
        for group in _groups(_photos(plan, size, model, limit, result, on_event), batch):
            tell_notes(on_event)
            limit.check(str(input), *group[0][1].shape[:2], len(group), "use a smaller --batch, or --size")
            start = time.perf_counter()
            pictures = _apply(model, np.stack([photo for _, photo in group]))
            result.seconds += time.perf_counter() - start
            for (target, _), picture in zip(group, pictures, strict=True):
                save_png(target, picture[:, :, 0] if picture.shape[2] == 1 else picture)
                result.written.append(target)
                on_event({"event": "generated", "done": len(result.written), "total": len(plan), "path": str(target)})
    except MemoryError as error:
        raise MemoryExhausted(
            f"{input}: not enough memory for these photos; use a smaller --size or --batch."
        ) from error
    if not result.written:
        source, reason = next(iter(result.skipped.items()))
        raise InputError(f"{input}: none of the {len(plan)} images can be read; the first, {source.name}: {reason}.")
    return result


def _labels_of(run: Path):
    """How the label maps are read that a run's network draws from; None where it draws from photos, or is no run."""
    if not (run / "recipe.toml").is_file():
        return None
    from vemcompress.data.labels import label_maps
    from vemcompress.recipe import read

    data = read(run / "recipe.toml").data
    if data.kind != "labels" or data.direction != "BtoA":
        return None
    return label_maps(data.classes, data.void, data.label_input, data.ids or "index")


Named = tuple[Path, np.ndarray]


def _photos(
    plan: list[tuple[Path, Path]], size, model, limit: MemoryLimit, result: GenerateResult, tell
) -> Iterator[Named]:
    """Each readable photo, resized, in the model's colours, with its target; the others are put down as skipped."""
    labels = getattr(model, "labels", None)
    for source, target in plan:
        try:
            photo = read_image(source) if labels is None else labels.read(source)
        except ImageError as error:
            result.skipped[source] = error.reason
            tell({"event": "skipped", "path": str(source), "reason": error.reason})
            continue
        limit.check(str(source), *_target(photo.shape[:2], size))
        if labels is None:
            yield target, _colours(_resized(photo, size), model.channels)
        else:
            yield target, _resized(photo, size, Image.Resampling.NEAREST)[:, :, None]


def _memory_limit(model, device: str) -> MemoryLimit:
    def run(side: int) -> None:
        model(np.zeros((1, side, side, model.channels), np.uint8))

    return MemoryLimit(run, on_cpu=device.startswith("cpu") and model.fixed_size is None)


def _groups(photos: Iterator[Named], batch: int) -> Iterator[list[Named]]:
    """Neighbours of equal size, at most `batch` of them."""
    group: list[Named] = []
    for target, photo in photos:
        if group and (len(group) == batch or group[0][1].shape != photo.shape):
            yield group
            group = []
        group.append((target, photo))
    if group:
        yield group


def _check_numbers(batch: int, size: int | tuple[int, int] | None) -> None:
    if batch < 1:
        raise UsageError(f"batch {batch}: give a whole number of at least 1.")
    if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
        raise UsageError(f"size {size}: give a number of pixels of at least 1.")


def _plan(source: Path, output: Path, recursive: bool, tell) -> list[tuple[Path, Path]]:
    """Each photo with the file it becomes; every check that needs no pixel."""
    try:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder; check the path.")
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check its permissions.") from error
    to_file = output.suffix.lower() in EXTENSIONS and not _is_folder(output)
    if source.is_dir():
        photos, folder = list_images(source, recursive=recursive, on_event=tell), output
        if to_file:
            raise UsageError(f"{output}: looks like a file, but {source} is a folder; give a folder for the pictures.")
        plan = [(photo, folder / name) for photo, name in zip(photos, _named(source, photos), strict=True)]
    else:
        if to_file and output.suffix.lower() != ".png":
            raise UsageError(f"{output}: pictures are written as PNG; give a name ending in .png, or a folder.")
        folder = output.parent if to_file else output
        plan = [(source, output if to_file else folder / f"{source.stem}.png")]
    home = (source if source.is_dir() else source.parent).resolve()
    inputs = {photo.resolve() for photo, _ in plan}
    for _, target in plan:
        if target.resolve() in inputs or (folder.resolve() == home and target.exists()):
            raise UsageError(f"{target}: exists beside the photos and would be overwritten; give another folder.")
    _check_writable(folder)
    return plan


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # where one may not look, `_check_writable` says so
        return False


def _check_writable(folder: Path) -> None:
    """Refuse before any network runs; the folder itself is made with the first picture, by `save_png`."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{folder}: cannot be made ({reason}); choose another place.") from error
    if nearest == folder and not nearest.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder for the pictures.")
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be made ({nearest} is a file); choose another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place.")


def _named(source: Path, photos: list[Path]) -> list[Path]:
    """The pictures' names, with the folders that the photos lie in below the source."""
    inside: dict[Path, list[Path]] = {}
    for photo in photos:
        inside.setdefault(photo.parent, []).append(photo)
    named = {}
    for parent, some in inside.items():
        named |= {p: parent.relative_to(source) / name for p, name in zip(some, _names(some), strict=True)}
    return [named[photo] for photo in photos]


def _names(photos: list[Path]) -> list[str]:
    """a.jpg becomes a.png; where that is not alone (a.jpg and a.png, on any file system), a.jpg.png, a.jpg.2.png ..."""
    stems = [photo.stem.casefold() for photo in photos]
    count = Counter(stems)
    names, taken = [], {f"{stem}.png" for stem in stems if count[stem] == 1}
    for photo, stem in zip(photos, stems, strict=True):
        name = f"{photo.stem}.png"
        if count[stem] > 1:
            name, number = f"{photo.name}.png", 1
            while name.casefold() in taken:
                number += 1
                name = f"{photo.name}.{number}.png"
            taken.add(name.casefold())
        names.append(name)
    return names


def _resized(photo: np.ndarray, size: int | tuple[int, int] | None, how=Image.Resampling.BICUBIC) -> np.ndarray:
    size = _target(photo.shape[:2], size)
    if size == photo.shape[:2]:
        return photo
    return np.array(Image.fromarray(photo).resize((size[1], size[0]), how))


def _target(shape: tuple[int, int], size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width that a photo of this shape is resized to."""
    if not isinstance(size, int):
        return size or shape
    scale = size / min(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _colours(photo: np.ndarray, channels: int) -> np.ndarray:
    return photo if channels == 3 else np.array(Image.fromarray(photo).convert("L"))[:, :, None]


def _apply(model, photos: np.ndarray) -> np.ndarray:
    """uint8 N x H x W x C through the model; one of a fixed size sees them resized, and its pictures come back."""
    if model.fixed_size is None or photos.shape[1:3] == model.fixed_size:
        return model(photos)

    def each(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        flat = [image[:, :, 0] if image.shape[2] == 1 else image for image in images]
        return np.stack([_resized(image, size).reshape(*size, -1) for image in flat])

    return each(model(each(photos, model.fixed_size)), photos.shape[1:3])
