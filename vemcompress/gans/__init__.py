"""GAN training of teachers (VEM paper, section 4.3): Pix2Pix, CycleGAN, SRGAN, SAGAN/DCGAN and StyleGAN2.

`GANS` maps a recipe's `gan.name` to its class. The first entry is the default. To add one, write a file with its
Settings and its updates, and add its name to the list below.
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
    """Build the GAN of these settings. Its first teacher is `first`, or a new network of that Config; the other
    networks come from `start`. The same seed gives the same weights. `size`: the side of the inputs, in pixels.

    Raises RecipeError, and InputError for files that cannot be used or images that are too small.
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
            f"recipe {start.recipe}: gan.name = '{settings.name}' needs a generator whose images are as large as its "
            f"inputs, and this one enlarges them {times} times; set it to srgan."
        )
    gan.check_size(times * size)
    return gan.requires_grad_(True)


def started_by(name: str, folder: Path) -> dict[str, str]:
    """The files in a folder from which the networks of a GAN of this name, except the first teacher, can start."""
    found = {part: folder / f"{part}.safetensors" for part in GANS[name].started}
    return {part: str(path.resolve()) for part, path in found.items() if path.is_file()}
