"""Runs exported files of formats other than ONNX on photos, with the interface of `session.OnnxModel`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vemcompress.data.machine import cores
from vemcompress.errors import ExportError, InputError, UsageError
from vemcompress.export.formats import FORMATS, Opened
from vemcompress.weights.graphs.pixels import COLOURS, pad_to_multiple, to_float, to_pictures
from vemcompress.weights.graphs.session import scale_of, sizes_of


@dataclass
class FileModel:
    """Maps uint8 N x H x W x `channels` to uint8 N x H x W x (1, 3 or 4), with H and W multiplied by `scale`. Images
    are padded to the file's sizes, and outputs are cropped. `fixed_size` is the only (H, W) that the file accepts, None
    for any."""

    path: Path
    opened: Opened
    channels: int
    multiple: int
    min_size: int
    scale: int
    fixed_size: tuple[int, int] | None
    assumed: str = ""

    kind = "image"
    on_cpu = True  # the formats' runtimes are used on the CPU only

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images are processed one by one, because most formats accept only one. Raises NumericalError (5) for NaN."""
        height, width = images.shape[1:3]
        x = to_float(pad_to_multiple(images, self.multiple, self.min_size), -1.0, 1.0).transpose(0, 3, 1, 2)
        y = np.concatenate([self.opened.images(image[None]) for image in x]).transpose(0, 2, 3, 1)
        return to_pictures(y, -1.0, 1.0, str(self.path))[:, : self.scale * height, : self.scale * width]


def open_file(path: Path, form: str) -> FileModel:
    """Open a file that `export` wrote in the format `form`. Raises InputError (4) if it does not exist or does not
    describe its input, UsageError (2) if it does not accept photos or cannot run here, ExportError (7) if the format's
    library is not installed.
    """
    kind = FORMATS[form]
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path")
    if not kind.runs_here:
        raise UsageError(f"{path}: {kind.title} files cannot be run here; give the weights or an .onnx file.")
    kind.check("fp32", False)
    try:
        opened, facts = kind.open(path, cores()), kind.facts(path)
    except ExportError as error:
        raise InputError(f"{path}: is damaged, or is no file that export wrote; export it again.") from error
    if opened.shape is None or "input_kind" not in facts:
        beside = "" if kind.has_metadata else f" ({path.name}.json beside it does)"
        raise InputError(f"{path}: does not describe its input{beside}; export it again, or give an .onnx file.")
    if facts["input_kind"] != "image":
        raise UsageError(f"{path}: draws from latent vectors; give the weights or an .onnx file to draw images.")
    if len(opened.shape) != 4:
        raise InputError(f"{path}: its metadata says that its input has {len(opened.shape)} sides; export it again.")
    rows, columns, channels = (1, 2, 3) if opened.layout == "NHWC" else (2, 3, 1)
    if opened.shape[channels] not in COLOURS:
        raise UsageError(f"{path}: needs images of {opened.shape[channels]} channels, not photos; give the run folder.")
    only = None if opened.shape[rows] < 1 else (opened.shape[rows], opened.shape[columns])
    return FileModel(path, opened, opened.shape[channels], *sizes_of(path, facts), scale_of(path, facts), only)
