"""Signals that ask a process to stop, and lost terminals."""

import os
import signal
from contextlib import suppress


def heeded() -> list[signal.Signals]:
    """The signals to handle: SIGINT, SIGTERM, and SIGHUP (a lost connection) unless `nohup` ignores it."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    return numbers if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*numbers, signal.SIGHUP]


def mute_lost_terminal() -> None:
    """Send output to /dev/null if the terminal is gone: writing to it would raise an error."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)
