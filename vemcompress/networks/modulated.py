"""Convolutions modulated by a style (StyleGAN2, eq. 1-3), in two forms that give the same numbers.

"grouped": each image has its own kernels, W times its style and demodulated, in one convolution with one group per
image, as published. "scaled": one convolution with W of the inputs times the style, whose outputs are multiplied by the
demodulation. Its kernel is constant and its batch size is free, which exports need.

"scaled" is the default. Measured on one CPU core at 64 px and batch 4, in ms (forward; and with backward): widths of
512 and 256 (`multiplier = 1`), grouped 842; 2902, scaled 336; 1074. Width 128 throughout, 61; 184 and 53; 169. Width 16
throughout, 4.6; 15 and 4.9; 21.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.networks.equalised import GAIN, SLOPE, Equalised, EqualLinear, blurred, inverse_root

Form = Literal["grouped", "scaled"]


class ModulatedConv2d(Equalised):
    """A kernel of 3 or 1 that keeps the size, or with `up` doubles it: transposed, followed by a blur.

    Without demodulation it has no gain. `scale` equalises the learning rate: initially 1 / sqrt(inputs * kernel^2). It
    is stored, so that pruning inputs does not change the function of the remaining ones.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, *, up: bool = False, demodulate=True):
        super().__init__()
        self.up, self.demodulate = up, demodulate
        self.form: Form = "scaled"
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.modulation = EqualLinear(style, inputs, first=1.0)
        self.register_buffer("scale", torch.empty(1))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_()
        self.bias.zero_()
        self.scale.fill_(1 / math.sqrt(self.weight[0].numel()))

    def forward(self, x: Tensor, w: Tensor, added: Tensor, gain: float = 1.0) -> Tensor:
        """`gain` times the convolution of maps B x C x H x W with styles B x style, plus `added`."""
        style, weight = self.modulation(w), self.weight * self.scale
        return (self._grouped if self.form == "grouped" else self._scaled)(x, weight, style, added, gain)

    def kernels(self, w: Tensor) -> Tensor:
        """The modulated and demodulated kernels for styles B x style: B x outputs x inputs x k x k."""
        return self._modulated(self.weight * self.scale, self.modulation(w), 1.0)

    def _modulated(self, weight: Tensor, style: Tensor, gain: float) -> Tensor:
        weight = weight * style[:, None, :, None, None]
        if not self.demodulate:
            return weight
        return weight * (inverse_root(weight.square().sum((2, 3, 4), keepdim=True)) * gain)

    def _grouped(self, x: Tensor, weight: Tensor, style: Tensor, added: Tensor, gain: float) -> Tensor:
        batch, outputs = len(x), len(weight)
        weight = self._modulated(weight, style, gain)
        if self.up:  # in a transposed convolution the inputs come first
            weight = weight.transpose(1, 2)
        out = self._convolved(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), batch)
        return self._blurred(out.reshape(batch, outputs, *out.shape[2:])) + added

    def _scaled(self, x: Tensor, weight: Tensor, style: Tensor, added: Tensor, gain: float) -> Tensor:
        out = self._convolved(x * style[:, :, None, None], weight.transpose(0, 1) if self.up else weight, 1)
        out = self._blurred(out)
        if not self.demodulate:
            return out + added
        demodulation = inverse_root(style.square() @ weight.square().sum((2, 3)).T) * gain
        return torch.addcmul(added, out, demodulation[:, :, None, None])

    def _convolved(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        if self.up:
            return F.conv_transpose2d(x, weight, stride=2, groups=groups)
        return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)

    def _blurred(self, out: Tensor) -> Tensor:
        return blurred(out, 1, 4.0) if self.up else out


class StyledConv(ModulatedConv2d):
    """A modulated convolution with one channel of noise, times the learned `strength`, then bias and activation."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool):
        super().__init__(inputs, outputs, 3, style, up=up)
        self.strength = nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        if hasattr(self, "strength"):  # at the first call it does not exist yet
            self.strength.zero_()

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """`noise` is B or 1 x 1 x H x W, of the output's size."""
        added = self.strength * noise + self.bias[:, None, None]
        # Multiplying by the activation's gain before the activation gives the same result and costs less.
        return F.leaky_relu(super().forward(x, w, added * GAIN, GAIN), SLOPE, inplace=True)


class ToRGB(ModulatedConv2d):
    """A 1 x 1 convolution without demodulation: a layer's contribution to the image."""

    def __init__(self, inputs: int, outputs: int, style: int):
        super().__init__(inputs, outputs, 1, style, demodulate=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return super().forward(x, w, self.bias[:, None, None])
