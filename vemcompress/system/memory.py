"""Free memory, and detection of out-of-memory errors."""

from pathlib import Path

_MEMORY = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_SAID = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",  # how oneDNN reports it
    "failed to allocate memory",
    "can't start new thread",
)


def free_memory() -> int | None:
    """Free memory in bytes, or a container's limit if that is lower."""
    try:
        lines = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        found = int(lines["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for path in _LIMITS:
        try:
            found = min(found, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or the text "max"
            continue
    return found


def is_exhausted(error: BaseException) -> bool:
    """Whether an error of Python, PyTorch, oneDNN, CUDA or ONNX Runtime means that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(said in str(error).lower() for said in _SAID)
