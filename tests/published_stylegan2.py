"""StyleGAN2 as rosinality and as NVIDIA's ADA have it, written from their descriptions with their state-dict names.

References for our networks and loaders, as `published.py` is; nothing here imports vemcompress. Filters run as in the
description: zeros between the pixels, padding, one filter, every second pixel; ADA's up-convolution too, whose kernel
is then flipped.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROW = torch.tensor([1.0, 3.0, 3.0, 1.0])
FILTER = torch.outer(ROW, ROW) / 64


def filtered(x: Tensor, kernel: Tensor, up: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros between pixels, `pad` before and behind in both directions, then the filter as a true convolution."""
    b, c, h, w = x.shape
    wide = x.new_zeros(b, c, h, up, w, up)
    wide[:, :, :, 0, :, 0] = x
    wide = F.pad(wide.reshape(b, c, h * up, w * up), (*pad, *pad))
    one = kernel.flip(0, 1)[None, None].to(x)
    return F.conv2d(wide.reshape(-1, 1, *wide.shape[2:]), one).reshape(b, c, *(n - 3 for n in wide.shape[2:]))


def normalised(z: Tensor) -> Tensor:
    return z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)


def leaky(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, *(1 for _ in x.shape[2:])), 0.2) * 2**0.5


# -- rosinality ------------------------------------------------------------------------------------------------------


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return normalised(x)


class EqualLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias_init: float = 0.0, lr_mul: float = 1.0, active: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias_init)))
        self.scale, self.lr_mul, self.active = lr_mul / math.sqrt(inputs), lr_mul, active

    def forward(self, x: Tensor) -> Tensor:
        out, bias = F.linear(x, self.weight * self.scale), self.bias * self.lr_mul
        return leaky(out, bias) if self.active else out + bias


class Blur(nn.Module):
    def __init__(self, pad: tuple[int, int], factor: int = 1):
        super().__init__()
        self.register_buffer("kernel", FILTER * factor**2)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return filtered(x, self.kernel, pad=self.pad)


