"""Which device, how much memory, and what to say when there is too little."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vemcompress import launch
from vemcompress.errors import MemoryExhausted, UsageError


def choose(name: str) -> torch.device:
    """`auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`. Raises UsageError where it is not there.

    Among several ranks `auto` and `cuda` are each rank's own GPU, and one GPU for all is refused, as is MPS.
    """
    alone = launch.processes() == 1
    if name == "auto":
        mps = alone and torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: no such device; use auto, cpu, cuda, cuda:0 or mps.") from error
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device.type not in there or not there[device.type]():
        raise UsageError(f"--device {name}: PyTorch finds none on this machine; use --device cpu.")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0.")
    return device if alone else _of_rank(device, name)


def _of_rank(device: torch.device, name: str) -> torch.device:
    if device.type == "mps" or device.index is not None:
        raise UsageError(f"--device {name}: several ranks cannot share it; use auto, cuda or cpu.")
    if device.type == "cpu":
        return device
    here, there = launch.local_processes(), torch.cuda.device_count()
    if here > there:
        raise UsageError(f"--device {name}: {here} ranks need as many GPUs, and there are {there}; start fewer ranks.")
    return torch.device("cuda", launch.local_number())


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn an allocation failure of PyTorch or Python into MemoryExhausted (6) with advice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryExhausted(f"out of memory: {advice}") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise MemoryExhausted(f"out of memory: {advice}") from error
        raise
