"""The land and sky of a scene. Every function appends to a Canvas from the random generator it is given.

Nothing by night is drawn by chance alone: a curtain by day is a lit window by night, a bird becomes a star, the sun the
moon; so the night can be learned from the day.
"""

from dataclasses import dataclass, field
from math import cos, pi, sin

import numpy as np

from vemcompress.commands.quickstart.shapes import (
    Colour,
    Light,
    Shape,
    box,
    darkened,
    ellipse,
    polygon,
    shaded,
    surface,
)

GROUNDS = ((112, 158, 72), (140, 168, 80), (178, 160, 92), (92, 138, 84), (226, 230, 236))
LEAVES = ((66, 122, 52), (92, 140, 52), (44, 98, 66), (200, 128, 48), (184, 84, 46), (150, 160, 70))


@dataclass
class Canvas:
    """The shapes from back to front, and the glows of each time of day."""

    shapes: list[Shape] = field(default_factory=list)
    day_lights: list[Light] = field(default_factory=list)
    night_lights: list[Light] = field(default_factory=list)


def choose(rng: np.random.Generator, colours, spread: float = 0.08) -> Colour:
    """One of the colours, a little off."""
    return tuple(np.array(colours[rng.integers(len(colours))]) * rng.uniform(1 - spread, 1 + spread, 3))


def sun_and_birds(canvas: Canvas, rng: np.random.Generator, horizon: float) -> tuple[float, float]:
    """The sun, which is the moon by night, and birds, which are stars. Returns the sun's place."""
    x, y, r = rng.uniform(0.12, 0.88), rng.uniform(0.1, horizon - 0.2), rng.uniform(0.035, 0.065)
    for _ in range(rng.integers(4, 11)):
        bx, by, w = rng.uniform(0.03, 0.97), rng.uniform(0.03, horizon - 0.12), rng.uniform(0.012, 0.02)
        wings = [(bx - w, by - w * 0.7), (bx, by), (bx + w, by - w * 0.7)]
        canvas.shapes.append(Shape("line", wings, (60, 66, 84), None, 0.009))
        s = 0.5 * w
        canvas.shapes.append(Shape("ellipse", [(bx - s, by - s), (bx + s, by + s)], None, (232, 234, 244)))
        canvas.night_lights.append(Light(bx, by, 0.02, (60, 62, 76), (bx, by)))
    canvas.shapes.append(
        Shape("ellipse", [(x - r, y - r), (x + r, y + r)], (255, 240, 160), (238, 238, 222)),
    )
    canvas.day_lights.append(Light(x, y, 2.2 * r, (90, 70, 10), (x, y)))
    canvas.night_lights.append(Light(x, y, 2.4 * r, (52, 56, 66), (x, y)))
    return x, y


