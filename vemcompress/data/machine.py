"""Default numbers of reader threads and cache bytes, from the machine's processors and memory, divided among local
ranks.
"""

import os

from vemcompress.system import launch
from vemcompress.system.memory import free_memory

LEAST_WORKERS, MOST_WORKERS = 2, 8
CACHE_SHARE, CACHE_UNKNOWN = 4, 2 << 30


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Threads that read images: one per processor available to this process, 2 to 8.

    More than 8 would block each other: between calls to Pillow and numpy they need the interpreter's lock, as the
    training thread does.
    """
    return max(LEAST_WORKERS, min(MOST_WORKERS, cores() // launch.local_processes()))


def default_cache() -> int:
    """Bytes of decoded images to cache: a quarter of the free memory; 2 GiB if it is unknown."""
    available = free_memory()
    return CACHE_UNKNOWN if available is None else available // (CACHE_SHARE * launch.local_processes())
