"""Simulated 8-bit arithmetic for training, as in GAN-Slimming (Wang et al., ECCV 2020).

Values are rounded to an 8-bit grid, and gradients ignore the rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.groups import called

LEVELS = 127  # of a weight on either side of 0
MOST, STEPS = 4.0, 256  # activations: 0 to 4 in steps of 4 / 256, which gives 257 values


def weight_of_8_bits(weight: Tensor) -> Tensor:
    """Round to multiples of max |w| / 127 of the whole tensor; the step size has no gradient."""
    step = weight.detach().abs().amax().clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
    return _passed(weight, torch.round(weight.detach() / step) * step)


def activation_of_8_bits(x: Tensor) -> Tensor:
    """Clamp to [0, 4], which blocks the gradient outside, and round to multiples of 4 / 256."""
    clamped = x.clamp(0.0, MOST)
    step = MOST / STEPS
    return _passed(clamped, torch.round(clamped.detach() / step) * step)


def forward_of_8_bits(network: Generator, x: Tensor, names: tuple[str, ...] = ()) -> tuple[Tensor, Taps]:
    """Image and taps with 8-bit weights in all convolutions, and 8-bit inputs in all but the first. Biases and norms
    stay in floating point. Differentiable in the network's own weights.
    """
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    weights = {f"{name}.weight": weight_of_8_bits(layer.weight) for name, layer in layers.items()}
    with _rounded_inputs(list(layers.values())[1:]):
        return called(network, weights, x, names)


@contextmanager
def _rounded_inputs(layers: list[nn.Module]) -> Iterator[None]:
    hooks = [layer.register_forward_pre_hook(lambda _, args: (activation_of_8_bits(args[0]),)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _passed(x: Tensor, rounded: Tensor) -> Tensor:
    """The value of `rounded`, with the gradient of `x`."""
    return x + (rounded - x).detach()
