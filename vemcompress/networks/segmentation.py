"""DRN-D, the dilated residual network that segments Cityscapes for the published mIoU (Yu, Koltun, Funkhouser 2017).

Module names are those of the published `drn-d-105_ms_cityscapes.pth`: `base` (one entry per level), `seg`, `up`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256, 512, 512, 512)
DEPTHS = (1, 1, 3, 4, 23, 3, 1, 1)  # of D-105
CLASSES = 19
STRIDE = 8

# Levels 1, 2, 7, 8 are plain convolutions, 3 to 6 are bottlenecks. Dilation keeps the stride at 8 from level 4 on.
_STRIDES = (1, 2, 2, 2, 1, 1, 1, 1)
_DILATIONS = (1, 1, 1, 1, 2, 4, 2, 1)
_BOTTLENECKS = range(2, 6)


class Bottleneck(nn.Module):
    """ReLU(shortcut(x) + conv3(conv2(conv1(x)))) with BatchNorms: 1x1 to `width`, dilated 3x3, 1x1 to 4 * `width`."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int):
        super().__init__()
        outputs = self.expansion * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn1(self.conv1(x)).relu_()
        h = self.bn2(self.conv2(h)).relu_()
        h = self.bn3(self.conv3(h))
        return (h + (x if self.downsample is None else self.downsample(x))).relu_()


class DRN(nn.Module):
    """B x 3 x H x W, RGB normalised by the data set's mean and deviation, to log-probabilities B x classes x H' x W'.

    H' and W' are H and W rounded up to multiples of 8. The defaults are DRN-D-105 (54.3 million parameters); `widths`
    and `depths` are those of the eight levels.
    """

    def __init__(self, classes: int = CLASSES, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS):
        super().__init__()
        self.classes, inputs = classes, widths[0]
        levels = [_convolutions(3, inputs, 1, kernel=7)]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride, dilation = _STRIDES[level], _DILATIONS[level]
            outputs = width
            if level in _BOTTLENECKS:
                outputs = Bottleneck.expansion * width
                shapes = [(inputs, stride), *[(outputs, 1)] * (depth - 1)]
                levels.append(nn.Sequential(*(Bottleneck(i, width, s, dilation) for i, s in shapes)))
            else:
                levels.append(_convolutions(inputs, width, depth, stride, dilation))
            inputs = outputs
        self.base = nn.Sequential(*levels)
        self.seg = nn.Conv2d(inputs, classes, 1)
        self.up = nn.ConvTranspose2d(classes, classes, 2 * STRIDE, STRIDE, STRIDE // 2, groups=classes, bias=False)
        with torch.no_grad():
            self.up.weight.copy_(bilinear_kernel().expand_as(self.up.weight))
        self.up.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.seg(self.base(x))).log_softmax(1)


def bilinear_kernel() -> Tensor:
    """A 16 x 16 kernel that interpolates linearly between pixel centres, as a transposed convolution of stride 8 and
    padding 4.
    """
    ramp = 1 - (torch.arange(2 * STRIDE) - (STRIDE - 0.5)).abs() / STRIDE
    return torch.outer(ramp, ramp)


def _convolutions(inputs: int, width: int, depth: int, stride: int = 1, dilation: int = 1, kernel: int = 3):
    layers: list[nn.Module] = []
    for i in range(depth):
        pad = dilation * (kernel // 2)
        conv = nn.Conv2d(width if i else inputs, width, kernel, 1 if i else stride, pad, dilation, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
