"""Architectures. `GENERATORS` maps a family's name to its network and its Config."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from vemcompress.networks.base import Config, Generator
from vemcompress.networks.generators.cartoongan import CartoonGAN, CartoonGANConfig
from vemcompress.networks.generators.deep import DeepMobileResNet, DeepMobileResNetConfig, DeepUNet, DeepUNetConfig
from vemcompress.networks.generators.resnet import MobileResNet, MobileResNetConfig, ResNet, ResNetConfig
from vemcompress.networks.generators.unet import UNet, UNetConfig

GENERATORS: dict[str, tuple[type[Generator], type[Config]]] = {
    "resnet": (ResNet, ResNetConfig),
    "mobile_resnet": (MobileResNet, MobileResNetConfig),
    "unet": (UNet, UNetConfig),
    "cartoongan": (CartoonGAN, CartoonGANConfig),
    "deep_unet": (DeepUNet, DeepUNetConfig),
    "deep_mobile_resnet": (DeepMobileResNet, DeepMobileResNetConfig),
}

AnyConfig = Annotated[
    ResNetConfig | MobileResNetConfig | UNetConfig | CartoonGANConfig | DeepUNetConfig | DeepMobileResNetConfig,
    Field(discriminator="family"),
]
_ANY_CONFIG = TypeAdapter(AnyConfig)


def parse_config(values: dict) -> Config:
    """A Config from plain values with a `family` key; raises pydantic's ValidationError."""
    return _ANY_CONFIG.validate_python(values)


def build_generator(config: Config) -> Generator:
    """A network of this Config, with PyTorch's initial weights."""
    return GENERATORS[config.family][0](config)
