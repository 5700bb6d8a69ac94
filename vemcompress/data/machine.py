"""What the machine has to spare for reading images: processors and memory, divided among the ranks that share it."""

import os

from vemcompress.system import launch
from vemcompress.system.memory import free_memory

LEAST_WORKERS, MOST_WORKERS = 2, 8
CACHE_SHARE, CACHE_UNKNOWN = 4, 2 << 30


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Threads that read images: one for each processor that this process may use, 2 to 8.

    More than 8 would only stand in one another's way: what they do between Pillow's and numpy's calls needs the
    interpreter's lock, as the training thread does.
    """
    return max(LEAST_WORKERS, min(MOST_WORKERS, cores() // launch.local_processes()))


def default_cache() -> int:
    """Bytes of decoded images to keep: a quarter of the memory that is free now; 2 GiB where that is unknown."""
    available = free_memory()
    return CACHE_UNKNOWN if available is None else available // (CACHE_SHARE * launch.local_processes())
