"""Guesses the value ranges of an image-to-image graph if its file does not state them."""

from collections.abc import Callable

import numpy as np

from vemcompress.errors import InputError
from vemcompress.weights.ranges import RANGES, Ranges, looks_like

# Ranges by the last node, if it bounds the image.
_BOUNDS = {"Tanh": "-1..1", "Sigmoid": "0..1", "Clip -1 1": "-1..1", "Clip 0 1": "0..1", "Clip 0 255": "0..255"}


def guessed(
    run: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], last: str, *, bytes_in: bool
) -> tuple[Ranges, str]:
    """The ranges, and how they were found. `run` runs the graph on float N x C x H x W of this `shape`; `last` is its
    last node as in `foreign.Read`; `bytes_in`: whether its input is uint8.

    The graph is tried on noise in each range. A range that it preserves is assumed for both sides, as in nearly all
    published networks. The range of the last node has priority.
    """
    bound = _BOUNDS.get(last)
    if bound is not None and not bytes_in:
        return Ranges(bound, bound), f"by its last node, {last}, and the same for its input"
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
    """The range of its output for smooth noise in this range."""
    count, channels, height, width = shape
    coarse = np.random.default_rng(0).random((count, channels, -(-height // 8), -(-width // 8)), dtype=np.float32)
    noise = coarse.repeat(8, 2).repeat(8, 3)[:, :, :height, :width]
    image = run(Ranges(taken=range).into(noise * 2 - 1))
    return looks_like(float(image.min()), float(image.max()))