class Upsample(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", FILTER * 4)

    def forward(self, x: Tensor) -> Tensor:
        return filtered(x, self.kernel, up=2, pad=(2, 1))


class ModulatedConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, demodulate: bool = True, up: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(style, inputs, bias_init=1)
        self.scale, self.demodulate, self.up = 1 / math.sqrt(inputs * kernel**2), demodulate, up
        if up:
            self.blur = Blur((1, 1), 2)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        b, c, height, width = x.shape
        kernel = self.scale * self.weight * self.modulation(w).view(b, 1, c, 1, 1)
        if self.demodulate:
            kernel = kernel * torch.rsqrt(kernel.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        x, size = x.view(1, b * c, height, width), kernel.shape[-1]
        if self.up:
            turned = kernel.transpose(1, 2).reshape(b * c, -1, size, size)
            out = F.conv_transpose2d(x, turned, stride=2, groups=b)
            return self.blur(out.view(b, -1, *out.shape[2:]))
        out = F.conv2d(x, kernel.reshape(-1, c, size, size), padding=size // 2, groups=b)
        return out.view(b, -1, *out.shape[2:])


class Held(nn.Module):
    """One parameter under a name."""

    def __init__(self, name: str, value: Tensor):
        super().__init__()
        self.register_parameter(name, nn.Parameter(value))


class StyledConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, style: int, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style, up=up)
        self.noise, self.activate = Held("weight", torch.zeros(1)), Held("bias", torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return leaky(self.conv(x, w) + self.noise.weight * noise, self.activate.bias)


class ToRGB(nn.Module):
    def __init__(self, inputs: int, style: int, up: bool = True):
        super().__init__()
        if up:
            self.upsample = Upsample()
        self.conv = ModulatedConv(inputs, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None = None) -> Tensor:
        out = self.conv(x, w) + self.bias
        return out if skip is None else out + self.upsample(skip)


class Generator(nn.Module):
    """`widths`: of the constant, then of each convolution."""

    def __init__(self, widths: list[int], style: int = 8, layers: int = 8):
        super().__init__()
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(style, style, lr_mul=0.01, active=True) for _ in range(layers))
        )
        self.input = Held("input", torch.randn(1, widths[0], 4, 4))
        self.conv1, self.to_rgb1 = StyledConv(widths[0], widths[1], style), ToRGB(widths[1], style, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for i in range(1, len(widths) - 1):
            self.convs.append(StyledConv(widths[i], widths[i + 1], style, up=i % 2 == 1))
            if i % 2 == 0:
                self.to_rgbs.append(ToRGB(widths[i + 1], style))
        for i in range(len(widths) - 1):
            side = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))

    def forward(self, z: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        return self.synthesis(self.style(z)[:, None].repeat(1, len(self.convs) + 2, 1), noise)

    def synthesis(self, w: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        noise = noise or [getattr(self.noises, f"noise_{i}") for i in range(len(self.convs) + 1)]
        h = self.conv1(self.input.input.repeat(len(w), 1, 1, 1), w[:, 0], noise[0])
        image = self.to_rgb1(h, w[:, 1])
        for i in range(1, len(self.convs), 2):
            h = self.convs[i - 1](h, w[:, i], noise[i])
            h = self.convs[i](h, w[:, i + 1], noise[i + 1])
            image = self.to_rgbs[i // 2](h, w[:, i + 2], image)
        return image


class EqualConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale, self.stride, self.padding = 1 / math.sqrt(inputs * kernel**2), stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class Leaky(Held):
    def __init__(self, channels: int):
        super().__init__("bias", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky(x, self.bias)


def conv_layer(inputs: int, outputs: int, kernel: int, down: bool = False, active: bool = True) -> nn.Sequential:
    pad = 2 + kernel - 1
    blur = [Blur(((pad + 1) // 2, pad // 2))] if down else []
    conv = EqualConv(inputs, outputs, kernel, 2 if down else 1, 0 if down else kernel // 2)
    return nn.Sequential(*blur, conv, *([Leaky(outputs)] if active else []))


class ResBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.conv2 = conv_layer(inputs, inputs, 3), conv_layer(inputs, outputs, 3, down=True)
        self.skip = conv_layer(inputs, outputs, 1, down=True, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """`widths`: from those of the images' size to those of 4 px."""

    def __init__(self, widths: list[int]):
        super().__init__()
        blocks = [ResBlock(*pair) for pair in pairwise(widths)]
        self.convs = nn.Sequential(conv_layer(3, widths[0], 1), *blocks)
        self.final_conv = conv_layer(widths[-1] + 1, widths[-1], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(widths[-1] * 16, widths[-1], active=True), EqualLinear(widths[-1], 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs(x)
        b, c, h, w = out.shape
        group = min(b, 4)
        spread = torch.sqrt(out.view(group, -1, 1, c, h, w).var(0, unbiased=False) + 1e-8)
        spread = spread.mean([2, 3, 4], keepdim=True).squeeze(2).repeat(group, 1, h, w)
        return self.final_linear(self.final_conv(torch.cat([out, spread], 1)).view(b, -1))


# -- StyleGAN2-ADA ---------------------------------------------------------------------------------------------------


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias_init: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias, self.rate = nn.Parameter(torch.full((outputs,), bias_init)), rate

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight * self.rate / self.weight.shape[1] ** 0.5).T + self.bias * self.rate


class Synthesis(nn.Module):
    """A convolution of a block: kernels without a scale, noise by a number, and with `up` the zeros first, then the
    filter, then the flipped kernel."""

    def __init__(self, inputs: int, outputs: int, style: int, side: int, up: bool):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs, 3, 3)), nn.Parameter(torch.zeros(outputs))
        self.affine, self.noise_strength = Dense(style, inputs, bias_init=1.0), nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.register_buffer("resample_filter", FILTER.clone())
        self.up = up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        kernels = self.weight[None] * self.affine(w)[:, None, :, None, None]
        kernels = kernels * (kernels.square().sum([2, 3, 4], keepdim=True) + 1e-8).rsqrt()
        if self.up:
            x, kernels = filtered(x, self.resample_filter * 4, up=2, pad=(3, 2)), kernels.flip(3, 4)
        x = torch.cat([F.conv2d(a[None], k, padding=0 if self.up else 1) for a, k in zip(x, kernels, strict=True)])
        return leaky(x + self.noise_const * self.noise_strength, self.bias)


class Rgb(nn.Module):
    def __init__(self, inputs: int, style: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, inputs, 1, 1)), nn.Parameter(torch.zeros(3))
        self.affine = Dense(style, inputs, bias_init=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) / self.weight.shape[1] ** 0.5
        return F.conv2d(x * styles[:, :, None, None], self.weight) + self.bias.view(1, 3, 1, 1)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, style: int, side: int):
        super().__init__()
        self.register_buffer("resample_filter", FILTER.clone())
        if side == 4:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            self.conv0 = Synthesis(inputs, outputs, style, side, up=True)
        self.conv1, self.torgb = Synthesis(outputs, outputs, style, side, up=False), Rgb(outputs, style)


class ADAGenerator(nn.Module):
    """`widths` by size from 4 px on; w is `style` long, z `latent`."""

    def __init__(self, widths: list[int], latent: int = 8, style: int = 6, layers: int = 2):
        super().__init__()
        self.mapping, self.synthesis = nn.Module(), nn.Module()
        self.mapping.register_buffer("w_avg", torch.randn(style))
        for i in range(layers):
            self.mapping.add_module(f"fc{i}", Dense(style if i else latent, style, rate=0.01))
        for i, width in enumerate(widths):
            self.synthesis.add_module(f"b{4 * 2**i}", Block(widths[i - 1], width, style, 4 * 2**i))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        w = normalised(z)
        for name in (name for name, _ in self.mapping.named_children()):
            w = F.leaky_relu(self.mapping.get_submodule(name)(w), 0.2) * 2**0.5
        w = self.mapping.w_avg.lerp(w, truncation)
        image, h = None, None
        for block in self.synthesis.children():
            h = block.const.expand(len(w), -1, -1, -1) if h is None else block.conv0(h, w)
            h = block.conv1(h, w)
            more = block.torgb(h, w)
            image = more if image is None else filtered(image, block.resample_filter * 4, up=2, pad=(2, 1)) + more
        return image
