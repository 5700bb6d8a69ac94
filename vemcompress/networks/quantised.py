"""8-bit arithmetic imitated in floating point, as GAN-Slimming trains with it (Wang et al., ECCV 2020): values are
rounded to the grid of 8 bits, and gradients pass the rounding as if it were not there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.groups import called

LEVELS = 127  # of a weight to either side of 0
MOST, STEPS = 4.0, 256  # of activations: 0 to 4 in steps of 4 / 256, which are 257 values


def weight_of_8_bits(weight: Tensor) -> Tensor:
    """Multiples of max |w| / 127 of the whole tensor; the step is a constant."""
    step = weight.detach().abs().amax().clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
    return _passed(weight, torch.round(weight.detach() / step) * step)


def activation_of_8_bits(x: Tensor) -> Tensor:
    """Clamped to [0, 4], which cuts the gradient outside, and rounded to multiples of 4 / 256."""
    clamped = x.clamp(0.0, MOST)
    step = MOST / STEPS
    return _passed(clamped, torch.round(clamped.detach() / step) * step)


def forward_of_8_bits(network: Generator, x: Tensor, names: tuple[str, ...] = ()) -> tuple[Tensor, Taps]:
    """Image and taps with the weights of all convolutions on the grid, and the inputs of all but the first; biases and
    norms stay in floating point. Differentiable in the network's own weights."""
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
    """`rounded` in value, with the gradient of `x`."""
    return x + (rounded - x).detach()
