"""Memory check before a network runs: refuses images that do not fit, because the system kills a process without
notice.

For image-to-image networks the size of an image is limited. Images from latent vectors have a fixed size, so the number
of images at a time is limited.
"""

import gc
from collections.abc import Callable
from contextlib import suppress
from math import isqrt, sqrt
from pathlib import Path

from vemcompress.errors import MemoryExhausted
from vemcompress.system.memory import free_memory

# Bytes per pixel. NETWORK is an upper bound: published generators need 0.2 to 2 KB. Images that fit by this bound are
# not measured. IMAGE is the memory of an image outside the network, as bytes and as floats.
NETWORK, IMAGE = 8192, 80
ATTENTIVE = 4 * NETWORK  # for a network with self-attention over a map with a quarter of the pixels, up to 128 px
TRIED = 512  # side in pixels of the measured image: in smaller ones, constant costs hide the cost per pixel
USABLE = 0.9

_STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryLimit:
    """The memory limit of an image-to-image network. `run` runs the network on a square of zeros with the given side.

    `on_cpu`: whether the network uses the machine's memory; a GPU reports by itself when its memory is full. `scale`:
    the factor by which the network enlarges images.
    """

    def __init__(self, run: Callable[[int], object], *, on_cpu: bool = True, scale: int = 1):
        self._run, self._on_cpu, self._image = run, on_cpu, IMAGE * scale**2
        self._network = NETWORK * scale**2
        self._bytes: float | None = None

    def check(self, what: str, height: int, width: int, count: int = 1, advice: str = "use --size") -> None:
        """Raises MemoryExhausted if `count` images do not fit at once. The message names the largest size that fits."""
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
        """Bytes per pixel of the input, measured with one smaller image; at least the bytes of the images
        themselves."""
        if self._bytes is None:
            side = max(64, min(TRIED, isqrt(free // 2 // self._network)) // 32 * 32)
            grown = _growth(lambda: self._run(side)) if self._on_cpu else 0
            self._bytes = max(self._image, grown / side**2)
        return self._bytes


def check_batch(what: str, draw: Callable[[int], object], count: int, sides: tuple[int, int], *, on_cpu: bool) -> None:
    """Raises MemoryExhausted if `count` images from latent vectors do not fit at once. The message names the number
    that fits. `sides` are height and width; `draw` draws the given number of images."""
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
    """Peak growth of this process in bytes while `run` runs; 0 if it cannot be measured, or if `run` fails."""
    with suppress(Exception):  # the user's image will fail too, with its own error
        gc.collect()  # garbage that is freed while `run` runs would hide its growth
        CLEAR.write_text("5")  # reset the peak (Linux)
        before = of_process("VmRSS")
        run()
        return max(0, of_process("VmHWM") - before)
    return 0


def of_process(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))
