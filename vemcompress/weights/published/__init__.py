"""The key layouts that generators were published in, one family per file; `discriminators` has its own list."""

from vemcompress.weights.published.cartoongan import CARTOONGAN
from vemcompress.weights.published.deep import DEEP_MOBILE_RESNET, DEEP_UNET
from vemcompress.weights.published.hints import hint
from vemcompress.weights.published.resnet import MOBILE_RESNET, RESNET
from vemcompress.weights.published.unet import UNET

# The first whose names fit is taken: the deep mobile form has all that tells a mobile ResNet.
LAYOUTS = (DEEP_MOBILE_RESNET, DEEP_UNET, MOBILE_RESNET, RESNET, UNET, CARTOONGAN)

__all__ = ["LAYOUTS", "hint"]
