"""BiSeNet: segmentation of face parts (Yu et al., ECCV 2018; trained on CelebAMask-HQ, 19 classes).

Module names are those of the published `79999_iter.pth`: `cp` (context path: ResNet-18 with attention), `ffm` (fusion),
`conv_out`, and two auxiliary heads, which are only used in training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

CLASSES = 19
WIDTHS = (64, 128, 256, 512)  # ResNet-18's widths


class ConvBNReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class Trunk(nn.Module):
    """ResNet-18 without its classifier: the maps at 1/8, 1/16 and 1/32 of the image's sides."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0])
        self.layer1 = _blocks(widths[0], widths[0], 1)
        self.layer2, self.layer3, self.layer4 = (_blocks(widths[i], widths[i + 1], 2) for i in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu_(), 3, 2, 1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class Attention(nn.Module):
    """A convolution whose output channels are weighted by the mean of the whole map."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = ConvBNReLU(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))).sigmoid()


class ContextPath(nn.Module):
    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.resnet, width = Trunk(widths), widths[1]
        self.arm16, self.arm32 = Attention(widths[2], width), Attention(widths[3], width)
        self.conv_head32, self.conv_head16 = ConvBNReLU(width, width), ConvBNReLU(width, width)
        self.conv_avg = ConvBNReLU(widths[3], width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's map at 1/8, and the context map at 1/8."""
        eighth, sixteenth, last = self.resnet(x)
        mean = self.conv_avg(last.mean((2, 3), keepdim=True))
        context = self.conv_head32(_resized(self.arm32(last) + mean, sixteenth))
        return eighth, self.conv_head16(_resized(self.arm16(sixteenth) + context, eighth))


class Fusion(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.convblk = ConvBNReLU(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convblk(x)
        return x + x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)).relu_()).sigmoid()


class Head(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int):
        super().__init__()
        self.conv, self.conv_out = ConvBNReLU(inputs, width), nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """B x 3 x H x W, RGB normalised by ImageNet's mean and deviation, to scores B x classes x H x W.

    It has 13.3 million parameters, 0.2 million of them in the auxiliary heads. `widths` are those of the trunk's four
    stages.
    """

    def __init__(self, classes: int = CLASSES, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.classes, width = classes, widths[1]
        self.cp, self.ffm = ContextPath(widths), Fusion(2 * width)
        self.conv_out = Head(2 * width, 2 * width, classes)
        self.conv_out16, self.conv_out32 = Head(width, width // 2, classes), Head(width, width // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.conv_out(self.ffm(torch.cat(self.cp(x), 1)))
        return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)


def _blocks(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride > 1:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="nearest")
