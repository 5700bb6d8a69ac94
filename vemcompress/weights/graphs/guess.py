"""Which range of values an image-to-image graph takes and gives, where its file does not say it."""

from collections.abc import Callable

import numpy as np

from vemcompress.errors import InputError
from vemcompress.weights.ranges import RANGES, Ranges, looks_like

# By the last node, where it bounds the image.
_BOUNDS = {"Tanh": "-1..1", "Sigmoid": "0..1", "Clip -1 1": "-1..1", "Clip 0 1": "0..1", "Clip 0 255": "0..255"}


def guessed(
    run: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], last: str, *, bytes_in: bool
) -> tuple[Ranges, str]:
    """The ranges, and what they were told by. `run` is the graph on N x C x H x W of floats, whose `shape` it takes;
    `last` its last node as `foreign.Read` has it; `bytes_in`: it takes uint8.

    The graph is tried on noise in each range: one that it gives as it takes it is assumed, for nearly all published
    networks have one range on both sides. What the last node says goes before.
    """
    bound = _BOUNDS.get(last)
    if bound is not None and not bytes_in:
        return Ranges(bound, bound), f"by its last node, {last}, and the same for what it takes"
    tried = ("0..255",) if bytes_in else tuple(RANGES)
    try:
        found = {range: _given(run, shape, range) for range in tried}
    except InputError:
        found = dict.fromkeys(tried)
    if bytes_in:
        return Ranges("0..255", bound or found["0..255"] or "0..255"), "by its uint8 input and a try on noise"
    own = next((range for range in tried if found[range] == range), None)
    if own is not None:
        return Ranges(own, own), "by a try on noise"
    return Ranges(), "nothing tells it"


def _given(run: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], range: str) -> str | None:
    """What it gives of smooth noise in this range."""
    count, channels, height, width = shape
    coarse = np.random.default_rng(0).random((count, channels, -(-height // 8), -(-width // 8)), dtype=np.float32)
    noise = coarse.repeat(8, 2).repeat(8, 3)[:, :, :height, :width]
    image = run(Ranges(taken=range).into(noise * 2 - 1))
    return looks_like(float(image.min()), float(image.max()))
