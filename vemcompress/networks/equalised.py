"""Layers of StyleGAN2 (Karras et al., CVPR 2020) without style: equalised learning rates, activation, blur.

A layer with an equalised learning rate keeps weights of N(0, 1) and multiplies them by 1 / sqrt(inputs) at each use, so
that one step of Adam moves all layers alike. All of it is plain PyTorch; the published one has kernels of its own.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE, GAIN = 0.2, math.sqrt(2)
EPS = 1e-8


class Equalised(nn.Module):
    """A layer with initial weights of its own (`reset_parameters`), whose sizes are those of its tensors."""

    def reset_parameters(self) -> None:
        raise NotImplementedError


class EqualLinear(Equalised):
    """`rate` multiplies the learning rate of weight and bias (lr_mul); `first`: the bias before training."""

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
    """An odd kernel that keeps the size, or after a blur one of `stride` 2 that halves it."""

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
    """The learned 4 x 4 map, 1 x C x 4 x 4, that every image begins with."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, channels, 4, 4))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_()


def activated(x: Tensor) -> Tensor:
    """LeakyReLU 0.2, times the square root of 2, which keeps the variance."""
    return F.leaky_relu(x, SLOPE).mul_(GAIN)


def pixel_norm(x: Tensor) -> Tensor:
    """Vectors, B x C, of a mean square of 1."""
    return x * inverse_root(x.square().mean(1, keepdim=True))


def inverse_root(x: Tensor) -> Tensor:
    """1 / sqrt(x + 1e-8), with the addend as a tensor: exports take a number as small as that for 0, and omit it
    (onnxscript 0.7), so that zeros give NaN."""
    return torch.rsqrt(x + x.new_full((1,), EPS))


def _kernel(x: Tensor, gain: float) -> Tensor:
    """[1, 3, 3, 1] in both directions, of the sum `gain`, for each channel of x."""
    # Numbers from the host would make a GPU wait at each call.
    row = 4 - 2 * (torch.arange(4, dtype=x.dtype, device=x.device) - 1.5).abs()
    return (torch.outer(row, row) * (gain / 64)).expand(x.shape[1], 1, 4, 4)


def blurred(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Blurred by [1, 3, 3, 1] behind so many pixels of zeros on each side: 3 px less than that."""
    return F.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])


def upsampled(x: Tensor) -> Tensor:
    """Twice the size, with [1, 3, 3, 1] as the filter."""
    return F.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])
