"""Plots of quality against cost: one panel per cost, side by side, with numbered points and their names below."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log10

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vemcompress.runs.plots import dot, frame, span

WIDTH, HEIGHT, LINE = 560, 480, 20
WIDE = 5  # the scale is logarithmic if the largest cost is this many times the smallest
KEY = "blue: on the Pareto front; red: the teacher; bars: one standard deviation over seeds"
GREY, BLUE, RED, DARK = (150, 150, 150), (30, 90, 200), (200, 40, 40), (40, 40, 40)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A point of a panel: its cost (`x`), its quality (`y`) with the standard deviation, and whether it is on the
    Pareto front. Its number and name are those at the same index of the names of `panels`. `reference` points are
    red."""

    x: float
    y: float
    std: float = 0.0
    front: bool = False
    reference: bool = False


def panels(names: Sequence[str], plots: Sequence[tuple[str, Sequence[Mark | None]]], quality: str) -> np.ndarray:
    """Draw plots, H x W x 3 uint8. A plot is the name of its x axis, and for each of `names` a mark or None. `quality`
    is the name of all y axes."""
    font = ImageFont.load_default(13)
    lines = [f"{number}  {name}" for number, name in enumerate(names, 1)]
    longest = max(font.getlength(line) for line in lines)
    width = max(WIDTH * len(plots), int(max(longest, font.getlength(KEY))) + 60)
    across = max(1, min(len(plots) * 2, int((width - 40) // (longest + 24))))
    down = -(-len(lines) // across)
    canvas = Image.new("RGB", (width, HEIGHT + 10 + LINE * (down + 1)), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for place, (cost, marks) in enumerate(plots):
        _panel(draw, (place * WIDTH, 0, (place + 1) * WIDTH, HEIGHT), (cost, quality), marks, font)
    draw.text((40, HEIGHT + LINE * down), KEY, fill=GREY, font=font)
    for number, line in enumerate(lines):
        at = (40 + (number // down) * (width - 40) / across, HEIGHT + LINE * (number % down))
        draw.text(at, line, fill=DARK, font=font)
    return np.asarray(canvas)


def _panel(draw: ImageDraw.ImageDraw, box: Box, axes: tuple[str, str], marks: Sequence[Mark | None], font) -> None:
    there = {number: mark for number, mark in enumerate(marks, 1) if mark is not None}
    if not there:
        draw.text((box[0] + 40, box[1] + 40), f"no {axes[0]}", fill=DARK, font=font)
        return
    xs = [mark.x for mark in there.values()]
    ys = [mark.y + side * mark.std for mark in there.values() for side in (-1, 1)]
    log = min(xs) > 0 and max(xs) > WIDE * min(xs)
    across = tuple(10**x for x in span([log10(x) for x in xs])) if log else span(xs)
    place = frame(draw, box, [across, span(ys)], axes, log=log)
    at = {number: place((mark.x, mark.y)) for number, mark in there.items()}
    front = sorted((at[number] for number, mark in there.items() if mark.front), key=lambda point: point[0])
    if len(front) > 1:
        draw.line(front, fill=BLUE, width=2)
    for number, mark in sorted(there.items(), key=lambda item: (item[1].front, item[1].reference)):
        colour = RED if mark.reference else BLUE if mark.front else GREY
        if mark.std:
            draw.line([place((mark.x, mark.y + side * mark.std)) for side in (-1, 1)], fill=colour, width=1)
        dot(draw, at[number], 5 if mark.reference else 4, colour)
    inside = (box[0] + 90, box[1] + 26, box[2] - 40, box[3] - 60)
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at.values()]
    bars = [[place((mark.x, mark.y + side * mark.std)) for side in (1, -1)] for mark in there.values()]
    taken += [(top[0] - 1, top[1], top[0] + 1, bottom[1]) for top, bottom in bars]
    for number, point in at.items():
        taken.append(_number(draw, str(number), point, taken, inside, font))


def _number(
    draw: ImageDraw.ImageDraw, text: str, point: tuple[float, float], taken: list[Box], inside: Box, font
) -> Box:
    """Write a number at the nearest free place to its point, with a line to the point if it is not beside it."""
    half, high = font.getlength(text) / 2 + 2, 8
    for far in range(14, 200, 8):
        for right, down in sorted(product((-1, -0.5, 0, 0.5, 1), repeat=2), key=lambda way: (way[1] > 0, -way[0])):
            if max(abs(right), abs(down)) < 1:
                continue
            x, y = point[0] + right * far, point[1] + down * far
            box = (x - half, y - high, x + half, y + high)
            free = all(
                box[2] < other[0] or box[0] > other[2] or box[3] < other[1] or box[1] > other[3] for other in taken
            )
            if free and box[0] > inside[0] and box[1] > inside[1] and box[2] < inside[2] and box[3] < inside[3]:
                if far > 14:
                    draw.line((*point, x, y), fill=(200, 200, 200), width=1)
                draw.text((x, y), text, fill=DARK, font=font, anchor="mm")
                return box
    draw.text(point, text, fill=DARK, font=font, anchor="lb")
    return (*point, *point)
