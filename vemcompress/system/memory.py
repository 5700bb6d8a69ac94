"""How a failed allocation shows: each library says it in its own way."""

_SAID = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",  # oneDNN's only word for it
    "failed to allocate memory",
    "can't start new thread",
)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error of Python, PyTorch, oneDNN, CUDA or ONNX Runtime is of memory that could not be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(said in str(error).lower() for said in _SAID)
