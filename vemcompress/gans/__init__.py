"""How a teacher learns (paper, 4.3). `GANS` maps a recipe's `gan.name` to its class.

A new one is a file with its Settings and its updates, and its name in the list; the first is a recipe's default.
"""

from pathlib import Path

import numpy as np
import torch

from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.gans.cyclegan import CycleGAN
from vemcompress.gans.latent import LatentGAN
from vemcompress.gans.pix2pix import Pix2Pix, Pix2PixTeachers
from vemcompress.gans.srgan import SRGAN
from vemcompress.gans.start import Start, new_generator
from vemcompress.gans.stylegan2 import StyleGAN2GAN
from vemcompress.networks.base import Config, Generator
from vemcompress.system.settings import tag_of, tagged_union

__all__ = [
    "GAN",
    "GANS",
    "SRGAN",
    "AnyGAN",
    "CycleGAN",
    "LatentGAN",
    "Pix2Pix",
    "Pix2PixTeachers",
    "Start",
    "StyleGAN2GAN",
    "build_gan",
    "new_generator",
]

_CLASSES: tuple[type[GAN], ...] = (Pix2Pix, Pix2PixTeachers, CycleGAN, LatentGAN, StyleGAN2GAN, SRGAN)

GANS = {tag_of(kind.Settings)[1]: kind for kind in _CLASSES}

AnyGAN = tagged_union(kind.Settings for kind in _CLASSES)


def build_gan(settings, first: Generator | Config, start: Start, *, seed: int, size: int) -> GAN:
    """The GAN of these settings. Its first teacher is `first`, or new of that Config; the others and the discriminators
    are those of `start`. The same seed gives the same weights. `size`: the side of the inputs, in pixels.

    Raises RecipeError, and InputError for files that do not serve or images that are too small.
    """
    seed = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gan = GANS[settings.name].build(
            settings, first if isinstance(first, Generator) else new_generator(first), start
        )
    if unknown := next((name for name in start.files if name not in gan.started), None):
        raise RecipeError(
            f"recipe {start.recipe}: teacher.start.{unknown}: {settings.name} has no such network; it has "
            f"{', '.join(gan.started)}."
        )
    times = next(iter(gan.generators().values())).times
    if times > 1 and not gan.enlarges:
        raise RecipeError(
            f"recipe {start.recipe}: gan.name = '{settings.name}' is for images of one size, and this generator "
            f"enlarges {times} times; set it to srgan."
        )
    gan.check_size(times * size)
    return gan.requires_grad_(True)


def started_by(name: str, folder: Path) -> dict[str, str]:
    """The files of a folder of a GAN of this name that its networks beside the first teacher can start from."""
    found = {part: folder / f"{part}.safetensors" for part in GANS[name].started}
    return {part: str(path.resolve()) for part, path in found.items() if path.is_file()}
