"""`export`: files for devices, and what fewer bits cost and gain beside fp32 on this machine."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

from torch import nn

from vemcompress.commands.progress import shows_progress
from vemcompress.export.compared import Compared, compare
from vemcompress.export.exporting import ExportOptions, origin
from vemcompress.export.exporting import export as write
from vemcompress.export.formats import FORMATS
from vemcompress.export.formats.job import Precision
from vemcompress.export.result import ExportResult
from vemcompress.system.events import Event, silent
from vemcompress.weights.loading import load


@dataclass(frozen=True)
class Exported:
    """The files, and a row for each of them and for its fp32 form, where they are of fewer bits."""

    files: list[ExportResult]
    compared: list[Compared]

    def as_dict(self) -> dict:
        """For --json: of one file its facts, of several a list of them under "exports"."""
        rows = [asdict(row) for row in self.compared]
        if len(self.files) == 1:
            return self.files[0].as_dict() | {"compared": rows}
        return {"exports": [file.as_dict() for file in self.files], "compared": rows}


@shows_progress
def export_model(
    model: nn.Module | str | os.PathLike,
    path: str | os.PathLike,
    *,
    formats: str | Sequence[str] = ("onnx",),
    precision: Precision = "fp32",
    calibrate: str | os.PathLike | Sequence | None = None,
    size: int | tuple[int, int] | None = None,
    uint8: bool = False,
    opset: int = 18,
    tolerance: float | None = None,
    rewrites: bool = True,
    least_ssim: float = 0.98,
    metadata: dict[str, str] | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> Exported:
    """Write a network in one or more formats for devices. Each file is run and compared with PyTorch.

        vemcompress.export_model("runs/small", "student", formats=["onnx", "litert"])

    ONNX and OpenVINO files take `x`, float32 N x C x H x W in [-1, 1], to `y`, of any number and size. The
    other formats take one image of a fixed size; LiteRT has channels last. Of a generator from latent vectors
    a file takes `z`, float32 N x size, to `y`. Files of fewer bits are timed and judged beside their fp32
    form, on one thread.

    Arguments:
        model: a run folder, a weight file, "hf://..." or an nn.Module, which is not changed.
        path: the file; of several formats the name without an ending. A file is replaced only on success.
        formats: of "onnx", "openvino", "litert", "coreml", "ncnn", "executorch"; each but ONNX needs `pip
            install 'vemcompress[NAME]'`.
        precision: "fp32", "fp16" (weights in 16 bits) or "int8".
        calibrate: a folder of 16 to 100 photos for int8. Latent vectors need none.
        size: side of the image, pixels, or (height, width), for formats of one size (256); of ONNX one more
            to compare at.
        uint8: also the input and output are uint8 N x H x W x C, `image` to `result`.
        opset: ONNX's, 18 to 23.
        tolerance: the largest difference from PyTorch that is allowed; None is the format's own.
        rewrites: make the ONNX graph faster by exact rewrites.
        least_ssim: int8 is refused below this SSIM to the float network (0.98).
        metadata: texts that join what the file says of itself.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        Exported: `files` (an ExportResult each: `path`, `bytes`, `max_abs_diff`, `notes`) and `compared` (a
        row for each file of fewer bits).

    Raises:
        UsageError; InputError for a model that cannot be read; ExportError where a library is missing, lacks
        an operation, or the file differs from PyTorch; OutputError; MemoryExhausted.
    """
    if not isinstance(model, nn.Module):  # opened once, for all that is done with it
        loaded = load(model)
        model, metadata = loaded.generator, origin(loaded) | (metadata or {})
    about: ExportOptions = {"size": size, "uint8": uint8, "opset": opset, "rewrites": rewrites, "metadata": metadata}
    own: ExportOptions = {"precision": precision, "calibrate": calibrate, "least_ssim": least_ssim}
    files = write(model, path, formats=formats, tolerance=tolerance, on_event=on_event, **own, **about)
    names = [file.format for file in files if FORMATS[file.format].runs_here]
    if precision == "fp32" or not names:
        return Exported(files, [])
    with tempfile.TemporaryDirectory() as folder:  # its fp32 forms are only compared with
        whole = write(model, Path(folder, "model"), formats=names, tolerance=float("inf"), **about)
        pairs = list(zip(whole, [file for file in files if file.format in names], strict=True))
        rows = compare(model, pairs, size, calibrate, on_event)
    slower = {row.format for row in rows if row.slower}
    return Exported([_noted(file) if file.format in slower else file for file in files], rows)


@shows_progress
def export_onnx(
    model: nn.Module | str | os.PathLike,
    path: str | os.PathLike,
    *,
    progress: bool = False,
    **options: Unpack[ExportOptions],
) -> ExportResult:
    """Write a network as one .onnx file, after comparing it with PyTorch in ONNX Runtime.

        vemcompress.export_onnx("runs/small", "student.onnx")

    The file takes `x`, float32 N x C x H x W in [-1, 1], to `y`; of a generator from latent vectors `z`, N x
    size, to `y`.

    Arguments:
        model: a run folder, a weight file, "hf://..." or an nn.Module, which is not changed.
        path: the file, replaced only on success.
        progress: show progress, as the command line does.
        options: precision, calibrate, size, uint8, opset, tolerance, rewrites, least_ssim, metadata,
            on_event, as for `export_model`.

    Returns:
        ExportResult: `path`, `bytes`, `max_abs_diff` (the largest difference from PyTorch), `input`,
        `output`.

    Raises:
        As `export_model`.
    """
    return write(model, path, formats=("onnx",), **options)[0]


def _noted(file: ExportResult) -> ExportResult:
    told = f"slower than fp32 on this machine, at a part of the size: measure {file.precision} on the device"
    return replace(file, notes=[*file.notes, told])
