"""Signals that ask a process to leave, and a terminal that is gone."""

import os
import signal
from contextlib import suppress


def heeded() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP, which comes where the connection is lost, unless `nohup` has it ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    return numbers if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*numbers, signal.SIGHUP]


def mute_lost_terminal() -> None:
    """What is written to a terminal that has hung up is an error; from here on it goes nowhere."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)
