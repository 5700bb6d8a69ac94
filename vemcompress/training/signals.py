"""SIGINT, SIGTERM and SIGHUP during training."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vemcompress.system.interrupts import heeded, mute_lost_terminal

PATIENCE = 15.0  # seconds; torchrun kills what has not left 30 seconds after its signal


class Signals:
    """A signal ends the run after the step in hand, a second one at once, but not a second SIGHUP: where a connection
    is lost the system and the shell each send one. `number` is what came, 0 before.

    `stuck`, where it is given, is called in a thread of its own when the main one has not seen a signal for `PATIENCE`:
    it may wait on a device for another rank that is gone, where no Python runs.
    """

    def __init__(self, stuck: Callable[[], None] | None = None):
        self.number = 0
        self._stuck, self._left = stuck, threading.Event()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Handle signals while inside; in the main thread alone, as Python has it."""
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
        hears, told = os.pipe()  # written to as a signal comes, by whatever thread it comes in
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
