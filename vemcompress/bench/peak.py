"""What a device can do at most: one large matrix product, one large copy."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F

from vemcompress import devices

# Of the square matrices, and of the floats that are copied.
SIDE, COUNT = {"cpu": 3072, "cuda": 8192}, {"cpu": 2**26, "cuda": 2**28}


@dataclass(frozen=True)
class Peak:
    """`flops`: operations a second (a multiplication and an addition are two) in a precision; `bytes`: of device memory
    read and written a second."""

    flops: float
    bytes: float


def measure(device: torch.device, precision: str) -> Peak:
    """The best of a few tries of each. A product is tried as one and as a 1 x 1 convolution, for on some processors
    these go to libraries of unequal speed."""
    side, count = (sizes.get(device.type, sizes["cpu"]) for sizes in (SIDE, COUNT))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    pixels = a.view(1, side, 1, side).permute(0, 3, 1, 2)  # channels last
    product = min(_seconds(lambda: a @ b, device), _seconds(lambda: F.conv2d(pixels, b.view(side, side, 1, 1)), device))
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source), device)
    return Peak(2 * side**3 / product, 2 * 4 * count / copy)


def _seconds(work: Callable[[], object], device: torch.device, tries: int = 4) -> float:
    best = float("inf")
    for _ in range(tries + 1):
        devices.wait(device)
        start = perf_counter()
        work()
        devices.wait(device)
        best = min(best, perf_counter() - start)
    return best
