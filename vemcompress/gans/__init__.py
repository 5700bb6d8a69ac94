"""How a teacher learns (paper, 4.3). `GANS` maps a recipe's `gan.name` to its class."""

from typing import Annotated

from pydantic import Field

from vemcompress.gans.base import GAN, within
from vemcompress.gans.cyclegan import CycleGAN
from vemcompress.gans.pix2pix import Pix2Pix, Pix2PixTeachers

__all__ = ["GANS", "AnyGAN", "CycleGAN", "Pix2Pix", "Pix2PixTeachers", "within"]

GANS: dict[str, type[GAN]] = {"pix2pix": Pix2Pix, "pix2pix_teachers": Pix2PixTeachers, "cyclegan": CycleGAN}

AnyGAN = Annotated[Pix2Pix.Settings | Pix2PixTeachers.Settings | CycleGAN.Settings, Field(discriminator="name")]
