"""Small landscapes by day and by night, drawn by code: the quickstart's data, free of third-party rights.

The seed determines the scene; the size only sets the resolution. Everything in the night image follows from the day
image, so it can be learned: a window with a curtain is lit at night, a bird becomes a star, and the sun becomes the
moon.
"""

import os
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.commands.quickstart.shapes import Canvas, Colour, Light, choose, darkened, gradient, rasterise, shaded
from vemcompress.data.images import save_png

SKIES = (  # overhead, at the horizon
    ((84, 146, 214), (196, 222, 240)),
    ((106, 170, 226), (236, 226, 204)),
    ((120, 150, 196), (242, 204, 182)),
    ((150, 172, 190), (214, 220, 222)),
    ((70, 158, 190), (206, 234, 220)),
)
GROUNDS = ((112, 158, 72), (140, 168, 80), (178, 160, 92), (92, 138, 84), (226, 230, 236))
LEAVES = ((66, 122, 52), (92, 140, 52), (44, 98, 66), (200, 128, 48), (184, 84, 46), (150, 160, 70))
WALLS = ((226, 212, 186), (204, 122, 92), (236, 232, 224), (150, 170, 190), (220, 188, 110), (178, 104, 96))
ROOFS = ((150, 62, 48), (96, 76, 70), (84, 96, 116), (176, 92, 52), (70, 100, 84))
WARM = (150.0, 100.0, 30.0)


