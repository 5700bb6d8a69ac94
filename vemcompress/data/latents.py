"""Reproducible latent vectors in NumPy: a device that runs a student needs no torch and draws the same vectors.

A vector depends only on the seed and its number, so vectors can be drawn in batches of any size.
"""

from collections.abc import Iterable

import numpy as np

LATENT, NOISE = 7, 8  # purposes of a random generator, as those in stream.py


def draw(prior: str, size: int, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """The vectors with these numbers, N x size, float32: N(0, 1) for the `prior` "normal", or "uniform" in [-1, 1]."""
    return np.stack([_one(prior, size, np.random.default_rng((seed, LATENT, n))) for n in numbers])


def _one(prior: str, size: int, random: np.random.Generator) -> np.ndarray:
    if prior == "uniform":
        return random.random(size, np.float32) * 2 - 1
    return random.standard_normal(size, np.float32)


def draw_noise(sides: Iterable[int], seed: int, numbers: Iterable[int]) -> list[np.ndarray]:
    """StyleGAN2's noise: N x 1 x side x side of N(0, 1) for each of these sides, float32."""
    numbers = list(numbers)
    return [
        np.stack([_map(np.random.default_rng((seed, NOISE, n, layer)), side) for n in numbers])
        for layer, side in enumerate(sides)
    ]


def _map(random: np.random.Generator, side: int) -> np.ndarray:
    return random.standard_normal((1, side, side), np.float32)


def between(first: np.ndarray, last: np.ndarray, count: int, prior: str) -> np.ndarray:
    """`count` vectors from `first` to `last`, both included, count x size. Normal vectors follow the great circle,
    so that their length stays typical; others follow the straight line.
    """
    shares = np.linspace(0.0, 1.0, count)[:, None]
    a, b = first.astype(np.float64), last.astype(np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    angle = 0.0
    if prior == "normal" and min(lengths) > 0:
        angle = float(np.arccos(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1)))
    if np.sin(angle) < 1e-6:
        return ((1 - shares) * a + shares * b).astype(np.float32)
    return ((np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / np.sin(angle)).astype(np.float32)
