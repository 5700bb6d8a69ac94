"""Plots as pictures: axes and points."""

from collections.abc import Callable, Sequence
from math import log10

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]


def scatter(points: Sequence[Point], front: Sequence[Point], axes: tuple[str, str], mark: Point) -> np.ndarray:
    """A plot of points (x, y), H x W x 3 uint8. The points of a `front` are joined by a line, and one point is marked.
    `axes` are the names of x and y."""
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
    """Draw the axes of a plot with their names into a box (left, top, right, bottom), for these ranges of x and y.
    Returns a function from a point to its position in the picture. `log`: x has a logarithmic scale and must be above
    0."""
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
    """The range from a little below the smallest value to a little above the largest."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def dot(draw: ImageDraw.ImageDraw, at: Point, radius: int, colour: tuple[int, int, int]) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)
