"""Terminal output: notes and progress on stderr, results on stdout."""

import sys

from vemcompress.console.tables import Tables
from vemcompress.console.talk import Talk
from vemcompress.errors import RankLost, VemError
from vemcompress.system import launch
from vemcompress.system.memory import is_exhausted
from vemcompress.system.names import printable


class Console(Talk, Tables):
    """`talking` gives the library a callable for its events; `result` prints a result."""

    def __init__(self, quiet: bool = False):
        Talk.__init__(self, quiet)
        Tables.__init__(self)


def explain(error: BaseException) -> int:
    """Print an error as one sentence and return its exit code. An error that all ranks share is printed by the first
    one only."""
    if isinstance(error, VemError):
        message, code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        message, code = "interrupted.", 130
    elif is_exhausted(error):
        message, code = "out of memory: close other programs, or ask for smaller images, batches or networks.", 6
    elif "torchvision::" in str(error):  # raised while torchvision is imported
        message = "torch and torchvision are from different builds; install both from the same place (see the README)."
        code = 1
    else:
        message, code = f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 1
    rank = launch.number()
    if rank and getattr(error, "shared", False):
        return code
    whose = f"rank {rank}: " if rank or isinstance(error, RankLost) else ""
    start = "" if code == 130 else "error: "  # an interruption that the user asked for is no error
    print(f"{start}{whose}{printable(' '.join(message.split()))}", file=sys.stderr)
    return code
