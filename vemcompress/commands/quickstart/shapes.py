"""Draw a scene by day and by night: flat shapes with a colour for day and one for night, and lights added on top."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]  # RGB in [0, 255]
SUPERSAMPLING = 3


class Shape(NamedTuple):
    """A flat shape. `points` are x, y in [0, 1] from the upper left: the corners of a polygon or a box, or the points
    of a line.

    If a colour is None, the shape is not drawn at that time of day.
    """

    kind: str
    points: list[tuple[float, float]]
    day: Colour | None
    night: Colour | None
    width: float = 0.0


class Light(NamedTuple):
    """A round glow with a Gaussian profile, added to the picture; `radius` is its standard deviation in [0, 1].

    The light is omitted if something dark was drawn over its `source`, because the day image would not show it.
    """

    x: float
    y: float
    radius: float
    colour: Colour
    source: tuple[float, float]


def darkened(colour: Colour) -> Colour:
    """The colour of a surface in moonlight: less saturated, darker and bluer."""
    red, green, blue = colour
    grey = 0.3 * red + 0.59 * green + 0.11 * blue
    return (0.13 * (red + grey) + 3, 0.15 * (green + grey) + 6, 0.22 * (blue + grey) + 18)


def shaded(colour: Colour, factor: float) -> Colour:
    """A lighter (`factor` > 1) or darker tone of a colour."""
    return tuple(min(255.0, c * factor) for c in colour)


@dataclass
class Canvas:
    """The shapes from back to front, and the lights for day and night. By default, a shape is only darker by night."""

    shapes: list[Shape] = field(default_factory=list)
    day_lights: list[Light] = field(default_factory=list)
    night_lights: list[Light] = field(default_factory=list)

    def draw(self, kind: str, points, day: Colour | None, night: Colour | None, width: float = 0.0) -> None:
        self.shapes.append(Shape(kind, points, day, night, width))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.draw("ellipse", [(x - rx, y - ry), (x + rx, y + ry)], colour, darkened(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.draw("rectangle", [(x0, y0), (x1, y1)], colour, darkened(colour))

    def polygon(self, points, colour: Colour) -> None:
        self.draw("polygon", points, colour, darkened(colour))

    def line(self, points, colour: Colour, width: float) -> None:
        self.draw("line", points, colour, darkened(colour), width)


def choose(rng: np.random.Generator, colours, spread: float = 0.08) -> Colour:
    """One of the colours, with a small random change."""
    return tuple(np.array(colours[rng.integers(len(colours))]) * rng.uniform(1 - spread, 1 + spread, 3))


def gradient(top: Colour, bottom: Colour, horizon: float, size: int) -> np.ndarray:
    """A sky: float64, size x size x 3, from `top` to `bottom` at the horizon and constant below."""
    t = np.clip((np.arange(size) + 0.5) / size / horizon, 0, 1)[:, None, None]
    return np.broadcast_to((1 - t) * np.array(top) + t * np.array(bottom), (size, size, 3))


def rasterise(sky: np.ndarray, shapes: list[Shape], lights: list[Light], night: bool) -> np.ndarray:
    """Draw the shapes over the sky (S x S x 3) with antialiasing, then add the lights. float64, S x S x 3."""
    size = sky.shape[0]
    large = size * SUPERSAMPLING
    image = Image.fromarray(sky.round().clip(0, 255).astype(np.uint8)).resize((large, large), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        colour = shape.night if night else shape.day
        if colour is None:
            continue
        fill = tuple(round(min(max(c, 0), 255)) for c in colour)
        points = [(x * large, y * large) for x, y in shape.points]
        if shape.kind == "line":
            draw.line(points, fill=fill, width=max(1, round(shape.width * large)))
        else:
            getattr(draw, shape.kind)(points, fill=fill)
    lights = [light for light in lights if _shines(image, light)]
    picture = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float64)
    grid = (np.arange(size) + 0.5) / size
    for light in lights:
        across = np.exp(-((grid - light.x) ** 2) / (2 * light.radius**2))
        down = np.exp(-((grid - light.y) ** 2) / (2 * light.radius**2))
        picture = picture + (down[:, None] * across)[:, :, None] * np.array(light.colour)
    return picture


def _shines(image: Image.Image, light: Light) -> bool:
    """Whether the light's source is inside the image, and nothing dark was drawn over it."""
    x, y = (int(c * image.width) for c in light.source)
    return 0 <= x < image.width and 0 <= y < image.height and max(image.getpixel((x, y))) > 150
