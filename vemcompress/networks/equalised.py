"""StyleGAN2's layers without style: equalised learning rates, activation, blur (Karras et al., CVPR 2020).

A layer with an equalised learning rate stores weights of N(0, 1) and multiplies them by 1 / sqrt(inputs) at each use,
so that one step of Adam changes all layers equally. All of it is plain PyTorch; the published code has custom kernels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE, GAIN = 0.2, math.sqrt(2)
EPS = 1e-8


class Equalised(nn.Module):
    """A layer with its own initialisation (`reset_parameters`)."""

    def reset_parameters(self) -> None:
        raise NotImplementedError


class EqualLinear(Equalised):
    """`rate` multiplies the learning rate of weight and bias (lr_mul); `first` is the initial bias."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, first: float = 0.0):
        super().__init__()
        self.rate, self.first = rate, first
        self.weight, self.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.empty(outputs))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_(0.0, 1 / self.rate)
        self.bias.fill_(self.first)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (self.rate / math.sqrt(self.weight.shape[1]))
        return F.linear(x, weight, self.bias if self.rate == 1 else self.bias * self.rate)


class EqualConv2d(Equalised):
    """A convolution with an odd kernel that keeps the size, or with `stride` 2 blurs and halves it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = True):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.register_parameter("bias", nn.Parameter(torch.empty(outputs)) if bias else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_()
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        weight, kernel = self.weight / math.sqrt(self.weight[0].numel()), self.weight.shape[2]
        if self.stride == 1:
            return F.conv2d(x, weight, self.bias, padding=kernel // 2)
        return F.conv2d(blurred(x, (kernel + 1) // 2), weight, self.bias, stride=self.stride)


class Constant(Equalised):
    """The learned constant 4 x 4 map, 1 x C x 4 x 4, from which every image is computed."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, channels, 4, 4))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_()


def activated(x: Tensor) -> Tensor:
    """LeakyReLU 0.2, times the square root of 2, which preserves the variance."""
    return F.leaky_relu(x, SLOPE).mul_(GAIN)


def pixel_norm(x: Tensor) -> Tensor:
    """Scale vectors, B x C, to a mean square of 1."""
    return x * inverse_root(x.square().mean(1, keepdim=True))


def inverse_root(x: Tensor) -> Tensor:
    """1 / sqrt(x + 1e-8). The 1e-8 is a tensor, because the exporter (onnxscript 0.7) treats so small a number as 0
    and omits it, so that zeros give NaN.
    """
    return torch.rsqrt(x + x.new_full((1,), EPS))


def _kernel(x: Tensor, gain: float) -> Tensor:
    """The filter [1, 3, 3, 1] in both directions, with the sum `gain`, for each channel of x."""
    # Computed on the device: numbers from the host would block a GPU at each call.
    row = 4 - 2 * (torch.arange(4, dtype=x.dtype, device=x.device) - 1.5).abs()
    return (torch.outer(row, row) * (gain / 64)).expand(x.shape[1], 1, 4, 4)


def blurred(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Pad by `padding` pixels of zeros on each side, then blur by [1, 3, 3, 1]; the result is 3 px smaller than
    padded.
    """
    return F.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])


def upsampled(x: Tensor) -> Tensor:
    """Twice the size, with [1, 3, 3, 1] as the filter."""
    return F.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])
