"""How a teacher learns (paper, 4.3). `GANS` maps a recipe's `gan.name` to its class.

A new one is a file with its Settings and its updates, and its name in the list; the first is a recipe's default.
"""

from vemcompress.gans.base import GAN, within
from vemcompress.gans.cyclegan import CycleGAN
from vemcompress.gans.pix2pix import Pix2Pix, Pix2PixTeachers
from vemcompress.system.settings import tag_of, tagged_union

__all__ = ["GAN", "GANS", "AnyGAN", "CycleGAN", "Pix2Pix", "Pix2PixTeachers", "within"]

_CLASSES: tuple[type[GAN], ...] = (Pix2Pix, Pix2PixTeachers, CycleGAN)

GANS = {tag_of(kind.Settings)[1]: kind for kind in _CLASSES}

AnyGAN = tagged_union(kind.Settings for kind in _CLASSES)
