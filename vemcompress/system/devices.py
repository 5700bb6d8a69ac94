"""Choosing a device; its arithmetic, threads, name and memory."""

import ctypes
import functools
import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vemcompress.errors import MemoryExhausted, UsageError
from vemcompress.system import launch
from vemcompress.system.memory import free_memory, is_exhausted


def choose(name: str) -> torch.device:
    """The device for `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1` or `mps`. Raises UsageError if it does
    not exist.

    With several ranks, `auto` and `cuda` give each rank its own GPU. One GPU for all ranks is refused, as is MPS.
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
        raise UsageError(
            f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0; use one of them."
        )
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
    """Turn a failed allocation into MemoryExhausted (6) with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # PyTorch's own is a RuntimeError
        if is_exhausted(error):
            raise MemoryExhausted(f"out of memory: {advice}") from error
        raise


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Context that sets how a GPU multiplies float32: "fp32" exactly; "tf32" with operands of 10 bits; with "bf16",
    where networks use bfloat16 anyway, convolutions in TF32 and matrix products exactly.

    cuDNN tries its algorithms for each shape and keeps the fastest, as in the original code.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = precision != "fp32", precision == "tf32", True
    try:
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = before


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Context in which PyTorch uses `count` threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """The name of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu" and (cpuinfo := Path("/proc/cpuinfo")).is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        return names[0] if names else "cpu"
    return device.type


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the GPU's allocator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget(device: torch.device) -> None:
    """Free cached memory, and reset the measured peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "mps":
        torch.mps.empty_cache()


def free(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on the device; None if unknown."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return free_memory() if device.type == "cpu" else None


@functools.cache
def reuse_memory() -> None:
    """Ask glibc to keep freed memory, instead of returning it to the system and faulting it in again at each step.

    A training step on a CPU frees and allocates the same gigabytes repeatedly. Does nothing without glibc.
    """
    trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1  # option numbers of mallopt in glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(trim_threshold, largest)
    mallopt(mmap_threshold, largest)
