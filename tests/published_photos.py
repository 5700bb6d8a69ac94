"""Generators of photos that people own, written from their descriptions with their published state-dict names.

As `published`: references for the loader, which import nothing of vemcompress.
"""

import torch
import torch.nn.functional as F
from published import INSTANCE, Block
from torch import Tensor, nn


class Padded(nn.Module):
    """Fast neural style's ConvLayer: reflection padding of half the kernel, enlarged before where asked for."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, up: int = 1):
        super().__init__()
        self.up, self.pad = up, nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(self.pad(x.repeat_interleave(self.up, 2).repeat_interleave(self.up, 3)))


class StyleBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.in1 = Padded(channels, channels, 3), INSTANCE(channels, affine=True)
        self.conv2, self.in2 = Padded(channels, channels, 3), INSTANCE(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.in2(self.conv2(F.relu(self.in1(self.conv1(x))))) + x


class StyleNetwork(nn.Module):
    """pytorch/examples' transformer network: 0..255 to what should be 0..255."""

    def __init__(self, n: int = 4, blocks: int = 5, channels: int = 3):
        super().__init__()
        self.blocks = blocks
        self.conv1, self.in1 = Padded(channels, n, 9), INSTANCE(n, affine=True)
        self.conv2, self.in2 = Padded(n, 2 * n, 3, 2), INSTANCE(2 * n, affine=True)
        self.conv3, self.in3 = Padded(2 * n, 4 * n, 3, 2), INSTANCE(4 * n, affine=True)
        for i in range(blocks):
            self.add_module(f"res{i + 1}", StyleBlock(4 * n))
        self.deconv1, self.in4 = Padded(4 * n, 2 * n, 3, up=2), INSTANCE(2 * n, affine=True)
        self.deconv2, self.in5 = Padded(2 * n, n, 3, up=2), INSTANCE(n, affine=True)
        self.deconv3 = Padded(n, channels, 9)

    def forward(self, x: Tensor) -> Tensor:
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"in{i}")(getattr(self, f"conv{i}")(x)))
        for i in range(self.blocks):
            x = getattr(self, f"res{i + 1}")(x)
        x = F.relu(self.in4(self.deconv1(x)))
        return self.deconv3(F.relu(self.in5(self.deconv2(x))))


