"""Handles SIGINT, SIGTERM and SIGHUP during training."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vemcompress.system.interrupts import heeded, mute_lost_terminal

PATIENCE = 15.0  # seconds; torchrun kills processes that are still running 30 seconds after its signal


class Signals:
    """The first signal ends the run after the current step; a second one ends it at once. A second SIGHUP is ignored:
    when a connection is lost, the system and the shell each send one. `number` is the signal received, or 0.

    `stuck`, if given, is called in a thread of its own if the main thread has not handled a signal after `PATIENCE`
    seconds. The main thread may then be waiting on a device for another rank that has ended, where no Python code runs.
    """

    def __init__(self, stuck: Callable[[], None] | None = None):
        self.number = 0
        self._stuck, self._left = stuck, threading.Event()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Context that handles signals; it does nothing outside the main thread, where Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._handle) for number in heeded()}
        try:
            with self._watched():
                yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        if number == signal.SIGHUP:
            mute_lost_terminal()
        elif self.number:
            raise KeyboardInterrupt
        self.number = self.number or number

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if self._stuck is None:
            yield
            return
        hears, told = os.pipe()  # Python writes to it when a signal arrives, in whatever thread that is
        os.set_blocking(told, False)
        watch = threading.Thread(target=self._watch, args=(hears,), daemon=True)
        before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        watch.start()
        try:
            yield
        finally:
            self._left.set()
            signal.set_wakeup_fd(before)
            os.close(told)
            watch.join()

    def _watch(self, hears: int) -> None:
        if os.read(hears, 1) and not self._left.wait(PATIENCE) and not self.number:
            self._stuck()
        os.close(hears)
