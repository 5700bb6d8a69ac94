"""Comparison of fp16 and int8 files with their fp32 forms: size, latency, and SSIM and PSNR to the float network."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from vemcompress.export.calibrating import calibration_inputs
from vemcompress.export.contracts import LatentContract
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.exporting import default_size
from vemcompress.export.formats import FORMATS, Opened
from vemcompress.export.latency import in_turns
from vemcompress.export.precision import Judge, split
from vemcompress.export.result import ExportResult
from vemcompress.export.sides import both_sides
from vemcompress.system.events import Event

WARM, ROUNDS, AT_ONCE, SECONDS = 3, 30, 5, 5.0  # runs of each file, and seconds for each; see `latency.in_turns`


@dataclass(frozen=True)
class Compared:
    """A row of the table. `p50_ms` is at batch 1 on one thread. SSIM and PSNR (dB) are means over `images`, which are
    held-out photos, drawn images, or noise if no photos were given. `slower`: slower than the fp32 file of the same
    format."""

    format: str
    precision: str
    bytes: int
    p50_ms: float
    ssim: float
    psnr: float
    images: str
    slower: bool = False


def compare(
    model: nn.Module,
    pairs: Sequence[tuple[ExportResult, ExportResult]],
    size: int | tuple[int, int] | None,
    calibrate: str | os.PathLike | Sequence | None,
    on_event: Event,
) -> list[Compared]:
    """A row for each file. In each of the `pairs` the first file is the fp32 form. Images have the exported `size`."""
    network = deployment_copy(model)
    contract = contract_of(network)
    size = default_size(contract) if size is None else both_sides(size)
    inputs = calibration_inputs(contract, size, calibrate)
    what = "drawn images" if isinstance(contract, LatentContract) else "held-out photos" if inputs else "noise"
    if not inputs:
        generator = torch.Generator().manual_seed(1)
        inputs = [contract.noise((1, contract.in_channels, *size), generator).numpy() for _ in range(2)]

    def reference(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    judge = Judge(split(inputs)[1], reference)
    files = [file for pair in pairs for file in pair]
    opened = [FORMATS[file.format].open(file.path) for file in files]
    runs = [_run(one, inputs[0]) for one in opened]
    times = in_turns(runs, warmup=WARM, repeats=ROUNDS, budget=SECONDS, at_once=AT_ONCE, on_event=on_event)
    rows = [
        Compared(file.format, file.precision, file.bytes, float(np.median(ms)), *judge.score(one.images), what)
        for file, one, ms in zip(files, opened, times, strict=True)
    ]
    return [
        replace(row, slower=row.precision == "int8" and row.p50_ms > before.p50_ms)
        for before, row in zip([rows[0], *rows], rows, strict=False)
    ]


def _run(opened: Opened, x: np.ndarray) -> Callable[[], object]:
    given = opened.prepared(x)
    return lambda: opened.run(given)
