"""Large photos through a model tile by tile, so that memory does not limit their size. No torch here."""

from collections.abc import Iterator

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.system.events import Event

OVERLAP = 32  # pixels that a tile sees beyond itself, on each side
SEEN = 2  # levels of 255 by which neighbours may differ where they meet


class Tiled:
    """An opened image model with the same face. Each tile of `tile` x `tile` pixels is computed with `overlap` more
    pixels of the photo on each side, and the rest is thrown away.

    A network that looks no further than `overlap` pixels gives the same image as in one piece. Where tiles meet, what
    both make of the same pixels is compared; more than 2 levels of difference are told once, as a warning. Raises
    UsageError for a model of one fixed size.
    """

    kind = "image"

    def __init__(self, model, tile: int, overlap: int | None, tell: Event):
        if model.fixed_size is not None:
            height, width = model.fixed_size
            raise UsageError(f"--tile: this model takes images of {width} x {height} pixels alone; omit it.")
        self.model, self.tell, self._told = model, tell, False
        self.tile = _rounded(max(tile, model.min_size), model.multiple)
        self.overlap = _rounded(OVERLAP if overlap is None else overlap, model.multiple)

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    @property
    def largest(self) -> int:
        """The side of the largest image that goes through the model at once."""
        return self.tile + 2 * self.overlap

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 N x H x W x C to the model's own images of it."""
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
        """Of tiles along a side, the last one of which may be smaller."""
        return ((start, min(start + self.tile, side)) for start in range(0, side, self.tile))

    def _seen(self, start: int, end: int, side: int) -> tuple[int, int]:
        return max(0, start - self.overlap), min(side, end + self.overlap)

    def _compare(self, ends: dict, place: tuple[int, int], drawn: np.ndarray, at: tuple, sides: tuple) -> None:
        """Compare the first row and column of a tile with what its neighbours made of them, and keep the rows and
        columns behind its last ones for the next."""
        (y, x), (height, width) = at, sides
        firsts = {"row": drawn[:, y, x : x + width], "column": drawn[:, y : y + height, x]}
        for kind, first in firsts.items():
            known = ends.pop((kind, place), None)
            apart = 0 if known is None else int(np.abs(first.astype(int) - known.astype(int)).max())
            if apart > SEEN and not self._told:
                self._told = True
                message = (
                    f"tiles differ by up to {apart} levels of 255 where they meet: this network looks further than "
                    f"{self.overlap} pixels, or at whole images; use a larger --overlap or --tile."
                )
                self.tell({"event": "warning", "message": message})
        scale = self.model.scale
        if y + height < drawn.shape[1]:
            ends["row", (place[0] + height // scale, place[1])] = drawn[:, y + height, x : x + width]
        if x + width < drawn.shape[2]:
            ends["column", (place[0], place[1] + width // scale)] = drawn[:, y : y + height, x + width]


def _rounded(side: int, multiple: int) -> int:
    """Up to a multiple, so that every tile begins where the network's grid does."""
    return -(-side // multiple) * multiple
