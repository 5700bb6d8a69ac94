"""Small landscapes by day and by night, drawn by code: the quickstart's data, free of anyone's rights.

A scene is determined by its seed alone; the size only sets how finely it is drawn.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.commands.quickstart import scenery, standing
from vemcompress.commands.quickstart.scenery import Canvas, choose
from vemcompress.commands.quickstart.shapes import Colour, gradient, rasterise
from vemcompress.data.images import save_png

SKIES = (  # overhead, at the horizon
    ((84, 146, 214), (196, 222, 240)),
    ((106, 170, 226), (236, 226, 204)),
    ((120, 150, 196), (242, 204, 182)),
    ((150, 172, 190), (214, 220, 222)),
    ((70, 158, 190), (206, 234, 220)),
)


def draw_pair(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene by day and by night: two uint8 arrays, size x size x 3, RGB. Best from 64 to 128 pixels."""
    rng = np.random.default_rng((seed, 0))
    canvas, sky, horizon = _compose(rng)
    night_sky = [scenery.night_sky(colour) for colour in sky]
    day = rasterise(gradient(*sky, horizon, size), canvas.shapes, canvas.day_lights, night=False)
    night = rasterise(gradient(*night_sky, horizon, size), canvas.shapes, canvas.night_lights, night=True)
    return _to_bytes(day * _grain(rng, size)), _to_bytes(night)


def write_images(folder: str | os.PathLike, count: int, seed: int, size: int) -> list[Path]:
    """Write `count` scenes by day as PNG files into a folder, made if need be. Raises OutputError."""
    paths = [Path(folder) / f"scene-{i:04d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        save_png(path, draw_pair(seed + i, size)[0])
    return paths


def _compose(rng: np.random.Generator) -> tuple[Canvas, tuple[Colour, Colour], float]:
    canvas, horizon = Canvas(), rng.uniform(0.42, 0.62)
    overhead, low = SKIES[rng.integers(len(SKIES))]
    sky = choose(rng, [overhead], 0.06), choose(rng, [low], 0.04)
    ground = choose(rng, scenery.GROUNDS)
    sun_x, _ = scenery.sun_and_birds(canvas, rng, horizon)
    scenery.clouds(canvas, rng, horizon)
    scenery.hills(canvas, rng, horizon, ground)
    scenery.meadow(canvas, rng, horizon, ground)
    scenery.river_or_road(canvas, rng, horizon, sun_x, sky[1])
    _settle(canvas, rng, horizon)
    return canvas, sky, horizon


def _settle(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Houses, trees and lamps on the ground, the farther ones first and smaller."""
    kinds = ["house"] * rng.integers(1, 5) + ["tree"] * rng.integers(2, 9) + ["lamp"] * rng.integers(0, 4)
    conifers, leaf = rng.random() < 0.4, choose(rng, scenery.LEAVES)
    for depth, kind in sorted((float(rng.beta(1.2, 2.2)), kind) for kind in kinds):
        x, y = rng.uniform(0.04, 0.96), horizon + 0.02 + (0.96 - horizon) * depth
        scale = 0.1 + 0.2 * depth
        if kind == "house":
            standing.house(canvas, rng, x, y, 1.15 * scale)
        elif kind == "tree":
            tone = choose(rng, [leaf], 0.12)
            standing.tree(canvas, rng, x, y, scale * rng.uniform(0.8, 1.4), conifers ^ (rng.random() < 0.15), tone)
        else:
            standing.lamp(canvas, x, y, 1.2 * scale)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """A photo's unevenness, about 1: fine grain by pixel and large faint patches. size x size x 1."""
    patches = Image.fromarray(rng.normal(0, 0.045, (9, 9)).astype(np.float32))
    coarse = np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC))
    return 1 + (coarse + rng.normal(0, 0.018, (size, size)))[:, :, None]


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return picture.round().clip(0, 255).astype(np.uint8)
