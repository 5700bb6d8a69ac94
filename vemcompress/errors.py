"""Every failure that a user can cause, each with the exit code that scripts rely on.

A message is one sentence that says what happened, where, and what to do. Anything else that escapes is a bug and
leaves with exit code 1. `first_line` and `summary` quote the errors of other code.
"""


class VemError(Exception):
    """Base of all expected failures. One that is `shared` is raised by every rank, so that rank 0 alone tells it."""

    exit_code = 1
    shared = False


class UsageError(VemError):
    """The command line asks for something that cannot be (2)."""

    exit_code = 2


class RecipeError(VemError):
    """A recipe that is not valid, or does not fit the teacher (3)."""

    exit_code = 3


class InputError(VemError):
    """Weights or data that are absent, unreadable or unsafe (4)."""

    exit_code = 4


class NumericalError(VemError):
    """NaN or Inf in a loss or a gradient, or a strict run that has diverged (5)."""

    exit_code = 5


class MemoryExhausted(VemError):
    """The machine or the GPU ran out of memory (6)."""

    exit_code = 6


class ExportError(VemError):
    """An export that failed, or did not agree with PyTorch (7)."""

    exit_code = 7


class NetworkError(VemError):
    """The Hub or a download could not be reached (8)."""

    exit_code = 8


class OutputError(VemError):
    """Cannot write: disk full, no permission, or the run is locked by another process (9)."""

    exit_code = 9


class Interrupted(VemError):
    """Stopped by SIGINT, SIGTERM or SIGHUP after saving (130)."""

    exit_code = 130


class RankLost(VemError):
    """One of several processes has stopped, and the others cannot go on (1)."""


def first_line(error: object) -> str:
    """The first line of what other code says, short enough for a sentence; its class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:200]


def summary(error: BaseException) -> str:
    """The class of an error of other code, and its first line, if it says anything."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
