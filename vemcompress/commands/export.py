"""`export`: files for devices, and what fewer bits cost and gain beside fp32 on this machine."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from vemcompress.export.compared import Compared, compare
from vemcompress.export.exporting import export as write
from vemcompress.export.exporting import origin
from vemcompress.export.formats import FORMATS
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


def export_model(
    model: nn.Module | str | os.PathLike,
    path: str | os.PathLike,
    *,
    formats: Sequence[str] = ("onnx",),
    precision: str = "fp32",
    calibrate: str | os.PathLike | Sequence | None = None,
    size: int | None = None,
    on_event: Event = silent,
    **more: Any,
) -> Exported:
    """As `export.exporting.export`; files of fewer bits are then timed and judged beside their fp32 forms, in turns, on
    one thread. A file that is slower than its fp32 form is noted."""
    if not isinstance(model, nn.Module):  # opened once, for all that is done with it
        loaded = load(model)
        model, more = loaded.generator, more | {"metadata": origin(loaded) | (more.get("metadata") or {})}
    about = {"size": size, "on_event": on_event, **more}
    files = write(model, path, formats=formats, precision=precision, calibrate=calibrate, **about)
    names = [file.format for file in files if FORMATS[file.format].runs_here]
    if precision == "fp32" or not names:
        return Exported(files, [])
    with tempfile.TemporaryDirectory() as folder:
        plain = about | {"tolerance": float("inf"), "on_event": silent}  # it is only compared with
        whole = write(model, Path(folder, "model"), formats=names, **plain)
        pairs = list(zip(whole, [file for file in files if file.format in names], strict=True))
        rows = compare(model, pairs, size, calibrate, on_event)
    slower = {row.format for row in rows if row.slower}
    return Exported([_noted(file) if file.format in slower else file for file in files], rows)


def _noted(file: ExportResult) -> ExportResult:
    told = f"slower than fp32 on this machine, at a part of the size: measure {file.precision} on the device"
    return replace(file, notes=[*file.notes, told])
