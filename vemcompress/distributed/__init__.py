"""Several processes, one a device, that train or measure as one. With one process nothing here does anything.

torchrun starts them and sets RANK, WORLD_SIZE and LOCAL_RANK. `rank 0` is the writer: it alone writes and talks. Every
rank makes the same calls in the same order, for each of them waits for the others.
"""

from vemcompress.distributed.agreement import by_writer, collected, from_writer, largest, together, told_by_writer
from vemcompress.distributed.group import check_batch, group, is_writer, local_rank, local_ranks, rank, ranks, share
from vemcompress.distributed.tensors import average, broadcast, gather, mine, stacked, summed, total

__all__ = [
    "average",
    "broadcast",
    "by_writer",
    "check_batch",
    "collected",
    "from_writer",
    "gather",
    "group",
    "is_writer",
    "largest",
    "local_rank",
    "local_ranks",
    "mine",
    "rank",
    "ranks",
    "share",
    "stacked",
    "summed",
    "together",
    "told_by_writer",
    "total",
]