def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    padding = (0, 1, 0, 1) if stride == 2 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=groups > 1)
    return nn.Sequential(nn.ReflectionPad2d(padding), conv, nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2))


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.skip, inner = inputs == outputs, 2 * inputs
        last = nn.Conv2d(inner, outputs, 1, bias=False), nn.GroupNorm(1, outputs)
        self.layers = nn.Sequential(unit(inputs, inner, 1), unit(inner, inner, groups=inner), *last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


class AnimeNetwork(nn.Module):
    """AnimeGANv2."""

    def __init__(self, n: int = 4):
        super().__init__()
        self.block_a = nn.Sequential(unit(3, n, 7), unit(n, 2 * n, stride=2), unit(2 * n, 2 * n))
        self.block_b = nn.Sequential(unit(2 * n, 4 * n, stride=2), unit(4 * n, 4 * n))
        blocks = (Inverted(4 * n, 8 * n), *(Inverted(8 * n, 8 * n) for _ in range(3)))
        self.block_c = nn.Sequential(unit(4 * n, 4 * n), *blocks, unit(8 * n, 4 * n))
        self.block_d = nn.Sequential(unit(4 * n, 4 * n), unit(4 * n, 4 * n))
        self.block_e = nn.Sequential(unit(4 * n, 2 * n), unit(2 * n, 2 * n), unit(2 * n, n, 7))
        self.out_layer = nn.Sequential(nn.Conv2d(n, 3, 1, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        half = self.block_a(x)
        h = self.block_c(self.block_b(half))
        h = self.block_d(F.interpolate(h, half.shape[2:], mode="bilinear", align_corners=True))
        return self.out_layer(self.block_e(F.interpolate(h, x.shape[2:], mode="bilinear", align_corners=True)))


class MixedNorm(nn.Module):
    """U-GAT-IT's ILN, with `own` scale and shift, or AdaILN, to which they are given."""

    def __init__(self, channels: int, own: bool):
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), 0.7))
        if own:
            self.gamma, self.beta = (nn.Parameter(torch.ones(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        def normal(dims: tuple[int, ...]) -> Tensor:
            return (x - x.mean(dims, keepdim=True)) / (x.var(dims, keepdim=True) + 1e-5).sqrt()

        mixed = self.rho * normal((2, 3)) + (1 - self.rho) * normal((1, 2, 3))
        if gamma is None:
            return mixed * self.gamma + self.beta
        return mixed * gamma[:, :, None, None] + beta[:, :, None, None]


def reflected(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride, bias=False)


class EncoderBlock(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.conv_block = nn.Sequential(*reflected(n, n), INSTANCE(n), nn.ReLU(), *reflected(n, n), INSTANCE(n))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class DecoderBlock(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.pad1, self.conv1 = reflected(n, n)
        self.norm1 = MixedNorm(n, own=False)
        self.pad2, self.conv2 = reflected(n, n)
        self.norm2 = MixedNorm(n, own=False)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(self.pad1(x)), gamma, beta))
        return x + self.norm2(self.conv2(self.pad2(h)), gamma, beta)


class AttentionNetwork(nn.Module):
    """U-GAT-IT's generator, light, or full for images of `size`."""

    def __init__(self, n: int = 4, blocks: int = 3, size: int | None = None):
        super().__init__()
        self.light, self.blocks, m = size is None, blocks, 4 * n
        layers = [*reflected(3, n, 7), INSTANCE(n), nn.ReLU()]
        for i in (n, 2 * n):
            layers += [*reflected(i, 2 * i, stride=2), INSTANCE(2 * i), nn.ReLU()]
        self.DownBlock = nn.Sequential(*layers, *(EncoderBlock(m) for _ in range(blocks)))
        self.gap_fc, self.gmp_fc = nn.Linear(m, 1, bias=False), nn.Linear(m, 1, bias=False)
        self.conv1x1 = nn.Conv2d(2 * m, m, 1)
        read = m if self.light else m * (size // 4) ** 2
        fc = nn.Linear(read, m, bias=False), nn.ReLU(), nn.Linear(m, m, bias=False), nn.ReLU()
        self.FC, self.gamma, self.beta = nn.Sequential(*fc), *(nn.Linear(m, m, bias=False) for _ in range(2))
        for i in range(blocks):
            self.add_module(f"UpBlock1_{i + 1}", DecoderBlock(m))
        layers = []
        for i in (m, m // 2):
            layers += [nn.Upsample(scale_factor=2), *reflected(i, i // 2), MixedNorm(i // 2, own=True), nn.ReLU()]
        self.UpBlock2 = nn.Sequential(*layers, *reflected(n, 3, 7), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.DownBlock(x)
        average = x * self.gap_fc.weight[:, :, None, None]
        largest = x * self.gmp_fc.weight[:, :, None, None]
        logits = self.gap_fc(x.mean((2, 3))), self.gmp_fc(x.amax((2, 3)))
        x = F.relu(self.conv1x1(torch.cat([average, largest], 1)))
        code = self.FC(x.mean((2, 3)) if self.light else x.reshape(len(x), -1))
        gamma, beta = self.gamma(code), self.beta(code)
        heat = x.sum(1, keepdim=True)
        for i in range(self.blocks):
            x = getattr(self, f"UpBlock1_{i + 1}")(x, gamma, beta)
        return self.UpBlock2(x), torch.cat(logits, 1), heat


def global_layers(inputs: int, outputs: int, n: int, downs: int, blocks: int, norm=INSTANCE) -> list[nn.Module]:
    """pix2pixHD's global generator: biases before every norm."""

    def behind(width: int) -> tuple[nn.Module, nn.Module]:
        return norm(width), nn.ReLU()

    layers = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, n, 7), *behind(n)]
    for i in range(downs):
        layers += [nn.Conv2d(n * 2**i, n * 2 ** (i + 1), 3, 2, 1), *behind(n * 2 ** (i + 1))]
    layers += [biased_block(n * 2**downs, norm) for _ in range(blocks)]
    for i in reversed(range(downs)):
        up = nn.ConvTranspose2d(n * 2 ** (i + 1), n * 2**i, 3, 2, 1, output_padding=1)
        layers += [up, *behind(n * 2**i)]
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(n, outputs, 7), nn.Tanh()]


def biased_block(n: int, norm) -> Block:
    block = Block(n, n, norm, dropout=False, mobile=False)
    for i in (1, 5):
        block.conv_block[i] = nn.Conv2d(n, n, 3)
    return block


class GlobalGenerator(nn.Module):
    def __init__(self, inputs: int, outputs: int = 3, n: int = 4, downs: int = 3, blocks: int = 3, norm=INSTANCE):
        super().__init__()
        self.model = nn.Sequential(*global_layers(inputs, outputs, n, downs, blocks, norm))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class LocalGenerator(nn.Module):
    """pix2pixHD's local enhancer around a global generator of twice its width."""

    def __init__(self, inputs: int, n: int = 2, downs: int = 2, blocks: int = 2, local: int = 3, norm=INSTANCE):
        super().__init__()
        self.model = nn.Sequential(*global_layers(inputs, 3, 2 * n, downs, blocks, norm)[:-3])
        first = nn.ReflectionPad2d(3), nn.Conv2d(inputs, n, 7), norm(n), nn.ReLU()
        self.model1_1 = nn.Sequential(*first, nn.Conv2d(n, 2 * n, 3, 2, 1), norm(2 * n), nn.ReLU())
        up = nn.ConvTranspose2d(2 * n, n, 3, 2, 1, output_padding=1), norm(n), nn.ReLU()
        last = nn.ReflectionPad2d(3), nn.Conv2d(n, 3, 7), nn.Tanh()
        self.model1_2 = nn.Sequential(*(biased_block(2 * n, norm) for _ in range(local)), *up, *last)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 3, 2, (1, 1), count_include_pad=False)
        return self.model1_2(self.model1_1(x) + self.model(half))
