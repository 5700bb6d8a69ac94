"""Pictures of a run."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vemcompress.data.indices import class_colours
from vemcompress.system.files import MALFORMED, is_count, parse_json

GAP, HEADER = 4, 18


@dataclass(frozen=True)
class Layout:
    """Where a sheet's columns are: their `titles`, each over `wide` columns of images, `rows`, and the `size` of an
    image (width, height) in pixels. A sheet's PNG has it as text."""

    titles: tuple[str, ...]
    rows: int
    size: tuple[int, int]
    wide: int = 1

    KEY: ClassVar[str] = "vemcompress-layout"

    @classmethod
    def of(cls, columns: dict[str, Tensor], inputs: Tensor) -> "Layout":
        """That of the sheet that `grid_of` makes of the same."""
        height, width = (max(column.shape[side] for column in columns.values()) for side in (2, 3))
        least = min(map(len, columns.values()))
        if inputs.dim() == 4:
            return cls(tuple(columns), least, (width, height))
        across = {max(1, round(len(column) ** 0.5)) for column in columns.values()}
        wide, rows = across.pop(), 1
        return cls(() if across else tuple(columns), rows, (width, (height + GAP) * (least // wide) - GAP), wide)

    def text(self) -> dict[str, str]:
        """What the PNG says."""
        said = {"titles": self.titles, "rows": self.rows, "size": self.size, "wide": self.wide}
        return {self.KEY: json.dumps(said)}

    @classmethod
    def read(cls, said: str | None, size: tuple[int, int]) -> "Layout | None":
        """Of what a PNG of this size (width, height) says; None where it says nothing, or what cannot be."""
        try:
            told = parse_json(said)
            titles, (width, height) = tuple(str(title)[:40] for title in told["titles"][:12]), told["size"]
            layout = cls(titles, told["rows"], (width, height), told["wide"])
            fits = all(is_count(n) and n for n in (width, height, layout.rows, layout.wide))
            right, bottom = layout.box(len(titles) - 1, layout.rows - 1)[2:]
            return layout if fits and titles and right <= size[0] and bottom <= size[1] else None
        except MALFORMED:
            return None

    def box(self, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a title's images in a row."""
        width, height = (self.size[0] + GAP) * self.wide - GAP, self.size[1]
        left, top = GAP + column * (width + GAP), HEADER + row * (height + GAP)
        return left, top, left + width, top + height


def to_uint8(images: Tensor) -> np.ndarray:
    """B x C x H x W in [-1, 1] to B x H x W x 3 uint8, rounded; one channel becomes grey, of four the first three are
    shown. Other numbers are scores of classes: the highest one in its colour, and black where all are equal."""
    images = images.detach().float().clamp(-1, 1).cpu()
    if images.shape[1] not in (1, 3, 4):
        colours = np.concatenate((class_colours(images.shape[1]), np.zeros((1, 3), np.uint8)))
        return colours[images.argmax(1).masked_fill(images.amax(1) == images.amin(1), images.shape[1]).numpy()]
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def image_grid(columns: list[Tensor], titles: list[str]) -> np.ndarray:
    """Columns of B images each (C x H x W in [-1, 1]) under their titles, as one H x W x 3 uint8 picture.

    Columns of smaller images, such as a super-resolution's inputs, are enlarged to the largest pixel by pixel.
    """
    pictures = [to_uint8(column) for column in columns]
    rows, (height, width) = len(pictures[0]), max(column.shape[1:3] for column in pictures)
    canvas = Image.new("RGB", (len(columns) * (width + GAP) + GAP, HEADER + rows * (height + GAP)), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for i, (images, title) in enumerate(zip(pictures, titles, strict=True)):
        left = GAP + i * (width + GAP)
        draw.text((left, 2), title, fill=(60, 60, 60), font=font)
        for row, image in enumerate(images):
            shown = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(shown, (left, HEADER + row * (height + GAP)))
    return np.asarray(canvas)


def grid_of(columns: dict[str, Tensor], inputs: Tensor) -> np.ndarray:
    """A run's picture by titles: for inputs that are images a row each, and for latent vectors, B x size, a square
    block of each network's images."""
    if inputs.dim() == 4:
        return image_grid(list(columns.values()), list(columns))
    blocks, titles = [], []
    for title, images in columns.items():
        across = max(1, round(len(images) ** 0.5))
        rows = len(images) // across
        blocks += [images[place : rows * across : across] for place in range(across)]
        titles += [title, *[""] * (across - 1)]
    least = min(map(len, blocks))
    return image_grid([block[:least] for block in blocks], titles)


Point = tuple[float, float]


def scatter(points: Sequence[Point], front: Sequence[Point], axes: tuple[str, str], mark: Point) -> np.ndarray:
    """A plot of points (x, y) with those of a `front` joined by a line, and one of them marked; H x W x 3 uint8. `axes`
    are the names of x and y."""
    width, height = 720, 480
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    place = frame(draw, (0, 0, width, height), [span([p[axis] for p in points]) for axis in (0, 1)], axes)
    grey, blue, red = (150, 150, 150), (30, 90, 200), (200, 40, 40)
    for point in points:
        dot(draw, place(point), 2, grey)
    if len(front) > 1:
        draw.line([place(point) for point in front], fill=blue, width=2)
    for point in front:
        dot(draw, place(point), 3, blue)
    dot(draw, place(mark), 5, red)
    return np.asarray(canvas)


def frame(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    spans: Sequence[tuple[float, float]],
    axes: tuple[str, str],
    log: bool = False,
) -> Callable[[Point], Point]:
    """Draw the axes of a plot with their names into a box (left, top, right, bottom), over the spans of x and y.
    Returns where on the picture a point is. `log`: x, which is above 0, has a logarithmic scale."""
    left, top, right, bottom = box[0] + 90, box[1] + 26, box[2] - 40, box[3] - 60
    font, grey, dark = ImageFont.load_default(13), (150, 150, 150), (60, 60, 60)
    (x0, x1), (y0, y1) = [tuple(map(log10, spans[0])) if log else spans[0], spans[1]]

    def place(point: Point) -> Point:
        x = log10(point[0]) if log else point[0]
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (point[1] - y0) / (y1 - y0) * (bottom - top),
        )

    draw.rectangle((left, top, right, bottom), outline=grey)
    for part in range(5):
        x, y = (low + (high - low) * part / 4 for low, high in ((x0, x1), (y0, y1)))
        x = 10**x if log else x
        at_x, at_y = place((x, y))
        draw.line((at_x, bottom, at_x, bottom + 4), fill=grey)
        draw.text((at_x, bottom + 6), f"{x:.4g}", fill=dark, font=font, anchor="ma")
        draw.line((left - 4, at_y, left, at_y), fill=grey)
        draw.text((left - 6, at_y), f"{y:.5g}", fill=dark, font=font, anchor="rm")
    draw.text(((left + right) / 2, bottom + 52), axes[0], fill=dark, font=font, anchor="ms")
    draw.text((left, top - 6), axes[1], fill=dark, font=font, anchor="ls")
    return place


def span(values: Sequence[float]) -> tuple[float, float]:
    """From a little below the least to a little above the largest."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def dot(draw: ImageDraw.ImageDraw, at: Point, radius: int, colour: tuple[int, int, int]) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)
