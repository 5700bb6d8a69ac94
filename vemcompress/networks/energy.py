"""The energy network E(t, s) of the variational distribution q(t|s) (VEM, section 3 and figure 4).

Details that the figure leaves open follow the first author's published code: every residual block ends in 2x2 average
pooling and LeakyReLU(0.01), and the second convolution of a block uses a capped spectral normalisation.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.system.settings import BaseSettings, Channels

MAX_BLOCKS = 7
MAX_CHANNELS = 512  # layers have up to four times as many


class EnergyConfig(BaseSettings):
    """`channels`: the paper's C (8 for horse2zebra, 32 elsewhere). `blocks`: residual blocks. `image_channels`:
    channels of t, and of s.
    """

    channels: int = Field(32, ge=1, le=MAX_CHANNELS)
    blocks: int = Field(MAX_BLOCKS, ge=1, le=MAX_BLOCKS)
    image_channels: Channels = 3

    @classmethod
    def for_size(cls, channels: int, height: int, width: int, image_channels: int = 3) -> "EnergyConfig":
        """The Config with as many blocks, up to seven, as leave at least one pixel."""
        blocks = max(1, min(MAX_BLOCKS, int(math.log2(max(2, min(height, width) / 2)))))
        return cls(channels=channels, blocks=blocks, image_channels=image_channels)


class SpectralLayer(nn.Module):
    """A convolution's or linear layer's weight, divided by its largest singular value sigma.

    sigma = u^T W v with W reshaped to (out, -1), a constant in the gradient. u and v have converged when the layer is
    created, and `power_iteration` advances them by one step. `capped` gives W / (sigma + 1e-6) * min(sigma, 1), which
    only shrinks weights, so that a residual branch can start at zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor, capped: bool = False):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.capped = capped
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", matrix.new_zeros(matrix.shape[0]))
        self.register_buffer("v", matrix.new_zeros(matrix.shape[1]))
        self.converge()

    @torch.no_grad()
    def converge(self) -> None:
        """Set u and v to the leading singular vectors."""
        left, _, right = torch.linalg.svd(self.weight.flatten(1), full_matrices=False)
        self.u.copy_(left[:, 0])
        self.v.copy_(right[0])

    @torch.no_grad()
    def power_iteration(self) -> None:
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(matrix.t() @ self.u, dim=0, eps=1e-30))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=1e-30))

    def effective(self) -> Tensor:
        """The normalised weight, of the weight's shape, with a gradient to `weight`."""
        with torch.no_grad():
            sigma = self.u @ (self.weight.flatten(1) @ self.v)
            factor = sigma.clamp(max=1.0) / (sigma + 1e-6) if self.capped else 1.0 / sigma
        return self.weight * factor


def _conv(inputs: int, outputs: int, std: float = 1.0, capped: bool = False) -> SpectralLayer:
    return SpectralLayer(torch.randn(outputs, inputs, 3, 3) * std, torch.zeros(outputs), capped)


def _pooled(kernel: Tensor) -> Tensor:
    """The 4x4 kernel that, at stride 2, is a 3x3 convolution followed by 2x2 average pooling."""
    pads = ((0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0))
    return sum(F.pad(kernel, pad) for pad in pads) / 4


class _Block(nn.Module):
    """shortcut(x) + conv2(LeakyReLU(conv1(x))), 2x2 average pooling, LeakyReLU. The sum and the pooling are linear,
    so conv2, shortcut and pooling are computed as one convolution of stride 2.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = _conv(inputs, inputs)
        self.conv2 = _conv(inputs, outputs, std=1e-10, capped=True)
        self.shortcut = _conv(inputs, outputs) if inputs != outputs else None

    def prepare(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Kernel and bias of the first convolution, and of the second one merged with shortcut and pooling."""
        second, bias = _pooled(self.conv2.effective()), self.conv2.bias
        if self.shortcut is not None:
            second = torch.cat((second, _pooled(self.shortcut.effective())), dim=1)
            bias = bias + self.shortcut.bias
        # clone: a constant if gradients are off, while the parameter itself would still require one
        return self.conv1.effective(), self.conv1.bias.clone(), second, bias.clone()

    def forward(self, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        first, first_bias, second, second_bias = weights
        h = F.leaky_relu(F.conv2d(x, first, first_bias, padding=1))
        if self.shortcut is not None:
            return F.leaky_relu(F.conv2d(torch.cat((h, x), dim=1), second, second_bias, stride=2, padding=1))
        return F.leaky_relu(F.conv2d(h, second, second_bias, stride=2, padding=1) + F.avg_pool2d(x, 2))


class EnergyModel(nn.Module):
    """E(t, s): two images B x image_channels x H x W in [-1, 1] to B x 1 energies, unbounded.

    `forward` normalises the weights every time. If the parameters do not change over many evaluations (Langevin
    dynamics), call `given(s, frozen=True)` once: it returns a function of t alone, in which the parameters are
    constants.
    """

    def __init__(self, config: EnergyConfig):
        super().__init__()
        self.config = config
        c = config.channels
        widths = [c, 2 * c, *[4 * c] * 6][: config.blocks + 1]
        self.stem = _conv(2 * config.image_channels, c)
        self.blocks = nn.ModuleList(_Block(i, o) for i, o in pairwise(widths))
        linear = nn.Linear(widths[-1], 1)
        self.head = SpectralLayer(linear.weight.detach(), linear.bias.detach())

    def power_iteration(self) -> None:
        """One power iteration of every layer; needed once after each change of the parameters."""
        for module in self.modules():
            if isinstance(module, SpectralLayer):
                module.power_iteration()

    def given(self, s: Tensor, frozen: bool = False) -> Callable[[Tensor], Tensor]:
        """E(., s): a function of t of n * B images, where E pairs t[i] with s[i mod B]. The first convolution is
        linear in (t, s), so the part of s is computed here once, as is each W / sigma.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            weights = self.prepare()
        images = self.config.image_channels
        stem, stem_bias = weights[0]
        condition = F.conv2d(F.avg_pool2d(s, 3, 2, 1), stem[:, images:], stem_bias, padding=1)
        return lambda t: self.evaluate(t, condition, weights)

    def prepare(self) -> list[tuple[Tensor, ...]]:
        """Normalised kernels and biases: of the stem, of each block, of the head."""
        stem, head = ((layer.effective(), layer.bias.clone()) for layer in (self.stem, self.head))
        return [stem, *(block.prepare() for block in self.blocks), head]

    def evaluate(self, t: Tensor, condition: Tensor, weights: list[tuple[Tensor, ...]]) -> Tensor:
        """E of n B images t; `condition` is the part of the first convolution from B images s."""
        (stem, _), *of_blocks, (head, head_bias) = weights
        copies = len(t) // len(condition)
        h = F.conv2d(F.avg_pool2d(t, 3, 2, 1), stem[:, : self.config.image_channels], padding=1)
        h = F.leaky_relu(h + (condition.repeat(copies, 1, 1, 1) if copies > 1 else condition))
        for block, weight in zip(self.blocks, of_blocks, strict=True):
            h = block(h, weight)
        return F.linear(F.relu(h).mean((2, 3)), head, head_bias)

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        return self.given(s)(t)
