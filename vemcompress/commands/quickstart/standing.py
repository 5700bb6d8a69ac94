"""What stands in a scene: houses, trees and street lamps. By night, windows with curtains are lit, and lamps."""

import numpy as np

from vemcompress.commands.quickstart.scenery import Canvas, choose
from vemcompress.commands.quickstart.shapes import Colour, Light, Shape, box, ellipse, polygon, shaded, surface

WALLS = ((226, 212, 186), (204, 122, 92), (236, 232, 224), (150, 170, 190), (220, 188, 110), (178, 104, 96))
ROOFS = ((150, 62, 48), (96, 76, 70), (84, 96, 116), (176, 92, 52), (70, 100, 84))
WARM = (150.0, 100.0, 30.0)


def house(canvas: Canvas, rng: np.random.Generator, x: float, y: float, scale: float) -> None:
    """A house that stands on y; by night the windows with curtains are lit, those of bare glass are dark."""
    w, h = scale * rng.uniform(0.8, 1.25), scale * rng.uniform(0.65, 1.15)
    wall, roof = choose(rng, WALLS), choose(rng, ROOFS)
    left, right, top = x - w / 2, x + w / 2, y - h
    canvas.shapes.append(ellipse(x + 0.08 * w, y, 0.62 * w, 0.05 * scale, (70, 84, 60)))
    canvas.shapes.append(box(x + 0.18 * w, top - 0.5 * scale, x + 0.3 * w, top - 0.05 * scale, shaded(roof, 0.75)))
    canvas.shapes.append(box(left, top, right, y, wall))
    canvas.shapes.append(box(right - 0.2 * w, top, right, y, shaded(wall, 0.86)))
    eaves, ridge = 0.1 * w, top - rng.uniform(0.35, 0.55) * scale
    if rng.random() < 0.5:
        points = [(left - eaves, top), (x, ridge), (right + eaves, top)]
    else:
        points = [(left - eaves, top), (left + 0.15 * w, ridge), (right - 0.15 * w, ridge), (right + eaves, top)]
    canvas.shapes.append(polygon(points, roof))
    columns, rows = rng.integers(2, 4), 1 if h < 0.85 * scale else 2
    cell_w, cell_h = 0.88 * w / columns, 0.8 * h / rows
    door = rng.integers(columns)
    for row in range(rows):
        for column in range(columns):
            cx, cy = left + 0.06 * w + (column + 0.5) * cell_w, top + 0.1 * h + (row + 0.5) * cell_h
            if row == rows - 1 and column == door:
                canvas.shapes.append(
                    box(cx - 0.26 * cell_w, cy - 0.3 * cell_h, cx + 0.26 * cell_w, y, shaded(roof, 0.7))
                )
            else:
                window(canvas, rng.random() < 0.65, cx, cy, 0.28 * cell_w, 0.3 * cell_h)


def window(canvas: Canvas, curtain: bool, x: float, y: float, rx: float, ry: float) -> None:
    corners = [(x - rx, y - ry), (x + rx, y + ry)]
    if not curtain:
        canvas.shapes.append(surface("rectangle", corners, (70, 104, 136)))
        return
    canvas.shapes.append(Shape("rectangle", corners, (255, 246, 206), (255, 206, 104)))
    canvas.shapes.append(Shape("line", [(x, y - ry), (x, y + ry)], (196, 176, 140), (226, 150, 60), 0.006))
    canvas.night_lights.append(Light(x, y, 1.6 * max(rx, ry), tuple(0.4 * c for c in WARM), (x - 0.5 * rx, y)))


def tree(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, scale: float, conifer: bool, leaf: Colour
) -> None:
    canvas.shapes.append(ellipse(x + 0.1 * scale, y, 0.36 * scale, 0.05 * scale, (66, 82, 56)))
    canvas.shapes.append(box(x - 0.05 * scale, y - 0.4 * scale, x + 0.05 * scale, y, (104, 76, 54)))
    if conifer:
        for i in range(3):
            w, low = (0.36 - 0.08 * i) * scale, y - (0.18 + 0.27 * i) * scale
            corners = [(x - w, low), (x, low - 0.5 * scale), (x + w, low)]
            canvas.shapes.append(polygon(corners, shaded(leaf, 0.8 + 0.14 * i)))
        return
    puffs = [(0.0, 0.85), (-0.2, 0.65), (0.2, 0.65), (0.0, 0.6)]
    for shade, shift in ((0.8, 0.04), (1.0, 0.0), (1.16, -0.05)):
        for dx, up in puffs:
            r = scale * (0.24 if shade <= 1 else 0.13) * rng.uniform(0.9, 1.1)
            place = x + (dx + shift) * scale, y - (up - shift) * scale
            canvas.shapes.append(ellipse(*place, r, r, shaded(leaf, shade)))


def lamp(canvas: Canvas, x: float, y: float, scale: float) -> None:
    """A street lamp, the brightest thing by night."""
    top = y - scale
    canvas.shapes.append(surface("line", [(x, y), (x, top)], (58, 60, 66), 0.09 * scale))
    corners = [(x - 0.09 * scale, top - 0.12 * scale), (x + 0.09 * scale, top + 0.05 * scale)]
    canvas.shapes.append(Shape("ellipse", corners, (214, 216, 214), (255, 240, 190)))
    canvas.night_lights.append(Light(x, top, 0.3 * scale, WARM, (x, top)))
    canvas.night_lights.append(Light(x, y, 0.35 * scale, tuple(0.35 * c for c in WARM), (x, top)))
