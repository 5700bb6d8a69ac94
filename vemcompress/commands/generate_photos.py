"""`generate` from photos: run photos of any size through an opened image-to-image model."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.commands.pictures import GenerateResult, check_writable, is_file_name
from vemcompress.data.images import ImageError, read_image, resized, save_png, tell_notes
from vemcompress.data.listing import list_images
from vemcompress.errors import InputError, MemoryExhausted, UsageError
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.tiles import Tiled
from vemcompress.system.events import Event


def run_photos(
    model,
    input: Path,
    output: Path,
    *,
    batch: int,
    size: int | tuple[int, int] | None,
    recursive: bool,
    result: GenerateResult,
    tell: Event,
) -> None:
    """Run the photos of `input` through an opened model, and record the results in `result`. Raises as `generate`."""
    plan = _plan(input, output, recursive, tell)
    try:
        limit = _memory_limit(model)
        for group in _groups(_photos(plan, size, model, limit, result, tell), batch):
            tell_notes(tell)
            limit.check(str(input), *_at_once(model, group[0][1].shape), len(group), "use a smaller --batch, or --size")
            start = time.perf_counter()
            pictures = _apply(model, np.stack([photo for _, photo in group]))
            result.seconds += time.perf_counter() - start
            result.images += len(group)
            for (target, _), picture in zip(group, pictures, strict=True):
                save_png(target, picture[:, :, 0] if picture.shape[2] == 1 else picture)
                result.written.append(target)
                tell({"event": "generated", "done": len(result.written), "total": len(plan), "path": str(target)})
    except MemoryError as error:
        raise MemoryExhausted(
            f"{input}: not enough memory for these photos; use a smaller --size or --batch."
        ) from error
    if not result.written:
        source, reason = next(iter(result.skipped.items()))
        raise InputError(f"{input}: none of the {len(plan)} images can be read; the first, {source.name}: {reason}.")


Named = tuple[Path, np.ndarray]


def _photos(
    plan: list[tuple[Path, Path]], size, model, limit: MemoryLimit, result: GenerateResult, tell
) -> Iterator[Named]:
    """Each readable photo with its target file, resized, in the model's colour mode. Others are recorded as skipped."""
    labels = getattr(model, "labels", None)
    for source, target in plan:
        try:
            photo = read_image(source, model.channels) if labels is None else labels.read(source)
        except ImageError as error:
            result.skipped[source] = error.reason
            tell({"event": "skipped", "path": str(source), "reason": error.reason})
            continue
        limit.check(str(source), *_at_once(model, _target(photo.shape[:2], size)), advice=_advice(model))
        if labels is None:
            yield target, _colours(_resized(photo, size), model.channels)
        else:
            yield target, _resized(photo, size, Image.Resampling.NEAREST)[:, :, None]


def _advice(model) -> str:
    return "use a smaller --tile, or --size" if isinstance(model, Tiled) else "use --tile 512, or --size"


def _at_once(model, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the part of a photo of this shape that the model processes at a time."""
    height, width = shape[:2]
    return (min(height, model.largest), min(width, model.largest)) if isinstance(model, Tiled) else (height, width)


def _memory_limit(model) -> MemoryLimit:
    def run(side: int) -> None:
        model(np.zeros((1, side, side, model.channels), np.uint8))

    on_cpu = model.on_cpu and model.fixed_size is None
    return MemoryLimit(run, on_cpu=on_cpu, scale=model.scale or 1)


def _groups(photos: Iterator[Named], batch: int) -> Iterator[list[Named]]:
    """Groups of consecutive photos of equal size, at most `batch` photos each."""
    group: list[Named] = []
    for target, photo in photos:
        if group and (len(group) == batch or group[0][1].shape != photo.shape):
            yield group
            group = []
        group.append((target, photo))
    if group:
        yield group


def _plan(source: Path, output: Path, recursive: bool, tell) -> list[tuple[Path, Path]]:
    """Each photo with its output file, after all checks that do not need the pixels."""
    try:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder; check the path.")
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check its permissions.") from error
    to_file = is_file_name(output)
    if source.is_dir():
        photos, folder = list_images(source, recursive=recursive, on_event=tell), output
        if to_file:
            raise UsageError(f"{output}: looks like a file, but {source} is a folder; give a folder for the images.")
        plan = [(photo, folder / name) for photo, name in zip(photos, _named(source, photos), strict=True)]
    else:
        folder = output.parent if to_file else output
        plan = [(source, output if to_file else folder / f"{source.stem}.png")]
    home = (source if source.is_dir() else source.parent).resolve()
    inputs = {photo.resolve() for photo, _ in plan}
    for _, target in plan:
        if target.resolve() in inputs or (folder.resolve() == home and target.exists()):
            raise UsageError(
                f"{target}: exists in the folder of the photos and would be overwritten; give another one."
            )
    check_writable(folder)
    return plan


def _named(source: Path, photos: list[Path]) -> list[Path]:
    """The names of the output files, with the sub-folders of the photos."""
    inside: dict[Path, list[Path]] = {}
    for photo in photos:
        inside.setdefault(photo.parent, []).append(photo)
    named = {}
    for parent, some in inside.items():
        named |= {p: parent.relative_to(source) / name for p, name in zip(some, _names(some), strict=True)}
    return [named[photo] for photo in photos]


def _names(photos: list[Path]) -> list[str]:
    """The output names: a.jpg becomes a.png. If two names collide (a.jpg and a.png; case is ignored), they become
    a.jpg.png, a.jpg.2.png and so on."""
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
    return resized(photo, *_target(photo.shape[:2], size), how)


def _target(shape: tuple[int, int], size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width to which a photo of this shape is resized."""
    if not isinstance(size, int):
        return size or shape
    scale = size / min(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _colours(photo: np.ndarray, channels: int) -> np.ndarray:
    return photo if channels != 1 else np.array(Image.fromarray(photo).convert("L"))[:, :, None]


def _apply(model, photos: np.ndarray) -> np.ndarray:
    """Run uint8 photos, N x H x W x C, through the model. For a model of a fixed size, the photos are resized to it,
    and the results to the size of the photos times the model's scale."""
    if model.fixed_size is None or photos.shape[1:3] == model.fixed_size:
        return model(photos)

    def each(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.stack([resized(image, *size) for image in images])

    drawn = model(each(photos, model.fixed_size))
    height, width = photos.shape[1:3]
    return each(drawn, (model.scale * height, model.scale * width))
