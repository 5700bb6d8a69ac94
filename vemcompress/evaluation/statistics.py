"""Feature statistics of a folder of images, and their .npz files with `mu` and `sigma`, which pytorch-fid can read."""

import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from vemcompress import __version__
from vemcompress.data.images import Crop, ImageError, tell_notes
from vemcompress.data.listing import list_images
from vemcompress.data.samples import batches, default_batch
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation.extractors import Extractor, checked_features
from vemcompress.evaluation.frechet import Accumulator, Statistics
from vemcompress.evaluation.gather import Checks
from vemcompress.system.events import Event, silent
from vemcompress.system.files import make_folder, open_regular, write_atomically

# Larger than any feature network. The declared size of a file is checked against it before memory is allocated.
_MAX_DIMS = 16384
_MAX_BYTES = 3 << 30  # 16384 x 16384 numbers of 8 bytes, and the mean
_PROVENANCE = ("images", "features", "weights", "size", "crop")


def image_paths(
    source: str | os.PathLike | Sequence[str | os.PathLike], *, recursive: bool = False, on_event: Event = silent
) -> list[Path]:
    """The images of a folder, as in `list_images`, or the given list of paths. Raises InputError if there are none."""
    if isinstance(source, str | os.PathLike):
        return list_images(source, recursive=recursive, on_event=on_event)
    if not source:
        raise InputError("no image was given; give a folder with images.")
    return [Path(p) for p in source]


@torch.no_grad()
def compute_statistics(
    source: str | os.PathLike | Sequence[str | os.PathLike],
    extractor: Extractor,
    *,
    size: int | None = None,
    crop: Crop = None,
    batch: int | None = None,
    device: torch.device | str = "cpu",
    on_event: Event = silent,
) -> Statistics:
    """Statistics of a folder's images, or of a list of paths. The memory of D x D does not depend on their number.

    Images, or their central `crop`, are resized to `size` x `size` pixels, as in an evaluation. With `size` None they
    keep their size, as in pytorch-fid. `batch`: None uses `default_batch`. Unreadable images are reported as events and
    skipped. Raises InputError if fewer than 2 remain.
    """
    paths, done, device = image_paths(source, on_event=on_event), 0, torch.device(device)
    extractor = extractor.to(device).eval()
    accumulator, checks = Accumulator(extractor.dims, device), Checks(device)
    batch = batch or default_batch(device, size)

    def on_bad(error: ImageError) -> None:
        on_event({"event": "stats", "stage": "unreadable", "path": str(error.path), "reason": error.reason})

    for names, images in batches(paths, size, batch, on_bad, device, crop):
        accumulator.add(checked_features(extractor, images, checks))
        checks.turn()
        done += len(names)
        tell_notes(on_event)
        on_event({"event": "stats", "stage": "features", "done": done, "total": len(paths)})
    checks.finish()
    if accumulator.count < 2:
        raise InputError(f"{accumulator.count} of {len(paths)} images could be read; statistics need at least 2.")
    return accumulator.statistics(features=extractor.name, weights=extractor.fingerprint(), size=size, crop=crop)


def save_statistics(path: str | os.PathLike, statistics: Statistics) -> None:
    """Write an .npz file atomically. Raises UsageError for another ending, OutputError."""
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{path}: statistics are written as .npz; give a name that ends in .npz.")
    known = {k: getattr(statistics, k) for k in _PROVENANCE}
    known = {k: v for k, v in known.items() if v is not None}
    content = io.BytesIO()
    np.savez(content, mu=statistics.mu, sigma=statistics.sigma, version=__version__, **known)
    make_folder(path.parent)
    write_atomically(path, content.getbuffer())


def load_statistics(path: str | os.PathLike) -> Statistics:
    """Read an .npz file of vemcompress or of pytorch-fid (`mu`: D, `sigma`: D x D). Raises InputError for any other.
    Nothing is unpickled, and the declared shapes are checked before memory is allocated."""
    path = Path(path)
    try:
        with open_regular(path, _MAX_BYTES) as opened, zipfile.ZipFile(opened) as archive:
            _check_members(path, archive)
            opened.seek(0)
            file = np.load(opened, allow_pickle=False)
            mu, sigma = (file[k].astype(np.float64) for k in ("mu", "sigma"))
            images, size = (int(file[k]) if k in file else None for k in ("images", "size"))
            features, weights, crop = (str(file[k]) if k in file else None for k in ("features", "weights", "crop"))
            crop = crop if crop in (None, "square") else int(crop)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; make one with `vemcompress stats DIR -o {path.name}`.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: not readable as statistics ({reason}); make it again with `vemcompress stats`."
        ) from error
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise InputError(f"{path}: its mu or sigma holds NaN or Inf; make it again with `vemcompress stats`.")
    if not np.allclose(sigma, sigma.T, rtol=1e-3, atol=1e-6 * np.abs(sigma).max()):
        raise InputError(
            f"{path}: its sigma is not symmetric, so it is not a covariance; make it again with `vemcompress stats`."
        )
    return Statistics(mu, sigma, images, features, weights, size, crop)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    declared = {}
    for name in archive.namelist():
        with archive.open(name) as member:
            read = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(member)
        declared[name.removesuffix(".npy")] = shape, dtype
    if not {"mu", "sigma"} <= declared.keys():
        raise InputError(f"{path}: holds {', '.join(sorted(declared))}, not mu and sigma; give a file of statistics.")
    (mu, mu_type), (sigma, sigma_type) = declared["mu"], declared["sigma"]
    if len(mu) != 1 or not 1 <= mu[0] <= _MAX_DIMS or sigma != mu * 2 or mu_type.kind + sigma_type.kind != "ff":
        raise InputError(
            f"{path}: mu {mu} {mu_type} and sigma {sigma} {sigma_type} are not a mean and a "
            "covariance; mu must hold D floats and sigma D x D."
        )
    for key in _PROVENANCE:
        shape, dtype = declared.get(key, ((), np.dtype(int)))
        if shape != () or dtype.itemsize > 4096:
            raise InputError(f"{path}: {key} is not a single value; make it again with `vemcompress stats`.")


def check_fit(statistics: Statistics, extractor: Extractor, path: str | os.PathLike) -> None:
    """Raises InputError if the statistics have other features, other weights or another dimension."""
    dims = statistics.mu.size
    if dims != extractor.dims or statistics.features not in (None, extractor.name):
        raise InputError(
            f"{path}: statistics of {statistics.features or 'unnamed'} features ({dims}), not of {extractor.name} "
            f"({extractor.dims}); make them again with these features."
        )
    if statistics.weights is not None and statistics.weights != extractor.fingerprint():
        raise InputError(f"{path}: statistics of {extractor.name} with other weights; make them again with these.")
