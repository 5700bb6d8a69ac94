"""`export`: write files for devices, and compare fp16 and int8 files with fp32 on this machine."""

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
from vemcompress.weights.loading import opened


@dataclass(frozen=True)
class Exported:
    """The exported files. If they are fp16 or int8, `compared` has a row for each file and for its fp32 form."""

    files: list[ExportResult]
    compared: list[Compared]

    def as_dict(self) -> dict:
        """For --json: the facts of one file, or a list under "exports" for several files."""
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

    ONNX and OpenVINO files map `x`, float32 N x C x H x W in [-1, 1], to `y`; number and size of the images are
    free. Files of other formats accept one image of a fixed size; LiteRT has channels last. If the generator's
    input is a latent vector, the file maps `z`, float32 N x size, to `y`. The speed and quality of fp16 and
    int8 files are compared with fp32, on one thread.

    Arguments:
        model: a run folder, a weight file, "hf://..." or an nn.Module, which is not changed.
        path: the output file; for several formats, its name without the ending. An existing file is replaced
            only on success.
        formats: one or more of "onnx", "openvino", "litert", "coreml", "ncnn", "executorch". All but ONNX need
            `pip install 'vemcompress[NAME]'`.
        precision: "fp32", "fp16" (weights in 16 bits) or "int8".
        calibrate: a folder of 16 to 100 photos for int8. A model with latent vectors as input needs none.
        size: side of the image in pixels, or (height, width), for formats with a fixed size (256). For ONNX,
            an additional size to compare at.
        uint8: input and output are uint8 N x H x W x C, named `image` and `result`.
        opset: the ONNX opset, 18 to 23.
        tolerance: the largest allowed difference from PyTorch; None uses the default of the format.
        rewrites: make the ONNX graph faster by exact rewrites.
        least_ssim: int8 is refused below this SSIM to the float network (0.98).
        metadata: texts to add to the metadata of the file.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        Exported: `files` (an ExportResult each: `path`, `bytes`, `max_abs_diff`, `notes`) and `compared` (the
        comparison of fp16 and int8 files with fp32).

    Raises:
        UsageError; InputError for a model that cannot be read; ExportError if a library is missing or lacks
        an operation, or if the file differs from PyTorch; OutputError; MemoryExhausted.
    """
    if not isinstance(model, nn.Module):  # opened once for all formats
        loaded = opened(model, on_event)
        model, metadata = loaded.generator, origin(loaded) | (metadata or {})
    about: ExportOptions = {"size": size, "uint8": uint8, "opset": opset, "rewrites": rewrites, "metadata": metadata}
    own: ExportOptions = {"precision": precision, "calibrate": calibrate, "least_ssim": least_ssim}
    files = write(model, path, formats=formats, tolerance=tolerance, on_event=on_event, **own, **about)
    names = [file.format for file in files if FORMATS[file.format].runs_here]
    if precision == "fp32" or not names:
        return Exported(files, [])
    with tempfile.TemporaryDirectory() as folder:  # the fp32 files are only needed for the comparison
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
    """Write a network as one .onnx file. ONNX Runtime runs it first, and the result is compared with PyTorch.

        vemcompress.export_onnx("runs/small", "student.onnx")

    The file maps `x`, float32 N x C x H x W in [-1, 1], to `y`. If the generator's input is a latent vector, it
    maps `z`, float32 N x size, to `y`.

    Arguments:
        model: a run folder, a weight file, "hf://..." or an nn.Module, which is not changed.
        path: the output file. An existing file is replaced only on success.
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
    told = f"slower than fp32 on this machine, though smaller: measure {file.precision} on the target device"
    return replace(file, notes=[*file.notes, told])
