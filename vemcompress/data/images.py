"""Reading, resizing and writing single images: any picture a camera or an editor writes becomes 8-bit RGB.

No torch here, so that a device which only runs ONNX can use it.
"""

import contextlib
import errno
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vemcompress.errors import InputError, OutputError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# Pillow only warns between its limit and twice its limit; `open_image` refuses both without relying on this filter,
# which worker threads cannot set safely and which keeps the warning itself off stderr.
warnings.simplefilter("error", Image.DecompressionBombWarning)


class ImageError(InputError):
    """One image file that cannot be read; `reason` is the cause without the file's name."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f"{path}: not readable as an image ({reason}); replace it or take it out.")
        self.path, self.reason = Path(path), reason


def natural_key(name: str) -> tuple:
    """Sorts `2.jpg` before `10.jpg`, the same on every file system."""
    parts = re.split(r"([0-9]+)", name.lower())
    return (*((part.zfill(20), "") if part.isdecimal() else ("", part) for part in parts), ("", name))


def list_images(folder: str | os.PathLike, *, recursive: bool = False) -> list[Path]:
    """The images of a folder by their extensions (any case), in natural order; hidden files are left out.

    Raises InputError for a folder that is absent, unreadable or without images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; check the path.")
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give the folder that holds the images.")
    try:
        found = [p for p in (folder.rglob("*") if recursive else folder.iterdir()) if _looks_like_image(p)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check its permissions.") from error
    if not found:
        known = " ".join(sorted(e[1:] for e in EXTENSIONS))
        raise InputError(f"{folder}: no images in this folder; put files ending in {known} there.")
    return sorted(found, key=lambda p: natural_key(p.relative_to(folder).as_posix()))


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def read_image(path: str | os.PathLike) -> np.ndarray:
    """An image file as uint8, H x W x 3, RGB, upright.

    EXIF rotation is applied; transparency is laid over white; CMYK, palette, 1-bit and grey are converted; 16-bit,
    32-bit and float greys are scaled to 8 bits instead of clipped. Of several frames the first. Raises ImageError.
    """
    with open_image(path) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def open_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    """An image file, opened but not yet decoded; whatever fails inside the block leaves as ImageError.

    An error of ours (InputError) and MemoryError pass.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if (limit := Image.MAX_IMAGE_PIXELS) is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError("too many pixels")
            yield image
    except UnidentifiedImageError as error:
        raise ImageError(path, _why_unidentified(path)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be an attack") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ImageError(path, (error.strerror or "cannot be opened").lower()) from error
    except (MemoryError, InputError):
        raise
    except Exception as error:  # decoders meet hostile bytes, and answer them with nearly every class there is
        raise ImageError(path, _one_line(error)) from error


def _why_unidentified(path) -> str:
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    return "its content is none of " + ", ".join(FORMATS)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__


def to_rgb(image: Image.Image) -> np.ndarray:
    """A decoded image as uint8, H x W x 3; see `read_image`."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_bytes(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Wide greys to uint8. Only I;16 says its range; 32-bit and float files are read by the range they use:
    [0, 1] for floats, else [0, 255], else [0, 65535]."""
    if values.dtype.itemsize == 2:
        full = 65535.0
    else:
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        top = values.max(initial=0.0)
        full = 1.0 if top <= 1 and not np.all(values == np.round(values)) else 255.0 if top <= 255 else 65535.0
    return np.round(values.astype(np.float64).clip(0, full) * (255.0 / full)).astype(np.uint8)


def to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8, H x W x 3 (or H x W) to size x size, bicubic with antialiasing; the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def save_png(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write uint8, H x W x 3 or H x W, as PNG; the file appears whole or not at all. Raises OutputError."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            Image.fromarray(np.ascontiguousarray(array)).save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        hint = "make room on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another place"
        raise OutputError(
            f"{path}: cannot be written ({(error.strerror or _one_line(error)).lower()}); {hint}."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # gone after success, or never there
            partial.unlink()
