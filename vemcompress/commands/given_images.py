"""Images that are passed from Python: saved as PNG files in the run folder, so that the command line can resume the
run."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from vemcompress import recipe as recipes
from vemcompress.commands import opening
from vemcompress.commands.opening import Given
from vemcompress.data.images import save_png, to_rgb
from vemcompress.errors import InputError, UsageError, summary
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.system import distributed
from vemcompress.system.events import Event

Data = str | os.PathLike | Sequence[Any] | Dataset | None

ACCEPTED = (
    "a folder, image files, or a list or Dataset of images: PIL, uint8 arrays H x W x 3 or 4, or tensors 3 or 4 x H "
    "x W, uint8 or floats in [-1, 1]"
)


@contextmanager
def kept(given: Given) -> Iterator[Given]:
    """Save images that were passed as data, and give their paths instead.

    They are written to the new run's folder, and removed if the run never starts. For a dry run, they are written to a
    temporary folder. Floats are rounded to 8 bits. Raises UsageError if the data are not images, and InputError if one
    cannot be read.
    """
    if are_paths(given.data):
        yield given
        return
    if given.dry:
        with for_now(given.data, given.on_event) as folders:
            yield replace(given, data=folders)
        return
    if given.resume is not None:
        raise UsageError(f"{given.resume}: already has its images; omit data to resume, or give a folder of images.")
    folder = distributed.together(lambda: _new_folder(given))
    made = [path for path in (folder, folder.parent) if not path.exists()]
    try:
        distributed.by_writer(lambda: write(given.data, folder, given.on_event))
        yield replace(given, data=(folder,))
    except BaseException:
        if distributed.is_writer() and not _has_begun(folder.parent):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # not empty
                for path in made[1:]:
                    path.rmdir()
        raise


@contextmanager
def for_now(data: Data, on_event: Event) -> Iterator[Any]:
    """Save images that were passed as data to a temporary folder, and give its path. Raises as `kept`."""
    if are_paths(data):
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="vemcompress-") as folder:
        write(data, Path(folder), on_event)
        yield [folder]


def are_paths(data: Data) -> bool:
    """Whether the data are paths; if not, they are images. Raises UsageError if they are neither."""
    if data is None or isinstance(data, str | os.PathLike):
        return True
    if isinstance(data, list | tuple):
        found = [isinstance(one, str | os.PathLike) for one in data]
        if any(found) and not all(found):
            raise UsageError("data: has both paths and images; give one or the other.")
        return all(found)
    if isinstance(data, bytes | Mapping) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise UsageError(f"data: is of type {type(data).__name__}; give {ACCEPTED}.")
    return False


def write(images: Any, folder: Path, on_event: Event) -> None:
    """Write one PNG per image, in order. Raises as `kept`, and OutputError."""
    if not len(images):
        raise UsageError(f"data: has no image; give {ACCEPTED}.")
    on_event({"event": "stage", "title": f"saving {len(images)} images to {folder}"})
    shutil.rmtree(folder, ignore_errors=True)  # remains of an earlier start that was killed
    floats, least = 0, 0.0
    for index in range(len(images)):
        try:
            image = images[index]
        except Exception as error:  # the user's own code may raise anything
            raise InputError(f"data[{index}]: failed with {summary(error)}") from error
        image = _image_of(image)
        if isinstance(image, torch.Tensor) and image.is_floating_point():
            floats, least = floats + 1, min(least, image.min().item() if image.numel() else 0.0)
        save_png(folder / f"{index + 1:06}.png", _picture(image, index))
    if floats == len(images) and least >= 0:
        message = (
            "no pixel of these images is below 0; images must be in [-1, 1], so if yours are in [0, 1], pass 2x - 1."
        )
        on_event({"event": "warning", "message": message})


def _image_of(item: Any) -> Any:
    """The image of a Dataset's item, which may also hold a label."""
    if isinstance(item, tuple | list) and item:
        return item[0]
    return item.get("image") if isinstance(item, Mapping) else item


def _picture(image: Any, index: int) -> np.ndarray:
    """As uint8, H x W x 3, H x W x 4 or H x W."""
    if isinstance(image, Image.Image):
        return np.array(image) if image.mode == "RGBA" else to_rgb(image)
    found = image
    if isinstance(image, torch.Tensor):
        found = image.detach().cpu()
        if found.is_floating_point():
            if not (found.abs() <= 1.001).all():  # NaN too
                raise UsageError(f"data[{index}]: has values outside [-1, 1]; scale it, or give uint8.")
            found = ((found.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        found = (found.permute(1, 2, 0) if found.dim() == 3 else found).numpy()
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.size:
        if found.ndim == 3 and found.shape[2] in (1, 3, 4):
            return found[:, :, 0] if found.shape[2] == 1 else found
        if found.ndim == 2:
            return found
    shape = f" {image.dtype} of {'x'.join(map(str, image.shape))}" if hasattr(image, "shape") else ""
    raise UsageError(f"data[{index}]: is of type {type(image).__name__}{shape}; give {ACCEPTED}.")


def _new_folder(given: Given) -> Path:
    """The folder for the images of a new run. Raises as `opening.new_run`, and RecipeError for an invalid recipe."""
    if not isinstance(given.recipe, Recipe):
        recipes.read(given.recipe, given.overrides)
    return opening.new_run(given.out).given_images.resolve()


def _has_begun(out: Path) -> bool:
    return RunFolder(out).recipe.exists() or any(out.glob("*/recipe.toml"))
