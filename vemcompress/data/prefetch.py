"""Batches that are prepared ahead in threads: Pillow and numpy leave the interpreter's lock while they work."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

SPARE = 2  # batches that wait, ready, while every thread has one in hand

Batch = TypeVar("Batch")


def prefetched(
    batch: Callable[[int], Batch], report: Callable[[], None], start_step: int, workers: int
) -> Iterator[tuple[int, Batch]]:
    """Endless (step, batch(step)), prepared ahead in threads; `report` runs in the caller's thread before each."""
    workers = max(1, workers)
    pool, ahead = ThreadPoolExecutor(workers, "vemcompress-data"), deque[Future]()
    try:
        step = start_step
        while True:
            while len(ahead) < workers + SPARE:
                ahead.append(pool.submit(batch, step + len(ahead)))
            try:
                ready = ahead.popleft().result()
            finally:
                report()
            yield step, ready
            step += 1
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
