"""`stats`: write the statistics of a folder of real images, which `eval --real` reads."""

import os
from dataclasses import dataclass
from pathlib import Path

from vemcompress.commands.line import Reported
from vemcompress.commands.progress import shows_progress
from vemcompress.errors import UsageError
from vemcompress.evaluation.extractors import INCEPTION, load_extractor, squeezenet_name
from vemcompress.evaluation.statistics import compute_statistics, image_paths, save_statistics
from vemcompress.system import devices
from vemcompress.system.events import Event, silent


@dataclass(frozen=True)
class StatsResult(Reported):
    """The .npz `file`, the network whose `features` were used, the number of `images`, and the number of features of
    each (`dimensions`)."""

    file: str
    features: str
    images: int
    dimensions: int


@shows_progress
def stats(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: int | None = None,
    crop: int | str | None = None,
    recursive: bool = False,
    inception: str | os.PathLike | None = None,
    features: str = "inception",
    features_weights: str | os.PathLike | None = None,
    batch: int | None = None,
    device: str = "auto",
    on_event: Event = silent,
    progress: bool = False,
) -> StatsResult:
    """Write the mean and covariance of real images' features to an .npz file, for `evaluate(real=...)`.

        vemcompress.stats("horse2zebra/trainB", "zebras.npz", size=256)
        vemcompress.evaluate("runs/small", data="horse2zebra/", real="zebras.npz")

    Arguments:
        data: the folder of real images.
        out: the .npz file.
        size: side of the square images, in pixels; None keeps their size.
        crop: the side of a central square to cut out before resizing, in pixels, or "square".
        recursive: include images in sub-folders.
        inception: the file of Inception's weights; it is downloaded by default.
        features: "inception" for FID, or "squeezenet1_1" or "squeezenet1_1_caffe", whose distance is not FID.
        features_weights: the file of SqueezeNet's weights.
        batch: images at a time.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        StatsResult: `file`, `features` (the network), `images` (their number), `dimensions`.

    Raises:
        InputError if no image can be read; UsageError, NetworkError, OutputError, MemoryExhausted.
    """
    crop = _checked(crop, size, batch)
    where = devices.choose(device)
    paths = image_paths(Path(data), recursive=recursive, on_event=on_event)
    weights = features_weights or inception
    name = INCEPTION if features == "inception" else squeezenet_name(features, weights)
    extractor = load_extractor(name, weights)
    with devices.arithmetic("fp32"):
        found = compute_statistics(paths, extractor, device=where, size=size, crop=crop, batch=batch, on_event=on_event)
    save_statistics(out, found)
    return StatsResult(str(out), name, found.images, len(found.mu))


def _checked(crop: int | str | None, size: int | None, batch: int | None) -> int | str | None:
    """The crop, a number or "square". Raises UsageError."""
    for name, value, most in (("size", size, 4096), ("batch", batch, 10**9)):
        if value is not None and not (isinstance(value, int) and 1 <= value <= most):
            raise UsageError(f"{name} {value!r:.40}: give a whole number from 1 to {most:,}.")
    if crop in (None, "square"):
        return crop
    text = str(crop)
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 8 <= int(text) <= 8192:
        raise UsageError(f"crop {text:.80}: give a number of pixels from 8 to 8192, or square.")
    return int(text)
