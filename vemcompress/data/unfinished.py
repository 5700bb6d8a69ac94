"""JPEG files without their end marker: checks whether every pixel is present nevertheless.

A decoder silently fills missing parts with grey. So a file counts as complete only if no bytes appended to it change a
pixel. There is no torch here.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

_END = b"\xff\xd9"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Bits that a decoder would use in place of missing ones, when it waits for a restart marker; zeros are its own.
_TAILS = b"\x55" * 64, b"\xaa" * 64
_RESTARTED = tuple(bytes([0xFF, 0xD0 + number]) + _TAILS[0] for number in range(8))


def finished(data: bytes) -> bytes | None:
    """The file with an end marker, if only that is missing; None for one that is cut off earlier, or is not a JPEG.

    Raises Pillow's errors for bytes that it cannot decode.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(_END):
        return None
    data = data.removesuffix(b"\xff")
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if not _scans_are_complete(data, {part[0] for part in image.layer}):
        return None
    pixels, tails = _pixels(data + _END), (*_TAILS, *(_RESTARTED if b"\xff\xdd" in data else ()))
    return data + _END if all(np.array_equal(pixels, _pixels(data + tail + _END)) for tail in tails) else None


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",)))


def _scans_are_complete(data: bytes, components: set[int]) -> bool:
    """Whether the started scans hold all 64 coefficients of each component to the last bit: a progressive file may
    be cut between two scans.
    """
    left = {(component, k) for component in components for k in range(64)}
    for scan in _scans(data):
        count = scan[0]
        first, last, precision = scan[1 + 2 * count : 4 + 2 * count]
        if precision & 15 == 0:
            left -= {(component, k) for component in scan[1 : 1 + 2 * count : 2] for k in range(first, last + 1)}
    return not left


def _scans(data: bytes) -> Iterator[bytes]:
    """The header of each scan: number of components, the id and tables of each, first and last coefficient, bits."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data):
            return
        if kind == 0xDA:
            yield data[at + 4 : end]
            marker = _NEXT_MARKER.search(data, end)
            end = marker.start() if marker else len(data)
        at = end
