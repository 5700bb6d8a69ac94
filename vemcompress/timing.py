"""Where a step's time goes, by named parts, without stalling a GPU."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Timer:
    """Sums seconds by name. On CUDA it records events and reads them in `collect`, which waits for the device."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside towards `name`."""
        if self.cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            start = perf_counter()
            yield
            self._seconds[name] += perf_counter() - start

    def collect(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        if self._events:
            torch.cuda.synchronize()
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000
        result = dict(self._seconds)
        self._events.clear()
        self._seconds.clear()
        return result
