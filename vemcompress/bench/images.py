"""Images to measure with where none are given: as large and as smooth as photos, so that they take as long to read."""

from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 32


def draw(folder: Path, kind: str, size: int) -> Path:
    """Write JPEGs of noise with a photo's falling spectrum, for data of this `kind`: A|B, trainA/ and trainB/, or
    single ones. Returns the root to give as data."""
    rng = np.random.default_rng(0)
    names = {"paired": ["train"], "unpaired": ["trainA", "trainB"]}.get(kind, ["."])
    width = 2 * size if kind == "paired" else size
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(COUNT):
            Image.fromarray(_noise(rng, size, width)).save(folder / name / f"{i}.jpg", quality=90)
    return folder


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Sums of octaves, each half as strong as the coarser one; uint8, H x W x 3."""
    total = np.zeros((height, width, 3))
    for octave in range(1, 7):
        rough = rng.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8)
        fine = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(fine, float) - 127.5) / 2**octave
    return (total + 127.5).clip(0, 255).astype(np.uint8)
