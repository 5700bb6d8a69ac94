"""The key layouts that generators were published in, one family per file."""

from vemcompress.weights.published.cartoongan import CARTOONGAN
from vemcompress.weights.published.hints import hint
from vemcompress.weights.published.resnet import MOBILE_RESNET, RESNET
from vemcompress.weights.published.unet import UNET

LAYOUTS = (MOBILE_RESNET, RESNET, UNET, CARTOONGAN)

__all__ = ["LAYOUTS", "hint"]