def clouds(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    for _ in range(rng.integers(0, 5)):
        x, y, w = rng.uniform(0, 1), rng.uniform(0.05, horizon - 0.15), rng.uniform(0.06, 0.14)
        tone = rng.uniform(222, 252)
        for shade, drop in ((0.9, 0.012), (1.0, 0.0)):
            for i in range(4):
                puff = w * (0.3 + 0.22 * sin(pi * (i + 0.5) / 4))
                cx = x + w * (i - 1.5) * 0.5
                canvas.shapes.append(ellipse(cx, y + drop, puff, puff * 0.55, shaded((tone, tone, tone + 3), shade)))


def hills(canvas: Canvas, rng: np.random.Generator, horizon: float, ground: Colour) -> None:
    """One to three ridges, farther ones paler; some are mountains with snow."""
    layers = rng.integers(1, 4)
    for i in range(layers):
        near = (i + 1) / layers
        haze = np.array((150, 176, 206)) * rng.uniform(0.9, 1.05)
        colour = tuple(near * 0.75 * np.array(ground) * 0.85 + (1 - near * 0.75) * haze)
        base = horizon - 0.02
        if i == 0 and rng.random() < 0.45:
            mountains(canvas, rng, base, colour)
            continue
        height, phase, waves = (
            rng.uniform(0.05, 0.15) * (1.15 - 0.5 * near),
            rng.uniform(0, 2 * pi),
            rng.uniform(0.7, 2),
        )
        xs = np.linspace(0, 1, 33)
        ridge = base - height * (0.55 + 0.35 * np.sin(2 * pi * waves * xs + phase) + 0.1 * np.sin(9 * xs + 2 * phase))
        canvas.shapes.append(polygon([*zip(xs, ridge, strict=True), (1, base + 0.1), (0, base + 0.1)], colour))


def mountains(canvas: Canvas, rng: np.random.Generator, base: float, colour: Colour) -> None:
    for _ in range(rng.integers(2, 5)):
        x, w, h = rng.uniform(0, 1), rng.uniform(0.16, 0.3), rng.uniform(0.14, 0.26)
        top = (x, base - h)
        canvas.shapes.append(polygon([(x - w, base + 0.05), top, (x + w, base + 0.05)], colour))
        canvas.shapes.append(polygon([top, (x + w, base + 0.05), (x + 0.1 * w, base + 0.05)], shaded(colour, 0.82)))
        snow = [top, (x + 0.28 * w, base - 0.72 * h), (x, base - 0.64 * h), (x - 0.28 * w, base - 0.72 * h)]
        canvas.shapes.append(polygon(snow, (240, 243, 248)))


def river_or_road(canvas: Canvas, rng: np.random.Generator, horizon: float, sun_x: float, sky: Colour) -> None:
    """A band that winds from the horizon to the lower edge: water, which mirrors the sun, or a road, or none."""
    kind = rng.choice(["river", "road", "none"], p=[0.45, 0.4, 0.15])
    if kind == "none":
        return
    end, bend = rng.uniform(0.2, 0.8), rng.uniform(-0.22, 0.22)
    start = sun_x if kind == "river" else rng.uniform(0.3, 0.7)
    t = np.linspace(0, 1, 17)
    middle = start + (end - start) * t + bend * np.sin(pi * t)
    half = (0.012 + (0.2 if kind == "river" else 0.13) * t**1.5) * rng.uniform(0.7, 1.2)
    ys = horizon + (1.02 - horizon) * t
    outline = [*zip(middle - half, ys, strict=True), *zip((middle + half)[::-1], ys[::-1], strict=True)]
    if kind == "river":
        canvas.shapes.append(polygon(outline, tuple(0.75 * np.array(sky) + (8, 20, 26))))
        for i in range(2, 15, 2):
            w = half[i] * rng.uniform(0.25, 0.5)
            ends = [(middle[i] - w, ys[i]), (middle[i] + w, ys[i])]
            canvas.shapes.append(Shape("line", ends, (236, 240, 236), (150, 158, 178), 0.011))
        return
    canvas.shapes.append(polygon(outline, choose(rng, ((150, 148, 146), (190, 168, 130)))))
    for i in range(1, 16, 2):
        dash = [(middle[i], ys[i]), (middle[i + 1], ys[i + 1])]
        canvas.shapes.append(surface("line", dash, (238, 234, 214), float(0.006 + 0.016 * t[i])))


def meadow(canvas: Canvas, rng: np.random.Generator, horizon: float, ground: Colour) -> None:
    """The ground, and tufts of grass and flowers that grow towards the viewer."""
    canvas.shapes.append(box(0, horizon, 1, 1.01, ground))
    bloom = choose(rng, ((236, 96, 96), (250, 214, 84), (214, 132, 214), (248, 248, 248)))
    for _ in range(rng.integers(14, 40)):
        x, depth = rng.uniform(0, 1), rng.uniform(0.08, 1)
        y, r = horizon + (1 - horizon) * depth, 0.004 + 0.008 * depth
        if rng.random() < 0.3:
            canvas.shapes.append(ellipse(x, y, r, r, bloom))
        else:
            tone = shaded(ground, rng.uniform(0.78, 1.15))
            canvas.shapes.append(surface("line", [(x, y), (x + r * cos(7 * x), y - 3 * r)], tone, r))


def night_sky(colour: Colour) -> Colour:
    """The sky's colour by night from its colour by day."""
    return tuple(0.8 * c for c in darkened(colour))
