"""Time our Frechet distance beside pytorch-fid's on the same features; not a test. `python tests/bench_frechet.py`"""

import time

import numpy as np
from pytorch_fid.fid_score import calculate_frechet_distance

from vemcompress.evaluation.frechet import frechet_distance

DIMENSIONS, IMAGES = 2048, 6000


def timed(name: str, compute) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    value = compute()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:12} {value:.9g}  {wall:.2f} s, {cpu:.2f} s of CPU")
    return value, wall


def main() -> None:
    rng = np.random.default_rng(0)
    sets = [rng.gamma(1 + i, 0.4, (IMAGES, DIMENSIONS)) for i in range(2)]
    statistics = [part for x in sets for part in (x.mean(0), np.cov(x, rowvar=False))]
    theirs, slow = timed("pytorch-fid", lambda: calculate_frechet_distance(*statistics))
    ours, fast = timed("vemcompress", lambda: frechet_distance(*statistics))
    print(f"{slow / fast:.1f} times faster, relative difference {abs(ours - theirs) / theirs:.1e}")


if __name__ == "__main__":
    main()