def draw_pair(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene by day and by night: two uint8 arrays, size x size x 3, RGB. Best from 64 to 128 pixels."""
    rng = np.random.default_rng((seed, 0))
    canvas, sky, horizon = _compose(rng)
    night_sky = [tuple(0.8 * c for c in darkened(colour)) for colour in sky]
    day = rasterise(gradient(*sky, horizon, size), canvas.shapes, canvas.day_lights, night=False)
    night = rasterise(gradient(*night_sky, horizon, size), canvas.shapes, canvas.night_lights, night=True)
    return _to_bytes(day * _grain(rng, size)), _to_bytes(night)


def write_pairs(folder: str | os.PathLike, split: str, count: int, seed: int, size: int) -> list[Path]:
    """Write `count` scenes as PNG files: day images to `folder`/`split`A, night images to `folder`/`split`B.

    Returns the paths of the day images. Raises OutputError.
    """
    days = [Path(folder) / f"{split}A" / f"scene-{i:04d}.png" for i in range(count)]
    for i, path in enumerate(days):
        day, night = draw_pair(seed + i, size)
        save_png(path, day)
        save_png(Path(folder) / f"{split}B" / path.name, night)
    return days


def _compose(rng: np.random.Generator) -> tuple[Canvas, tuple[Colour, Colour], float]:
    canvas, horizon = Canvas(), rng.uniform(0.42, 0.62)
    overhead, low = SKIES[rng.integers(len(SKIES))]
    sky = choose(rng, [overhead], 0.06), choose(rng, [low], 0.04)
    ground = choose(rng, GROUNDS)
    sun_x, _ = sun_and_birds(canvas, rng, horizon)
    clouds(canvas, rng, horizon)
    hills(canvas, rng, horizon, ground)
    meadow(canvas, rng, horizon, ground)
    river_or_road(canvas, rng, horizon, sun_x, sky[1])
    _settle(canvas, rng, horizon)
    return canvas, sky, horizon


def _settle(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Draw houses, trees and lamps on the ground. Farther ones are drawn first, and smaller."""
    kinds = ["house"] * rng.integers(1, 5) + ["tree"] * rng.integers(2, 9) + ["lamp"] * rng.integers(0, 4)
    conifers, leaf = rng.random() < 0.4, choose(rng, LEAVES)
    for depth, kind in sorted((float(rng.beta(1.2, 2.2)), kind) for kind in kinds):
        x, y = rng.uniform(0.04, 0.96), horizon + 0.02 + (0.96 - horizon) * depth
        scale = 0.1 + 0.2 * depth
        if kind == "house":
            house(canvas, rng, x, y, 1.15 * scale)
        elif kind == "tree":
            tone = choose(rng, [leaf], 0.12)
            tree(canvas, rng, x, y, scale * rng.uniform(0.8, 1.4), conifers ^ (rng.random() < 0.15), tone)
        else:
            lamp(canvas, x, y, 1.2 * scale)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise as in a photo, as factors around 1: fine grain and large faint patches. size x size x 1."""
    patches = Image.fromarray(rng.normal(0, 0.045, (9, 9)).astype(np.float32))
    coarse = np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC))
    return 1 + (coarse + rng.normal(0, 0.018, (size, size)))[:, :, None]


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return picture.round().clip(0, 255).astype(np.uint8)


def sun_and_birds(canvas: Canvas, rng: np.random.Generator, horizon: float) -> tuple[float, float]:
    """Draw the sun, which is the moon by night, and birds, which are stars by night. Returns the position of the
    sun."""
    x, y, r = rng.uniform(0.12, 0.88), rng.uniform(0.1, horizon - 0.2), rng.uniform(0.035, 0.065)
    for _ in range(rng.integers(4, 11)):
        bx, by, w = rng.uniform(0.03, 0.97), rng.uniform(0.03, horizon - 0.12), rng.uniform(0.012, 0.02)
        wings = [(bx - w, by - w * 0.7), (bx, by), (bx + w, by - w * 0.7)]
        canvas.draw("line", wings, (60, 66, 84), None, 0.009)
        s = 0.5 * w
        canvas.draw("ellipse", [(bx - s, by - s), (bx + s, by + s)], None, (232, 234, 244))
        canvas.night_lights.append(Light(bx, by, 0.02, (60, 62, 76), (bx, by)))
    canvas.draw("ellipse", [(x - r, y - r), (x + r, y + r)], (255, 240, 160), (238, 238, 222))
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
                canvas.ellipse(cx, y + drop, puff, puff * 0.55, shaded((tone, tone, tone + 3), shade))


def hills(canvas: Canvas, rng: np.random.Generator, horizon: float, ground: Colour) -> None:
    """Draw one to three ridges; farther ones are paler. The farthest may be mountains with snow."""
    layers = rng.integers(1, 4)
    for i in range(layers):
        near = (i + 1) / layers
        haze = np.array((150, 176, 206)) * rng.uniform(0.9, 1.05)
        colour = tuple(near * 0.75 * np.array(ground) * 0.85 + (1 - near * 0.75) * haze)
        base = horizon - 0.02
        if i == 0 and rng.random() < 0.45:
            mountains(canvas, rng, base, colour)
            continue
        height = rng.uniform(0.05, 0.15) * (1.15 - 0.5 * near)
        phase, waves = rng.uniform(0, 2 * pi), rng.uniform(0.7, 2)
        xs = np.linspace(0, 1, 33)
        ridge = base - height * (0.55 + 0.35 * np.sin(2 * pi * waves * xs + phase) + 0.1 * np.sin(9 * xs + 2 * phase))
        canvas.polygon([*zip(xs, ridge, strict=True), (1, base + 0.1), (0, base + 0.1)], colour)


def mountains(canvas: Canvas, rng: np.random.Generator, base: float, colour: Colour) -> None:
    for _ in range(rng.integers(2, 5)):
        x, w, h = rng.uniform(0, 1), rng.uniform(0.16, 0.3), rng.uniform(0.14, 0.26)
        top = (x, base - h)
        canvas.polygon([(x - w, base + 0.05), top, (x + w, base + 0.05)], colour)
        canvas.polygon([top, (x + w, base + 0.05), (x + 0.1 * w, base + 0.05)], shaded(colour, 0.82))
        snow = [top, (x + 0.28 * w, base - 0.72 * h), (x, base - 0.64 * h), (x - 0.28 * w, base - 0.72 * h)]
        canvas.polygon(snow, (240, 243, 248))


def river_or_road(canvas: Canvas, rng: np.random.Generator, horizon: float, sun_x: float, sky: Colour) -> None:
    """Draw a river that reflects the sun, a road, or neither, from the horizon to the lower edge."""
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
        canvas.polygon(outline, tuple(0.75 * np.array(sky) + (8, 20, 26)))
        for i in range(2, 15, 2):
            w = half[i] * rng.uniform(0.25, 0.5)
            ends = [(middle[i] - w, ys[i]), (middle[i] + w, ys[i])]
            canvas.draw("line", ends, (236, 240, 236), (150, 158, 178), 0.011)
        return
    canvas.polygon(outline, choose(rng, ((150, 148, 146), (190, 168, 130))))
    for i in range(1, 16, 2):
        dash = [(middle[i], ys[i]), (middle[i + 1], ys[i + 1])]
        canvas.line(dash, (238, 234, 214), float(0.006 + 0.016 * t[i]))


def meadow(canvas: Canvas, rng: np.random.Generator, horizon: float, ground: Colour) -> None:
    """Draw the ground with tufts of grass and flowers, larger ones nearer to the viewer."""
    canvas.box(0, horizon, 1, 1.01, ground)
    bloom = choose(rng, ((236, 96, 96), (250, 214, 84), (214, 132, 214), (248, 248, 248)))
    for _ in range(rng.integers(14, 40)):
        x, depth = rng.uniform(0, 1), rng.uniform(0.08, 1)
        y, r = horizon + (1 - horizon) * depth, 0.004 + 0.008 * depth
        if rng.random() < 0.3:
            canvas.ellipse(x, y, r, r, bloom)
        else:
            tone = shaded(ground, rng.uniform(0.78, 1.15))
            canvas.line([(x, y), (x + r * cos(7 * x), y - 3 * r)], tone, r)


def house(canvas: Canvas, rng: np.random.Generator, x: float, y: float, scale: float) -> None:
    """Draw a house with its base at y. By night, windows with curtains are lit, and windows without are dark."""
    w, h = scale * rng.uniform(0.8, 1.25), scale * rng.uniform(0.65, 1.15)
    wall, roof = choose(rng, WALLS), choose(rng, ROOFS)
    left, right, top = x - w / 2, x + w / 2, y - h
    canvas.ellipse(x + 0.08 * w, y, 0.62 * w, 0.05 * scale, (70, 84, 60))
    canvas.box(x + 0.18 * w, top - 0.5 * scale, x + 0.3 * w, top - 0.05 * scale, shaded(roof, 0.75))
    canvas.box(left, top, right, y, wall)
    canvas.box(right - 0.2 * w, top, right, y, shaded(wall, 0.86))
    eaves, ridge = 0.1 * w, top - rng.uniform(0.35, 0.55) * scale
    if rng.random() < 0.5:
        points = [(left - eaves, top), (x, ridge), (right + eaves, top)]
    else:
        points = [(left - eaves, top), (left + 0.15 * w, ridge), (right - 0.15 * w, ridge), (right + eaves, top)]
    canvas.polygon(points, roof)
    columns, rows = rng.integers(2, 4), 1 if h < 0.85 * scale else 2
    cell_w, cell_h = 0.88 * w / columns, 0.8 * h / rows
    door = rng.integers(columns)
    for row in range(rows):
        for column in range(columns):
            cx, cy = left + 0.06 * w + (column + 0.5) * cell_w, top + 0.1 * h + (row + 0.5) * cell_h
            if row == rows - 1 and column == door:
                canvas.box(cx - 0.26 * cell_w, cy - 0.3 * cell_h, cx + 0.26 * cell_w, y, shaded(roof, 0.7))
            else:
                window(canvas, rng.random() < 0.65, cx, cy, 0.28 * cell_w, 0.3 * cell_h)


def window(canvas: Canvas, curtain: bool, x: float, y: float, rx: float, ry: float) -> None:
    if not curtain:
        canvas.box(x - rx, y - ry, x + rx, y + ry, (70, 104, 136))
        return
    canvas.draw("rectangle", [(x - rx, y - ry), (x + rx, y + ry)], (255, 246, 206), (255, 206, 104))
    canvas.draw("line", [(x, y - ry), (x, y + ry)], (196, 176, 140), (226, 150, 60), 0.006)
    canvas.night_lights.append(Light(x, y, 1.6 * max(rx, ry), tuple(0.4 * c for c in WARM), (x - 0.5 * rx, y)))


def tree(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, scale: float, conifer: bool, leaf: Colour
) -> None:
    canvas.ellipse(x + 0.1 * scale, y, 0.36 * scale, 0.05 * scale, (66, 82, 56))
    canvas.box(x - 0.05 * scale, y - 0.4 * scale, x + 0.05 * scale, y, (104, 76, 54))
    if conifer:
        for i in range(3):
            w, low = (0.36 - 0.08 * i) * scale, y - (0.18 + 0.27 * i) * scale
            corners = [(x - w, low), (x, low - 0.5 * scale), (x + w, low)]
            canvas.polygon(corners, shaded(leaf, 0.8 + 0.14 * i))
        return
    puffs = [(0.0, 0.85), (-0.2, 0.65), (0.2, 0.65), (0.0, 0.6)]
    for shade, shift in ((0.8, 0.04), (1.0, 0.0), (1.16, -0.05)):
        for dx, up in puffs:
            r = scale * (0.24 if shade <= 1 else 0.13) * rng.uniform(0.9, 1.1)
            place = x + (dx + shift) * scale, y - (up - shift) * scale
            canvas.ellipse(*place, r, r, shaded(leaf, shade))


def lamp(canvas: Canvas, x: float, y: float, scale: float) -> None:
    """Draw a street lamp, the brightest object by night."""
    top = y - scale
    canvas.line([(x, y), (x, top)], (58, 60, 66), 0.09 * scale)
    corners = [(x - 0.09 * scale, top - 0.12 * scale), (x + 0.09 * scale, top + 0.05 * scale)]
    canvas.draw("ellipse", corners, (214, 216, 214), (255, 240, 190))
    canvas.night_lights.append(Light(x, top, 0.3 * scale, WARM, (x, top)))
    canvas.night_lights.append(Light(x, y, 0.35 * scale, tuple(0.35 * c for c in WARM), (x, top)))
