"""Sheets of sample images: a header, the titles of the columns, and a row for each image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vemcompress.data.indices import class_colours
from vemcompress.system.files import MALFORMED, is_count, parse_json

GAP, TITLE = 4, 22  # pixels between images, and of the line of titles above them
LINE, MARGIN = 20, 3  # height of a header line, and the margin around the header
EARLIER = 18  # the top margin in sheets of earlier releases, whose text does not have it
SHOWN, WIDEST = 256, 1600  # small images are enlarged to at most this side, and their sheet to at most this width
DARK, GREY = (30, 30, 30), (95, 95, 95)


@dataclass(frozen=True)
class Layout:
    """The layout of a sheet: the `titles` of its columns, each over `wide` columns of images, the number of `rows`, the
    `size` of an image on the sheet (width, height) in pixels, and the distance of the images from the `top`. The PNG
    stores it as text."""

    titles: tuple[str, ...]
    rows: int
    size: tuple[int, int]
    wide: int = 1
    top: int = EARLIER

    KEY: ClassVar[str] = "vemcompress-layout"

    def text(self) -> dict[str, str]:
        """The text that the PNG stores."""
        said = {"titles": self.titles, "rows": self.rows, "size": self.size, "wide": self.wide, "top": self.top}
        return {self.KEY: json.dumps(said)}

    @classmethod
    def read(cls, said: str | None, size: tuple[int, int]) -> "Layout | None":
        """Read the layout from the text of a PNG of this size (width, height); None if there is none, or it is not
        valid."""
        try:
            told = parse_json(said)
            titles, (width, height) = tuple(str(title)[:40] for title in told["titles"][:12]), told["size"]
            layout = cls(titles, told["rows"], (width, height), told["wide"], told.get("top", EARLIER))
            if not titles or not all(is_count(n) and n for n in (width, height, layout.rows, layout.wide, layout.top)):
                return None
            right, bottom = layout.box(len(titles) - 1, layout.rows - 1)[2:]
            return layout if right <= size[0] and bottom <= size[1] else None
        except MALFORMED:
            return None

    @property
    def titled(self) -> int:
        """The top of the line of titles, below the header."""
        return max(0, self.top - TITLE)

    def box(self, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a title's images in a row."""
        width, height = (self.size[0] + GAP) * self.wide - GAP, self.size[1]
        left, top = GAP + column * (width + GAP), self.top + row * (height + GAP)
        return left, top, left + width, top + height


def to_uint8(images: Tensor) -> np.ndarray:
    """B x C x H x W in [-1, 1] to B x H x W x 3 uint8, rounded. One channel becomes grey; of four, the first three are
    shown. Other numbers of channels are class scores: the highest one in its colour, black if all are equal."""
    images = images.detach().float().clamp(-1, 1).cpu()
    if images.shape[1] not in (1, 3, 4):
        colours = np.concatenate((class_colours(images.shape[1]), np.zeros((1, 3), np.uint8)))
        return colours[images.argmax(1).masked_fill(images.amax(1) == images.amin(1), images.shape[1]).numpy()]
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet_of(columns: dict[str, Tensor], inputs: Tensor, header: str = "") -> tuple[np.ndarray, dict[str, str]]:
    """A run's sheet from images by title, and its layout for the PNG. Image inputs get a row each; for latent vectors,
    B x size, each network's images form a square block."""
    wides = [1 if inputs.dim() == 4 else max(1, round(len(images) ** 0.5)) for images in columns.values()]
    blocks, titles = [], []
    for wide, (title, images) in zip(wides, columns.items(), strict=True):
        rows = len(images) // wide
        blocks += [images[place : rows * wide : wide] for place in range(wide)]
        titles += [title, *[""] * (wide - 1)]
    least = min(map(len, blocks))
    blocks = [block[:least] for block in blocks]
    layout = _layout(blocks, titles, header)
    picture = _drawn(blocks, layout, header)
    if len(set(wides)) > 1:
        return picture, {}
    if inputs.dim() == 4:
        return picture, layout.text()
    width, height = layout.size
    return picture, Layout(tuple(columns), 1, (width, (height + GAP) * least - GAP), wides[0], layout.top).text()


def image_grid(columns: Sequence[Tensor], titles: Sequence[str], header: str = "") -> np.ndarray:
    """Columns of B images each (C x H x W in [-1, 1]) under their titles, as one H x W x 3 uint8 picture.

    Columns of smaller images, such as inputs of super-resolution, are enlarged to the size of the largest by repeating
    pixels. If all are small, all are enlarged.
    """
    return _drawn(columns, _layout(columns, titles, header), header)


def _layout(columns: Sequence[Tensor], titles: Sequence[str], header: str) -> Layout:
    height, width = (max(column.shape[side] for column in columns) for side in (2, 3))
    room = (WIDEST - GAP) // len(columns) - GAP
    times = max(1, min(SHOWN // max(width, height), room // width))
    layout = Layout(tuple(titles), len(columns[0]), (times * width, times * height))
    lines = _lines(header, layout.box(len(columns) - 1, 0)[2] - GAP)
    return replace(layout, top=TITLE + (MARGIN + LINE * len(lines) if lines else 0))


def _drawn(columns: Sequence[Tensor], layout: Layout, header: str) -> np.ndarray:
    right, bottom = layout.box(len(columns) - 1, layout.rows - 1)[2:]
    canvas = Image.new("RGB", (right + GAP, bottom + GAP), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for place, line in enumerate(_lines(header, right - GAP)):
        draw.text((GAP, MARGIN + place * LINE), line, fill=DARK, font=_font())
    for column, (images, title) in enumerate(zip(columns, layout.titles, strict=True)):
        draw.text((layout.box(column, 0)[0], layout.titled + MARGIN), title, fill=GREY, font=_font())
        for row, image in enumerate(to_uint8(images)):
            shown = Image.fromarray(image).resize(layout.size, Image.Resampling.NEAREST)
            canvas.paste(shown, layout.box(column, row)[:2])
    return np.asarray(canvas)


def _lines(text: str, width: int) -> list[str]:
    """Break a text into lines of at most this width, without breaking words."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        first, *words = paragraph.split()
        lines.append(first)
        for word in words:
            longer = f"{lines[-1]} {word}"
            if _font().getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(14)
