"""What the machine has to spare for reading images: processors and memory, divided among the ranks that share it."""

import os
from pathlib import Path

from vemcompress.system import launch

LEAST_WORKERS, MOST_WORKERS = 2, 8
CACHE_SHARE, CACHE_UNKNOWN = 4, 2 << 30

_MEMORY = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


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


def free_memory() -> int | None:
    """Free memory in bytes, or a container's limit where that is less: what the machine has is not what it may use."""
    try:
        lines = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        found = int(lines["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for path in _LIMITS:
        try:
            found = min(found, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return found
