"""Measures the parts of a training step without blocking a GPU."""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor

MOST_EVENTS = 4096  # CUDA events that may wait to be read


class Timer:
    """Sums seconds by name. Time in a nested part counts only for that part, so the parts add up to the whole.

    On CUDA it records events and reads those that have completed; `collect` waits for the device.
    """

    def __init__(self, device: torch.device):
        self.device, self.cuda = device, device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._last: float | torch.cuda.Event | None = None
        self._spans: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the code inside towards `name`."""
        self._mark(self._inside[-1] if self._inside else None)
        self._inside.append(name)
        try:
            yield
        finally:
            self._mark(name)
            self._inside.pop()
            if not self._inside:
                self._last = None

    def until_gradient(self, tensor: Tensor, name: str) -> None:
        """During a backward pass, count the time until this tensor's gradient is known towards `name`."""
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._mark(name) if self._inside else None)

    def collect(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        if self._spans:
            torch.cuda.synchronize(self.device)
            self._read()
        result = dict(self._seconds)
        self._seconds.clear()
        return result

    def _mark(self, name: str | None) -> None:
        """End a time span here, count it towards `name`, and begin the next one."""
        if self.cuda:
            now = torch.cuda.Event(enable_timing=True)
            now.record()
            if name is not None and self._last is not None:
                self._spans.append((name, self._last, now))
            if len(self._spans) > MOST_EVENTS:
                self._read()
        else:
            now = perf_counter()
            if name is not None and self._last is not None:
                self._seconds[name] += now - self._last
        self._last = now

    def _read(self) -> None:
        while self._spans and self._spans[0][2].query():
            name, start, end = self._spans.popleft()
            self._seconds[name] += start.elapsed_time(end) / 1000
