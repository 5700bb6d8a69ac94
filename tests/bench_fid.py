"""Time the parts of an FID: decoding, the Inception, both together, the distance; not a test.

`python tests/bench_fid.py FOLDER [cpu|cuda] [images] [size]`: by default 2,000 images at 256 px, read from the folder
again and again where it has fewer. The weights are random, which changes no time.
"""

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import torch
from toys import random_inception_file

from vemcompress.data.listing import list_images
from vemcompress.data.machine import default_workers
from vemcompress.data.samples import batches, default_batch
from vemcompress.evaluation.extractors import Inception
from vemcompress.evaluation.frechet import distance
from vemcompress.evaluation.statistics import compute_statistics


def timed(name: str, compute, count: int):
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    start = time.perf_counter()
    value = compute()
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    seconds = time.perf_counter() - start
    print(f"{name:24} {seconds:7.2f} s  {1000 * seconds / count:6.2f} ms an image", flush=True)
    return value


def main(folder: str, device: str = "cpu", images: str = "2000", size: str = "256") -> None:
    count, side, where = int(images), int(size), torch.device(device)
    paths = list(islice(cycle(list_images(folder)), count))
    with tempfile.TemporaryDirectory() as scratch:
        extractor = Inception(random_inception_file(Path(scratch) / "inception.pth")).to(where)
    batch = default_batch(where, side)
    print(f"{count} images at {side} px, {device}, batch {batch}, {default_workers()} readers, "
          f"{torch.get_num_threads()} threads")  # fmt: skip

    def read(these: list[Path]) -> list:
        return [found for _, found in batches(these, side, batch, print, where)]

    @torch.no_grad()
    def features() -> torch.Tensor:
        made = [extractor(known[i % len(known)]) for i in range(-(-count // batch))]
        return torch.cat(made)[:count]

    known = read(paths[: 2 * batch])
    extractor(known[0])  # libraries load and choose their algorithms
    timed("decoding alone", lambda: sum(len(found) for _, found in batches(paths, side, batch, print)), count)
    timed("Inception alone", features, count)
    found = timed("both, and statistics", lambda: compute_statistics(paths, extractor, size=side, device=where), count)
    half = compute_statistics(paths[::2], extractor, size=side, device=where)
    distance(found, half, where)
    timed("distance", lambda: distance(found, half, where), count)


if __name__ == "__main__":
    main(*sys.argv[1:])
