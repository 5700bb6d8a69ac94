"""The process group that torchrun started: joining, leaving, and each process's share of the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from vemcompress.errors import RankLost, RecipeError
from vemcompress.system import launch

# A rank that dies is noticed at once; this is for one that hangs. The longest wait is for rank 0's downloads.
TIMEOUT = timedelta(minutes=20)
_alone = False


def ranks() -> int:
    """The number of processes."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def is_writer() -> bool:
    return rank() == 0


def share(count: int) -> range:
    """This rank's part of 0..count-1: equal parts, in the order of the ranks, if `count` is divisible."""
    return range(count * rank() // ranks(), count * (rank() + 1) // ranks())


def check_batch(batch: int) -> None:
    """Raises RecipeError for a global batch that is not divisible by the number of ranks."""
    if batch % ranks():
        raise RecipeError(
            f"train.batch {batch}: is not divisible by {ranks()} ranks; set it to a multiple of {ranks()}, or "
            "start fewer ranks."
        )


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Context in which this process is one of the ranks, on this device. Does nothing with one process, or inside a
    group.

    Tensors on a GPU use NCCL, those on the CPU gloo. Raises RankLost if the other ranks do not join.
    """
    if launch.processes() == 1 or _joined():
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    with watched():
        dist.init_process_group(backend, timeout=TIMEOUT, device_id=device if on_gpu else None)
    try:
        yield
    except BaseException:
        if not on_gpu:  # NCCL would wait for ranks that may be gone; it is released when the process ends
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def watched() -> Iterator[None]:
    """Turn the error of a collective operation whose other ranks are gone into RankLost."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):  # gloo has no error class
            raise
        raise RankLost("another rank has stopped, or does not answer, so this one cannot continue.") from error


@contextmanager
def alone() -> Iterator[None]:
    """Context in which this process works as if there were no others: for whole tasks that ranks divide among
    themselves.
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def _joined() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()
