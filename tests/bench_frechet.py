"""Time our Frechet distance of Inception-sized features; not a test.

`python tests/bench_frechet.py [cpu|cuda] [images]`: with 2,000 images, the usual number of an evaluation, from features
to distance; with more than the 2,048 dimensions (by default 6,000) beside pytorch-fid's own on the same statistics.
"""

import sys
import time

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance

from vemcompress.evaluation.frechet import distance, frechet_distance, statistics_of

DIMENSIONS = 2048


def timed(name: str, compute) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = compute()  # ends with a number on the CPU, so that a GPU is done
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:28} {value:.9g}  {wall:.2f} s, {cpu:.2f} s of CPU")
    return value, wall


def from_features(sets: list[np.ndarray], device: str) -> float:
    return distance(*(statistics_of(x, device) for x in sets), device)


def main(device: str = "cpu", images: str = "6000") -> None:
    rng = np.random.default_rng(0)
    sets = [rng.gamma(1 + i, 0.4, (int(images), DIMENSIONS)).astype(np.float32) for i in range(2)]
    print(f"{images} images, {device}, {torch.get_num_threads()} threads")
    for name in ("first call", "features to distance"):  # a GPU's libraries load on the first
        timed(name, lambda: from_features(sets, device))
    statistics = [statistics_of(x, device) for x in sets]
    timed("distance alone", lambda: distance(*statistics, device))
    if int(images) <= DIMENSIONS:
        return
    moments = [part for x in sets for part in (x.mean(0, dtype=float), np.cov(x, rowvar=False))]
    theirs, slow = timed("pytorch-fid", lambda: calculate_frechet_distance(*moments))
    ours, fast = timed("vemcompress", lambda: frechet_distance(*moments, device))
    print(f"{slow / fast:.1f} times faster, relative difference {abs(ours - theirs) / theirs:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
