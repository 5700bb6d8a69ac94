"""Reads latent vectors from an untrusted .npy file: nothing is unpickled, and shapes are checked before memory is
allocated.
"""

from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from vemcompress.errors import InputError
from vemcompress.system.files import open_regular

LARGEST = 1 << 30  # bytes
MOST = 10**6  # vectors


def read_vectors(path: Path, size: int, layers: int | None = None) -> np.ndarray:
    """The latent vectors of a .npy file of floats, N x `size` or a single vector of `size`: N x `size`, float32.
    With `layers` they may also be N x `layers` x `size`, and stay so. Raises InputError (4).
    """
    try:
        with open_regular(path, LARGEST) as opened:
            shape, dtype, left = _declared(opened)
            if dtype.kind != "f" or dtype.itemsize > 8:
                raise InputError(f"{path}: holds {dtype} instead of floats; save a float32 array with numpy.save.")
            layered = layers is not None and len(shape) == 3 and shape[1:] == (layers, size)
            if not (layered or shape in ((size,), (*shape[:1], size))) or not shape[0]:
                found = " x ".join(map(str, shape)) or "a single number"
                what = f"N x {size}, latent vectors of {size} numbers"
                if layers is not None:
                    what = f"w, N x {size} or N x {layers} x {size}"
                raise InputError(f"{path}: holds {found}, but this model needs {what}.")
            if len(shape) > 1 and shape[0] > MOST:
                raise InputError(f"{path}: holds {shape[0]:,} latent vectors; give at most {MOST:,} at a time.")
            if left != np.prod(shape, dtype=object) * dtype.itemsize:
                raise InputError(f"{path}: is incomplete: {left:,} bytes for the shape {shape}; save it again.")
            opened.seek(0)
            z = np.load(opened, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a .npy file of latent vectors, N x {size}.") from error
    except (OSError, ValueError, TypeError, EOFError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not readable as an array ({reason}); save one with numpy.save.") from error
    with np.errstate(over="ignore"):
        z = z.reshape(-1, *((layers, size) if layered else (size,))).astype(np.float32)
    if not np.isfinite(z).all():
        raise InputError(f"{path}: holds NaN or Inf; give finite latent vectors.")
    return z


def _declared(opened) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and type declared in a .npy file, and the number of bytes that follow."""
    version = npy.read_magic(opened)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version}")
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(opened)
    begun = opened.tell()
    return shape, dtype, opened.seek(0, 2) - begun
