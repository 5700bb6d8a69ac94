"""All errors that a user can cause, each with the exit code that scripts rely on.

A message is one sentence that says what happened, where, and what to do. Any other exception is a bug and ends with
exit code 1. `first_line` and `summary` quote the errors of other libraries.
"""


class VemError(Exception):
    """Base class of all expected errors. A `shared` error is raised by every rank, so only rank 0 prints it."""

    exit_code = 1
    shared = False


class UsageError(VemError):
    """A command line that cannot be carried out (2)."""

    exit_code = 2


class RecipeError(VemError):
    """A recipe that is invalid or does not fit the teacher (3)."""

    exit_code = 3


class InputError(VemError):
    """Weights or data that are missing, unreadable or unsafe (4)."""

    exit_code = 4


class NumericalError(VemError):
    """NaN or Inf in a loss or a gradient, or a strict run that has diverged (5)."""

    exit_code = 5


class MemoryExhausted(VemError):
    """The machine or the GPU ran out of memory (6)."""

    exit_code = 6


class ExportError(VemError):
    """An export that failed or differs from PyTorch (7)."""

    exit_code = 7


class NetworkError(VemError):
    """The Hub or a download server could not be reached (8)."""

    exit_code = 8


class OutputError(VemError):
    """A file cannot be written: disk full, no permission, or the run is locked by another process (9)."""

    exit_code = 9


class Interrupted(VemError):
    """Stopped by SIGINT, SIGTERM or SIGHUP after saving (130)."""

    exit_code = 130


class RankLost(VemError):
    """One of several processes has stopped, so the others cannot continue (1)."""


def first_line(error: object) -> str:
    """The first line of another library's error, at most 200 characters; its class if it has no text."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:200]


def summary(error: BaseException) -> str:
    """The class of another library's error, and its first line if it has text."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
