"""Reads, resizes and writes single images: any common format becomes 8-bit RGB, or four channels if requested.

There is no torch here, so that a device which only runs ONNX can use it.
"""

import contextlib
import io
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from vemcompress.data.unfinished import finished
from vemcompress.errors import InputError, first_line
from vemcompress.system.events import Event
from vemcompress.system.files import make_folder, read_bytes, write_atomically

# Still images that Pillow decodes itself and recognises by their first bytes; nothing that starts another program.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
EXTENSIONS = frozenset({
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
})  # fmt: skip
FOUR, FOUR_CHANNELS = 4, ("RGBA", "CMYK", "RGBX")  # Pillow's modes with four channels
HEIC = frozenset({".heic", ".heif"})  # iPhones' images; their decoder is an optional extra
HEIC_HINT = "pip install 'vemcompress[heic]' reads .heic"
try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS, EXTENSIONS = (*FORMATS, "HEIF"), EXTENSIONS | HEIC

# Pillow only warns between its limit and twice its limit. `open_image` refuses both without this filter, which worker
# threads cannot set safely; the filter keeps the warning off stderr.
warnings.simplefilter("error", Image.DecompressionBombWarning)


class ImageError(InputError):
    """An image file that cannot be read; `reason` is the cause without the file's name."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f"{path}: not readable as an image ({reason}); replace it or remove it.")
        self.path, self.reason = Path(path), reason


_JPEG_BYTES = 256 << 20  # largest file that is repaired
_noted: set[Path] = set()
_notes: deque[Path] = deque()


def tell_notes(on_event: Event) -> None:
    """Report each file that was read without its end marker, once per process: {"event": "mended", "path",
    "reason"}. Files are read in threads; this reports from the caller's thread.
    """
    while _notes:
        reason = "the JPEG lacks its end marker, but all pixels are there; it is used"
        on_event({"event": "mended", "path": str(_notes.popleft()), "reason": reason})


def size_of(path: Path) -> int:
    """A file's size in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def shorter_side(path: Path) -> int | None:
    """The shorter side of an image in pixels, by its header; None for a file that cannot be read."""
    try:
        with open_image(path) as image:
            return min(image.size)
    except ImageError:
        return None


def why_unreadable(path: Path, *, whole: bool = True) -> str | None:
    """Why a file cannot be read as an image; None if it can. Unless `whole`, only its header is read."""
    try:
        if whole:
            read_image(path)
        else:
            with open_image(path):
                pass
    except ImageError as error:
        return error.reason
    return None


def read_image(path: str | os.PathLike, channels: int = 3) -> np.ndarray:
    """An image file as uint8, H x W x 3, RGB, upright; or H x W x 4 if `channels` is 4.

    Four channels are those of the file, unchanged: RGBA, CMYK, or a TIFF's RGB and a fourth; another file raises
    ImageError. EXIF rotation is applied. For three channels, transparency is composited on white; CMYK, palette, 1-bit
    and grey images are converted; and 16-bit, 32-bit and float greys are scaled to 8 bits instead of clipped. Of
    several frames, the first is used. A JPEG without only its end marker is read, and `tell_notes` reports it. Raises
    ImageError.
    """
    try:
        return _decoded(path, channels)
    except ImageError as error:
        if not isinstance(error.__cause__, OSError) or "truncated" not in error.reason:
            raise
        with open_image(path):  # if the file itself cannot be opened, raise that error
            whole = finished(read_bytes(path, _JPEG_BYTES))
        if whole is None:
            raise
        image = _decoded(path, channels, io.BytesIO(whole))
    if Path(path) not in _noted:
        _noted.add(Path(path))
        _notes.append(Path(path))
    return image


def _decoded(path: str | os.PathLike, channels: int, content: io.BytesIO | None = None) -> np.ndarray:
    with open_image(path, content) as image:
        if channels == FOUR and image.format == "TIFF" and image.tile and image.tile[0][3][0] == "RGBX":
            image._mode = "RGBX"  # else Pillow would drop a fourth channel of unspecified meaning
        image.load()
        upright = ImageOps.exif_transpose(image)
        if channels != FOUR:
            return to_rgb(upright)
        if upright.mode not in FOUR_CHANNELS:
            count = "one channel" if len(upright.getbands()) == 1 else f"{len(upright.getbands())} channels"
            raise ImageError(path, f"it has {count}, but the network needs 4, such as RGBA or CMYK")
        return np.array(upright)


@contextlib.contextmanager
def open_image(path: str | os.PathLike, content: io.BytesIO | None = None) -> Iterator[Image.Image]:
    """An image file, opened but not yet decoded. Any error inside the block becomes ImageError.

    `content` is read instead of the file, if given. InputError and MemoryError are not converted.
    """
    try:
        with Image.open(content or path, formats=FORMATS) as image:
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
    except Exception as error:  # decoders raise nearly every class of exception for hostile bytes
        raise ImageError(path, first_line(error).rstrip(".")) from error


def _why_unidentified(path) -> str:
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    return "its content is not one of " + ", ".join(FORMATS)


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
    """Convert greys with more than 8 bits to uint8. Only I;16 has a defined range. For 32-bit and float images the
    range is guessed from the values: [0, 1] for floats, else [0, 255], else [0, 65535].
    """
    if values.dtype.itemsize == 2:
        full = 65535.0
    else:
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        top = values.max(initial=0.0)
        full = 1.0 if top <= 1 and not np.all(values == np.round(values)) else 255.0 if top <= 255 else 65535.0
    return np.round(values.astype(np.float64).clip(0, full) * (255.0 / full)).astype(np.uint8)


Crop = int | str | None
RANDOM = "random"  # no central crop; in training, crops at random positions


def middle(image: np.ndarray, crop: Crop) -> np.ndarray:
    """The central square of H x W x C (or H x W), with sides of `crop` pixels; of the shorter side if `crop` is
    "square" or larger than the image. None for the whole image.
    """
    if crop is None:
        return image
    side = min(image.shape[:2] if crop == "square" else (*image.shape[:2], crop))
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8, H x W x C (or H x W) to size x size, bicubic with antialiasing, without keeping the aspect
    ratio.
    """
    return resized(image, size, size)


def resized(image: np.ndarray, height: int, width: int, how=Image.Resampling.BICUBIC) -> np.ndarray:
    """Resize uint8, H x W x C or H x W, with antialiasing. Four channels are resized one by one, because Pillow
    would weight the others by the fourth.
    """
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        return np.stack([resized(one, height, width, how) for one in np.moveaxis(image, 2, 0)], axis=2)
    flat = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    return np.array(Image.fromarray(flat).resize((width, height), how)).reshape(height, width, *image.shape[2:])


def save_png(path: str | os.PathLike, array: np.ndarray, text: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write uint8, H x W x 3, H x W x 4 (RGBA) or H x W, as PNG. The file appears complete or not at all. `text` is
    stored in it.

    Raises OutputError.
    """
    content, about = io.BytesIO(), PngInfo()
    for key, value in text.items():
        about.add_text(key, value)
    Image.fromarray(np.ascontiguousarray(array)).save(content, format="PNG", pnginfo=about)
    make_folder(Path(path).parent)
    write_atomically(path, content.getbuffer())
