"""Discriminators, one architecture per file. `DISCRIMINATORS` maps a family's name to its class.

Input: B x in_channels x H x W in [-1, 1]; with a condition, cat(A, B). Output: B x 1 x h x w raw scores. New networks
have PyTorch's initial weights; `networks.base.init_weights` sets the published ones.
"""

from pydantic import TypeAdapter

from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig
from vemcompress.networks.discriminators.dcgan import DCGANDiscriminator, DCGANDiscriminatorConfig
from vemcompress.networks.discriminators.patchgan import (
    STAGES,
    PatchGAN,
    PatchGANConfig,
    PixelGAN,
    PixelGANConfig,
    SharedPatchGAN,
    SharedPatchGANConfig,
    TeacherName,
)
from vemcompress.networks.discriminators.sagan import SAGANDiscriminator, SAGANDiscriminatorConfig
from vemcompress.networks.discriminators.srgan import SRGANDiscriminator, SRGANDiscriminatorConfig
from vemcompress.networks.discriminators.stylegan2 import StyleGAN2Discriminator, StyleGAN2DiscriminatorConfig
from vemcompress.system.settings import tag_of, tagged_union

__all__ = [
    "DISCRIMINATORS",
    "STAGES",
    "AnyDiscriminator",
    "DCGANDiscriminatorConfig",
    "Discriminator",
    "DiscriminatorConfig",
    "PatchGANConfig",
    "PixelGANConfig",
    "SAGANDiscriminatorConfig",
    "SRGANDiscriminatorConfig",
    "SharedPatchGANConfig",
    "StyleGAN2DiscriminatorConfig",
    "TeacherName",
    "build_discriminator",
    "parse_discriminator_config",
]

_CLASSES: tuple[type[Discriminator], ...] = (
    PatchGAN,
    PixelGAN,
    SharedPatchGAN,
    SAGANDiscriminator,
    DCGANDiscriminator,
    StyleGAN2Discriminator,
    SRGANDiscriminator,
)

DISCRIMINATORS = {tag_of(kind.config_class)[1]: kind for kind in _CLASSES}

AnyDiscriminator = tagged_union(kind.config_class for kind in _CLASSES)
_ANY_DISCRIMINATOR = TypeAdapter(AnyDiscriminator)


def parse_discriminator_config(values: dict) -> DiscriminatorConfig:
    """A Config from plain values with a `family` key. Raises pydantic's ValidationError."""
    return _ANY_DISCRIMINATOR.validate_python(values)


def build_discriminator(config: DiscriminatorConfig) -> Discriminator:
    """A discriminator of this Config, with PyTorch's initial weights."""
    return DISCRIMINATORS[config.family](config)
