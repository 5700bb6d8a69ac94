"""Several processes, one per device, that train or measure as one. With one process nothing here has any effect.

torchrun starts them and sets RANK, WORLD_SIZE and LOCAL_RANK. Rank 0 is the writer: only it writes files and messages.
Every rank must make the same calls in the same order, because each call waits for the other ranks.
"""

from vemcompress.system.distributed.agreement import (
    alike,
    by_writer,
    collected,
    from_writer,
    held_by_writer,
    largest,
    together,
    told_by_writer,
    writer_first,
)
from vemcompress.system.distributed.group import alone, check_batch, group, is_writer, rank, ranks, share
from vemcompress.system.distributed.parts import Part, current, shares, working_on
from vemcompress.system.distributed.tensors import average, broadcast, gather, mine, of_all, stacked, summed, total
