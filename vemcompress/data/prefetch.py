"""Prepares batches ahead in threads, which works because Pillow and numpy release the interpreter's lock."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vemcompress.data.batch import Batch
from vemcompress.system import distributed

SPARE = 2  # prepared batches that wait while every thread works on another one


class Stream:
    """Batches as a function of the step: `_prepare(step)` runs in `workers` threads. Then, in the caller's thread,
    `_report` sends pending events and `_deliver` makes the batch.
    """

    workers: int
    epoch_length: float  # steps until every image was used once

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0. Raises InputError if no image can be read."""
        prepared = self._prepare(step)
        self._report()
        return self._deliver(prepared)

    def iterate(self, start_step: int = 0) -> Iterator[tuple[int, Batch]]:
        """Endless (step, batch) from `start_step` on, prepared ahead in threads; closing the iterator stops them.
        All ranks iterate together.
        """
        pool, ahead = ThreadPoolExecutor(self.workers, "vemcompress-data"), deque[Future]()
        try:
            step = start_step
            while True:
                while len(ahead) < self.workers + SPARE:
                    ahead.append(pool.submit(self._prepare, step + len(ahead)))
                try:
                    prepared = distributed.together(ahead.popleft().result)  # lost data stop all ranks together
                finally:
                    self._report()
                yield step, self._deliver(prepared)
                step += 1
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _deliver(self, prepared: Any) -> Batch:
        return prepared


class Twice(Stream):
    """The batches of a stream, each with one of another stream as its `second`."""

    def __init__(self, first: Stream, second: Stream):
        self.first, self.second = first, second
        self.workers, self.epoch_length = first.workers, first.epoch_length

    @property
    def paths(self) -> list[Path]:
        return self.first.paths

    @property
    def skipped(self) -> dict[Path, str]:
        return self.first.skipped | self.second.skipped

    def _prepare(self, step: int) -> tuple[Any, Any]:
        return self.first._prepare(step), self.second._prepare(step)

    def _deliver(self, prepared: tuple[Any, Any]) -> Batch:
        first, second = prepared
        return replace(self.first._deliver(first), second=self.second._deliver(second))

    def _report(self) -> None:
        self.first._report()
        self.second._report()


class Joined(Stream):
    """A stream composed of `parts`, each an ImageStream."""

    parts: tuple

    @property
    def paths(self) -> list[Path]:
        return [path for part in self.parts for path in part.paths]

    @property
    def skipped(self) -> dict[Path, str]:
        return {path: reason for part in self.parts for path, reason in part.skipped.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all images, resized."""
        return sum(part.nbytes for part in self.parts)

    def _report(self) -> None:
        for part in self.parts:
            part._report()
