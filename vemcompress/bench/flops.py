"""Floating-point operations of convolutions and matrix products, a multiplication and an addition being two."""

from collections.abc import Sequence
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode


def _of_backward(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *settings, out_shape=None, **more
) -> int:
    """Of a convolution's backward: those of its forward for each gradient that is asked for, inputs' and weights'.

    PyTorch's own count takes a grouped convolution's weight gradient for a dense one.
    """
    transposed, wanted = settings[4], settings[-1]
    positions = (x if transposed else gradient)[2:]
    return sum(wanted[:2]) * 2 * x[0] * prod(positions) * prod(weight)


def counter() -> FlopCounterMode:
    """Counts what runs inside; `get_total_flops` tells."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _of_backward})
