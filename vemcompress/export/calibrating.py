"""Calibration inputs for int8: real photos from a folder, or latent vectors drawn from the prior."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vemcompress.data import latents
from vemcompress.data.folders import find_images
from vemcompress.data.images import ImageError, read_image, resized
from vemcompress.errors import ExportError, InputError, UsageError
from vemcompress.export.contracts import Contract, LatentContract
from vemcompress.weights.graphs.pixels import COLOURS, to_float

MOST = 32  # a quarter of them is for the score; more inputs hardly change the ranges


def calibration_inputs(
    contract: Contract, size: tuple[int, int], given: str | os.PathLike | Sequence | None, most: int = MOST
) -> list[np.ndarray]:
    """At most `most` inputs: float32 1 x C x H x W in [-1, 1] of `size`, or latent vectors, 1 x size.

    `given` is a folder, a list of files, or a list of such arrays. Images are picked at even distances. A network that
    draws from latent vectors needs no images. Raises UsageError (2) for photos of such a network, and ExportError (7)
    if the network does not take photos, for a folder without images, and for files that cannot be read.
    """
    if isinstance(contract, LatentContract):
        if given is not None:
            raise UsageError(
                "--calibrate: this model draws from latent vectors, and is calibrated with these; omit --calibrate."
            )
        drawn = latents.draw(contract.prior, contract.size, most, range(most))
        return [drawn[i : i + 1] for i in range(most)]
    if given is None:
        return []
    if contract.in_channels not in COLOURS:
        raise ExportError(
            f"--calibrate: the network takes {contract.in_channels} channels, not photos; export it as fp32 or fp16."
        )
    if isinstance(given, Sequence) and not isinstance(given, str) and given and isinstance(given[0], np.ndarray):
        return list(given)
    try:
        paths = find_images(given, "testA", "test", "trainA", "train", "A").paths
    except InputError as error:
        raise ExportError(f"--calibrate: {error}") from error
    chosen = [paths[i * len(paths) // most] for i in range(most)] if len(paths) > most else paths
    return [_input(path, contract.in_channels, size) for path in chosen]


def _input(path: Path, channels: int, size: tuple[int, int]) -> np.ndarray:
    try:
        image = read_image(path, channels)
    except ImageError as error:
        raise ExportError(f"--calibrate: {path}: {error.reason}; remove it from the folder.") from error
    image = image.mean(2, keepdims=True).round().astype(np.uint8) if channels == 1 else image
    return to_float(resized(image, *size)[None], -1.0, 1.0).transpose(0, 3, 1, 2).copy()
