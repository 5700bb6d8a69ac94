"""Tiled processing: large photos go through a model in tiles, so that memory does not limit their size. No torch
here."""

from collections.abc import Iterator

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.system.events import Event

OVERLAP = 32  # pixels of context around a tile, on each side
SEEN = 2  # levels of 255 by which neighbouring tiles may differ where they meet


class Tiled:
    """Wraps an image model, with the same interface. Each tile of `tile` x `tile` pixels is computed with `overlap`
    pixels of context on each side, which are then cut off.

    If the network's receptive field reaches no further than `overlap` pixels, the image is the same as without tiles.
    Where tiles meet, the pixels that both computed are compared. A difference of more than 2 levels gives one warning.
    Raises UsageError for a model with a fixed size.
    """

    kind = "image"

    def __init__(self, model, tile: int, overlap: int | None, tell: Event):
        if model.fixed_size is not None:
            height, width = model.fixed_size
            raise UsageError(f"--tile: this model takes only images of {width} x {height} pixels; omit --tile.")
        self.model, self.tell, self._told = model, tell, False
        self.tile = _rounded(max(tile, model.min_size), model.multiple)
        self.overlap = _rounded(OVERLAP if overlap is None else overlap, model.multiple)

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    @property
    def largest(self) -> int:
        """The side of the largest image that the model processes at once."""
        return self.tile + 2 * self.overlap

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Process uint8 N x H x W x C as the model does."""
        height, width = images.shape[1:3]
        if max(height, width) <= self.largest:
            return self.model(images)
        result, ends = None, {}
        for top, bottom in self._spans(height):
            for left, right in self._spans(width):
                rows, columns = self._seen(top, bottom, height), self._seen(left, right, width)
                drawn = self.model(images[:, rows[0] : rows[1], columns[0] : columns[1]])
                scale = self.model.scale
                if result is None:
                    shape = len(images), scale * height, scale * width, drawn.shape[3]
                    result = np.empty(shape, np.uint8)
                at = scale * (top - rows[0]), scale * (left - columns[0])
                sides = scale * (bottom - top), scale * (right - left)
                inner = drawn[:, at[0] : at[0] + sides[0], at[1] : at[1] + sides[1]]
                self._compare(ends, (top, left), drawn, at, sides)
                result[:, scale * top : scale * bottom, scale * left : scale * right] = inner
        return result

    def _spans(self, side: int) -> Iterator[tuple[int, int]]:
        """The spans of the tiles along a side; the last one may be smaller."""
        return ((start, min(start + self.tile, side)) for start in range(0, side, self.tile))

    def _seen(self, start: int, end: int, side: int) -> tuple[int, int]:
        return max(0, start - self.overlap), min(side, end + self.overlap)

    def _compare(self, ends: dict, place: tuple[int, int], drawn: np.ndarray, at: tuple, sides: tuple) -> None:
        """Compare the first row and column of a tile with its neighbours' results for the same pixels. Keep the rows
        and columns just behind the tile, for the comparison with the next tiles."""
        (y, x), (height, width) = at, sides
        firsts = {"row": drawn[:, y, x : x + width], "column": drawn[:, y : y + height, x]}
        for kind, first in firsts.items():
            known = ends.pop((kind, place), None)
            apart = 0 if known is None else int(np.abs(first.astype(int) - known.astype(int)).max())
            if apart > SEEN and not self._told:
                self._told = True
                message = (
                    f"tiles differ by up to {apart} levels of 255 where they meet: this network's receptive field is "
                    f"larger than {self.overlap} pixels; use a larger --overlap or --tile."
                )
                self.tell({"event": "warning", "message": message})
        scale = self.model.scale
        if y + height < drawn.shape[1]:
            ends["row", (place[0] + height // scale, place[1])] = drawn[:, y + height, x : x + width]
        if x + width < drawn.shape[2]:
            ends["column", (place[0], place[1] + width // scale)] = drawn[:, y : y + height, x + width]


def _rounded(side: int, multiple: int) -> int:
    """Round up to a multiple, so that every tile starts on the network's grid."""
    return -(-side // multiple) * multiple
