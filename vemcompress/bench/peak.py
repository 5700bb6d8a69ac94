"""Peak rates of a device, measured with one large matrix product or convolution and one large copy; and a counter of
operations. A multiplication and an addition count as two operations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from time import perf_counter

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from vemcompress.system import devices

# Side of the matrices, shape of the convolved maps, and number of copied floats. Other devices use the CPU's values.
SIDE = {"cpu": 3072, "cuda": 8192}
MAPS = {"cpu": (4, 512, 32, 32), "cuda": (32, 512, 64, 64)}
COUNT = {"cpu": 2**26, "cuda": 2**28}


@dataclass(frozen=True)
class Peak:
    """`flops`: operations per second in a precision. `bytes`: device memory read and written per second."""

    flops: float
    bytes: float


def measure(device: torch.device, precision: str) -> Peak:
    """The best of a few tries. Products are measured as a matrix product, as a 1 x 1 convolution and as a 3 x 3
    convolution, because some processors use libraries of different speed for them."""
    side, shape, count = (sizes.get(device.type, sizes["cpu"]) for sizes in (SIDE, MAPS, COUNT))
    options = {"device": device, "dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
    together = {"memory_format": torch.channels_last}
    a, b = (torch.randn(side, side, **options) for _ in range(2))
    pixels, ones = a.view(1, side, 1, side).permute(0, 3, 1, 2), b.view(side, side, 1, 1)
    maps = torch.randn(shape, **options).contiguous(**together)
    kernel = torch.randn(shape[1], shape[1], 3, 3, **options).contiguous(**together)
    flops = max(
        2 * side**3 / _seconds(lambda: a @ b, device),
        2 * side**3 / _seconds(lambda: F.conv2d(pixels, ones), device),
        2 * maps.numel() * kernel[0].numel() / _seconds(lambda: F.conv2d(maps, kernel, padding=1), device),
    )
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source), device)
    return Peak(flops, 2 * 4 * count / copy)


def _seconds(work: Callable[[], object], device: torch.device, tries: int = 4) -> float:
    best = float("inf")
    for _ in range(tries + 1):
        devices.wait(device)
        start = perf_counter()
        work()
        devices.wait(device)
        best = min(best, perf_counter() - start)
    return best


def _of_backward(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *settings, out_shape=None, **more
) -> int:
    """Operations of a convolution's backward pass: as many as in its forward pass for each requested gradient (of the
    input and of the weights).

    PyTorch's own count treats the weight gradient of a grouped convolution as that of a dense one.
    """
    transposed, wanted = settings[4], settings[-1]
    positions = (x if transposed else gradient)[2:]
    return sum(wanted[:2]) * 2 * x[0] * prod(positions) * prod(weight)


def counted() -> FlopCounterMode:
    """A context manager that counts the operations of convolutions and matrix products; `get_total_flops` returns
    them."""
    found = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _of_backward})
    found.mod_tracker = _NoModules()  # PyTorch's own tracker fails on gradients of gradients
    return found


class _NoModules:
    """Replaces PyTorch's tracker of operations per module, which is not needed here."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error) -> None:
        """Nothing to end."""
