"""The group of processes that torchrun started: joining and leaving it, and each one's part of the work."""

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
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if _joined() else 0


def is_writer() -> bool:
    return rank() == 0


def share(count: int) -> range:
    """This rank's part of 0..count-1: equal parts, in the ranks' order, where `count` can be divided."""
    return range(count * rank() // ranks(), count * (rank() + 1) // ranks())


def check_batch(batch: int) -> None:
    """Raises RecipeError for a global batch that cannot be divided among the ranks."""
    if batch % ranks():
        raise RecipeError(
            f"train.batch {batch}: cannot be divided among {ranks()} ranks; set it to a multiple of {ranks()}, or "
            "start fewer ranks."
        )


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Be one of the ranks while inside, on this device; nothing where there is one process, or a group already.

    Tensors on a GPU go over NCCL, those on the CPU over gloo. Raises RankLost where the others do not come.
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
        if not on_gpu:  # NCCL would wait for ranks that may be gone; the process's end frees it
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def watched() -> Iterator[None]:
    """Turn the error of a collective whose other ranks are gone into RankLost."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):  # gloo has no class of its own
            raise
        raise RankLost("another rank has stopped, or does not answer, so this one cannot go on.") from error


@contextmanager
def alone() -> Iterator[None]:
    """While inside, this process works by itself, as if there were no other: for work that ranks share out whole."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def _joined() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()
