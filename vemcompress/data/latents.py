"""Latent vectors in NumPy: a device that runs a student needs no torch, and draws the same ones.

Vector number n of a seed is a function of both alone, so that any number of them can be drawn in any batches.
"""

from collections.abc import Iterable

import numpy as np

LATENT = 7  # beside stream.py's purposes of a random generator


def draw(prior: str, size: int, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """The vectors of these numbers, N x size, float32: N(0, 1) for the `prior` "normal", or "uniform" in [-1, 1]."""
    return np.stack([_one(prior, size, np.random.default_rng((seed, LATENT, n))) for n in numbers])


def _one(prior: str, size: int, random: np.random.Generator) -> np.ndarray:
    if prior == "uniform":
        return random.random(size, np.float32) * 2 - 1
    return random.standard_normal(size, np.float32)


def truncated(z: np.ndarray, truncation: float) -> np.ndarray:
    """Vectors brought nearer to their mean, 0, by this factor: images less varied and more alike (1 changes nothing).
    Every prior here has the mean 0."""
    return z * np.float32(truncation)


def between(first: np.ndarray, last: np.ndarray, count: int, prior: str) -> np.ndarray:
    """`count` vectors from the `first` to the `last` one, both included, count x size: on the great circle for normal
    vectors, whose length then stays what the network knows, else on the straight line."""
    shares = np.linspace(0.0, 1.0, count)[:, None]
    a, b = first.astype(np.float64), last.astype(np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    angle = 0.0
    if prior == "normal" and min(lengths) > 0:
        angle = float(np.arccos(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1)))
    if np.sin(angle) < 1e-6:
        return ((1 - shares) * a + shares * b).astype(np.float32)
    return ((np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / np.sin(angle)).astype(np.float32)
