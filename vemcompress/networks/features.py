"""Trained classification networks whose feature maps compare images: VGG16, and SqueezeNet 1.1 in two input
conventions.

Inputs are B x 3 x H x W, RGB, [-1, 1]; each network applies its own convention. Weights come from the caller.
"""

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1, vgg16

# torchvision's ImageNet statistics, RGB in [0, 1]; Caffe's, BGR in [0, 255].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)


class FeatureNetwork(nn.Module):
    """A frozen network. `forward` returns the maps of the layers it was built with, in order.

    `feature` is the index, among these maps, of the one that the feature loss compares.
    """

    def __init__(self, layers: nn.Sequential, taps: tuple[int, ...], feature: int, scale, shift, bgr: bool = False):
        super().__init__()
        self.layers = layers[: max(taps) + 1].eval().requires_grad_(False)
        self.taps, self.feature, self.bgr = taps, feature, bgr
        # The convention as one multiplication and one addition on [-1, 1].
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        for i, layer in enumerate(self.layers):
            for module in layer.modules():
                if isinstance(module, nn.ReLU):
                    module.inplace = i - 1 not in taps  # else it would change the tap before it

    def prepare(self, x: Tensor) -> Tensor:
        """Convert RGB in [-1, 1] to the range that the network was trained on."""
        return (x.flip(1) if self.bgr else x) * self.scale + self.shift

    def forward(self, x: Tensor) -> list[Tensor]:
        maps, h = [], self.prepare(x)
        for i, layer in enumerate(self.layers):
            h = layer(h)
            if i in self.taps:
                maps.append(h)
        return maps


def vgg16_features() -> FeatureNetwork:
    """relu1_2, relu2_2, relu3_3, relu4_3 of VGG16; input (x + 1) / 2 without mean and std, as in OMGD's code."""
    return FeatureNetwork(vgg16(weights=None).features, (3, 8, 15, 22), 1, [0.5] * 3, [0.5] * 3)


def vgg16_lpips() -> FeatureNetwork:
    """relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 of VGG16 with torchvision's input, for LPIPS."""
    return FeatureNetwork(
        vgg16(weights=None).features, (3, 8, 15, 22, 29), 1, *_convention(IMAGENET_MEAN, IMAGENET_STD)
    )


def squeezenet_features(caffe: bool, taps: tuple[int, ...] = (1, 4, 7, 9), feature: int = 1) -> FeatureNetwork:
    """SqueezeNet 1.1 up to some layers; `caffe`: input BGR in [0, 255] minus a mean, else torchvision's input."""
    mean, std, full = (CAFFE_MEAN, (1.0,) * 3, 255.0) if caffe else (IMAGENET_MEAN, IMAGENET_STD, 1.0)
    return FeatureNetwork(squeezenet1_1(weights=None).features, taps, feature, *_convention(mean, std, full), bgr=caffe)


def squeezenet_lpips(caffe: bool) -> FeatureNetwork:
    """SqueezeNet 1.1 at the seven layers of LPIPS."""
    return squeezenet_features(caffe, (1, 4, 7, 9, 10, 11, 12))


def _convention(mean, std, full: float = 1.0) -> tuple[list[float], list[float]]:
    """Scale and shift from [-1, 1] to (x in [0, full] - mean) / std."""
    return [full / 2 / s for s in std], [(full / 2 - m) / s for m, s in zip(mean, std, strict=True)]


def squeezenet_embedding(caffe: bool) -> FeatureNetwork:
    """SqueezeNet 1.1's last feature map (512 channels), for distances between sets of images."""
    return squeezenet_features(caffe, (12,), 0)
