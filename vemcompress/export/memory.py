"""Refuses images that do not fit into memory: a process that takes too much is killed by the system without a word.

Images that go through a network are limited in size; those drawn from latent vectors have one size, so their number at
a time is.
"""

from collections.abc import Callable
from contextlib import suppress
from math import isqrt, sqrt
from pathlib import Path

from vemcompress.errors import MemoryExhausted
from vemcompress.system.memory import free_memory

# Bytes a pixel: NETWORK is more than published generators take (0.2 to 2 KB), so that nothing is measured for images
# that fit with it; IMAGE is what an image takes outside the network, as bytes and as floats.
NETWORK, IMAGE = 8192, 80
ATTENTIVE = 4 * NETWORK  # of a network with self-attention over a map of a quarter of its pixels, up to 128 px
TRIED = 512  # pixels, the side of the image that is measured: with smaller ones other costs hide a pixel's
USABLE = 0.9

_STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryLimit:
    """Of images that go through a network. `run` takes a side in pixels, and puts a square of zeros through it.

    `on_cpu`: whether the network's own memory is the machine's; a GPU says by itself what it cannot hold. `scale`: by
    how much it enlarges the sides of images.
    """

    def __init__(self, run: Callable[[int], object], *, on_cpu: bool = True, scale: int = 1):
        self._run, self._on_cpu, self._image = run, on_cpu, IMAGE * scale**2
        self._network = NETWORK * scale**2
        self._bytes: float | None = None

    def check(self, what: str, height: int, width: int, count: int = 1, advice: str = "use --size") -> None:
        """Raises MemoryExhausted for `count` images that do not fit at once, naming the largest size that does."""
        pixels, free = count * height * width, free_memory()
        if free is None or pixels * (self._network if self._on_cpu else self._image) <= USABLE * free:
            return
        needed = pixels * self._per_pixel(free)
        if needed > USABLE * free:
            largest = int(min(height, width) * sqrt(USABLE * free / needed))
            at_once = f"{count} images of " if count > 1 else ""
            raise MemoryExhausted(
                f"{what}: {at_once}{width} x {height} pixels need about {needed / 2**30:,.1f} GiB of memory, and "
                f"{USABLE * free / 2**30:,.1f} GiB are available; {advice} {largest} or less."
            )

    def _per_pixel(self, free: int) -> float:
        """Bytes a pixel of the input, measured with one smaller image; those of the images where they cannot be."""
        if self._bytes is None:
            side = max(64, min(TRIED, isqrt(free // 2 // self._network)) // 32 * 32)
            grown = _growth(lambda: self._run(side)) if self._on_cpu else 0
            self._bytes = max(self._image, grown / side**2)
        return self._bytes


def check_batch(what: str, draw: Callable[[int], object], count: int, sides: tuple[int, int], *, on_cpu: bool) -> None:
    """Raises MemoryExhausted for `count` images from latent vectors, of these height and width, that do not fit at
    once, naming how many do. `draw` takes how many to draw."""
    pixels, free = sides[0] * sides[1], free_memory()
    if free is None or count * pixels * (ATTENTIVE if on_cpu else IMAGE) <= USABLE * free:
        return
    each = max(IMAGE * pixels, _growth(lambda: draw(1)) if on_cpu else 0)
    if count * each > USABLE * free:
        most = max(1, int(USABLE * free / each))
        told = f"about {count * each / 2**30:,.1f} GiB of memory, and {USABLE * free / 2**30:,.1f} GiB are available"
        size = f"{sides[1]} x {sides[0]} pixels"
        advice = f"use --batch {most}" + (" or less" if most > 1 else ", or close other programs")
        raise MemoryExhausted(f"{what}: {count} images of {size} at a time need {told}; {advice}.")


def _growth(run: Callable[[], object]) -> int:
    """By how many bytes this process grows while it runs; 0 where the system does not tell, or where `run` fails."""
    with suppress(Exception):  # the user's own image will fail too, and say why
        CLEAR.write_text("5")  # the peak begins anew (Linux)
        before = of_process("VmRSS")
        run()
        return max(0, of_process("VmHWM") - before)
    return 0


def of_process(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))
