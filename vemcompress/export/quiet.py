"""Suppresses the output of converters, which print, warn and log while they work; errors are still raised."""

import contextlib
import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator

_aloud: list[tuple[object, object, list[int]]] = []  # the original streams, one entry for each nested `quiet`


class _Stack(ctypes.Structure):
    """stack_t of <signal.h> on Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Restore the thread's signal stack afterwards.

    When OpenVINO compiles a model, it gives the thread another signal stack, and may free that stack without removing
    it. The next signal, such as Ctrl-C or a scheduler's SIGTERM, would then crash the process instead of saving the
    run.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    change, before = ctypes.CDLL(None).sigaltstack, _Stack()
    change(None, ctypes.byref(before))
    try:
        yield
    finally:
        change(ctypes.byref(before), None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress prints, warnings and logs, both on Python's streams and on the process's own, which C++ uses. Also
    restores the signal stack (`signal_stack_kept`)."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved, before = [os.dup(number) for number in (1, 2)], (sys.stdout, sys.stderr)
    level, void = logging.root.manager.disable, os.open(os.devnull, os.O_WRONLY)
    _aloud.append((*before, saved))
    try:
        for number in (1, 2):
            os.dup2(void, number)
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out, err = (
                redirect(io.StringIO()) for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr)
            )
            with out, err, signal_stack_kept():
                yield
    finally:
        logging.disable(level)
        _aloud.pop()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(void)


def heard(tell: Callable[[dict], None]) -> Callable[[dict], None]:
    """A version of `tell` that also works inside `quiet`: it writes to the original streams."""

    def told(event: dict) -> None:
        if not _aloud:
            tell(event)
            return
        out, err, saved = _aloud[0]
        muted = [os.dup(number) for number in (1, 2)]
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                tell(event)
                for stream in (out, err):
                    stream.flush()
        finally:
            for number, copy in zip((1, 2), muted, strict=True):
                os.dup2(copy, number)
                os.close(copy)

    return told
