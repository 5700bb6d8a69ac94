"""Degradations of photos (blur, downscaling, noise, JPEG) that make pairs for training enhancement networks.

`data.degrade` names steps in order with "+" between them, such as "blur0.2..1.5+bicubic4+noise10+jpeg40..90".
"""

import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

KINDS = {  # default strength, and its bounds
    "bicubic": (4.0, 1, 8),  # factor by which the sides are divided
    "blur": (2.0, 0, 32),  # sigma of a Gaussian, in pixels
    "noise": (25.0, 0, 255),  # sigma of Gaussian noise, on the scale of 0 to 255
    "jpeg": (40.0, 1, 100),  # quality
}
_STEP = re.compile(r"([a-z]+)(?:(\d+(?:\.\d+)?)(?:\.\.(\d+(?:\.\d+)?))?)?")
_MOST = 8  # steps


@dataclass(frozen=True)
class Step:
    """A kind in `KINDS`, and a strength drawn uniformly between `low` and `high`."""

    kind: str
    low: float
    high: float


@dataclass(frozen=True)
class Degradation:
    """`steps` in order; `scale` is the factor by which they divide a photo's sides."""

    steps: tuple[Step, ...]

    @property
    def scale(self) -> int:
        return int(np.prod([step.low for step in self.steps if step.kind == "bicubic"], initial=1))

    def apply(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Degrade a photo, uint8, H x W x C, to H / scale x W / scale x C."""
        for step in self.steps:
            strength = step.low if step.low == step.high else random.uniform(step.low, step.high)
            image = _STEPS[step.kind](image, strength, random)
        return image


def parse(text: str) -> Degradation:
    """The degradation described by `text`. Raises ValueError."""
    steps = []
    for part in text.split("+"):
        match = _STEP.fullmatch(part)
        if match is None or match[1] not in KINDS:
            raise ValueError(f"degrade {part!r:.40}: must be one of {', '.join(KINDS)}, optionally with a strength")
        usual, least, most = KINDS[match[1]]
        low = float(match[2]) if match[2] else usual
        high = float(match[3]) if match[3] else low
        if not least <= low <= high <= most:
            raise ValueError(f"degrade {part!r:.40}: the strength must be from {least} to {most}")
        if match[1] == "bicubic" and (low != high or low != int(low)):
            raise ValueError(f"degrade {part!r:.40}: the strength must be one whole number")
        steps.append(Step(match[1], low, high))
    if len(steps) > _MOST:
        raise ValueError(f"degrade has {len(steps)} steps; use at most {_MOST}")
    found = Degradation(tuple(steps))
    if found.scale > KINDS["bicubic"][2]:
        raise ValueError(f"degrade divides the sides by {found.scale}; use at most {KINDS['bicubic'][2]}")
    return found


def _bicubic(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Downscale with antialiasing, as in Pillow and MATLAB. Sides that are not divisible are rounded down."""
    height, width = (int(side // strength) for side in image.shape[:2])
    return _by_pillow(image, lambda picture: picture.resize((width, height), Image.Resampling.BICUBIC))


def _blur(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    return _by_pillow(image, lambda picture: picture.filter(ImageFilter.GaussianBlur(strength)))


def _noise(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    noisy = image + random.normal(0, strength, image.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    def compressed(picture: Image.Image) -> Image.Image:
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=round(strength))
        return Image.open(content, formats=("JPEG",))

    return _by_pillow(image, compressed)


def _by_pillow(image: np.ndarray, change) -> np.ndarray:
    """Apply a function of Pillow images to uint8, H x W x C. Four channels are changed one by one, because the
    fourth would weigh the others.
    """
    if image.shape[2] not in (1, 3):
        return np.concatenate([_by_pillow(one, change) for one in np.split(image, image.shape[2], axis=2)], axis=2)
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    changed = np.array(change(picture))
    return changed.reshape(*changed.shape[:2], image.shape[2])


_STEPS = {"bicubic": _bicubic, "blur": _blur, "noise": _noise, "jpeg": _jpeg}
