"""Generators, one architecture per file (VEM paper, A.3). `GENERATORS` maps a family's name to its class.

To add one, write a file with its Config and its network, and add its name to the list below. Layers that several
architectures share belong in the folder above, and the layouts of published files in `weights.published`.
"""

from functools import cache

from pydantic import TypeAdapter

from vemcompress.networks.base import Config, Generator, ImageInput, LatentInput
from vemcompress.networks.generators.agd import AGD
from vemcompress.networks.generators.agd_supernet import AGDSupernet
from vemcompress.networks.generators.animegan2 import AnimeGAN2
from vemcompress.networks.generators.cartoongan import CartoonGAN
from vemcompress.networks.generators.dcgan import DCGAN, DCGANConfig
from vemcompress.networks.generators.deep import DeepMobileResNet, DeepUNet
from vemcompress.networks.generators.fast_neural_style import FastNeuralStyle
from vemcompress.networks.generators.inception_resnet import InceptionResNet
from vemcompress.networks.generators.local_enhancer import LocalEnhancer
from vemcompress.networks.generators.resampled import ResampledResNet
from vemcompress.networks.generators.resnet import MobileResNet, MobileResNetConfig, ResNet
from vemcompress.networks.generators.rrdb import RRDB
from vemcompress.networks.generators.sagan import SAGAN
from vemcompress.networks.generators.srgan import SRGAN
from vemcompress.networks.generators.srvgg import SRVGG, SRVGGConfig
from vemcompress.networks.generators.stylegan2 import StyleGAN2
from vemcompress.networks.generators.ugatit import UGATIT
from vemcompress.networks.generators.unet import UNet
from vemcompress.system.plugins import Classes

_CLASSES: tuple[type[Generator], ...] = (
    ResNet,
    MobileResNet,
    UNet,
    CartoonGAN,
    DeepUNet,
    DeepMobileResNet,
    ResampledResNet,
    InceptionResNet,
    FastNeuralStyle,
    AnimeGAN2,
    UGATIT,
    LocalEnhancer,
    DCGAN,
    SAGAN,
    StyleGAN2,
    AGD,
    AGDSupernet,
    SRGAN,
    SRVGG,
    RRDB,
)

GENERATORS: Classes[type[Generator]] = Classes("networks", _CLASSES, Generator, "config_class")


@cache
def _any_config() -> TypeAdapter:
    return TypeAdapter(GENERATORS.union)


def parse_config(values: dict) -> Config:
    """A Config from plain values with a `family` key. Raises pydantic's ValidationError."""
    return _any_config().validate_python(values)


def build_generator(config: Config) -> Generator:
    """A network of this Config, with PyTorch's initial weights."""
    return GENERATORS[config.family](config)


def student_of(config: Config | None, width: int, takes: ImageInput | LatentInput | None = None) -> Config:
    """The default student of this width for a teacher of this Config. For a teacher without a Config (None) it is a
    mobile ResNet; a DCGAN if the teacher takes latent vectors; the compact network if it enlarges images. Raises
    ValueError for an image size that no DCGAN makes.
    """
    if config is not None:
        return config.student(width)
    if not isinstance(takes, LatentInput):
        enlarges = takes is not None and takes.scale > 1
        return SRVGGConfig(width=width, scale=takes.scale) if enlarges else MobileResNetConfig(width=width)
    levels = (takes.image // 4).bit_length() - 1
    if takes.image != 4 * 2**levels or levels < 1:
        raise ValueError(f"no default student makes images of {takes.image} px; use 8, 16, 32, ... px")
    return DCGANConfig(width=width, levels=levels, latent=takes.size, prior=takes.prior)
