"""`export`: a network in files for devices, each seen to compute what PyTorch does, or no file at all."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import nn

from vemcompress import __version__
from vemcompress.errors import ExportError, MemoryExhausted, UsageError
from vemcompress.export.calibrating import calibration_inputs
from vemcompress.export.contracts import Contract, ImageContract, Shape
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.floats import FloatGraph
from vemcompress.export.formats import Format, Job
from vemcompress.export.formats.job import Precision
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.precision import split
from vemcompress.export.quiet import heard
from vemcompress.export.result import ExportResult
from vemcompress.export.sides import DEFAULT, own_sides
from vemcompress.export.targets import targets
from vemcompress.losses.image import WINDOW
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, Replaced, parse_json
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.pixels import COLOURS
from vemcompress.weights.loading import Loaded, load

OPSETS = range(18, 24)  # below 18 the exporter falls back to a converter; above 23 ONNX Runtime 1.22 cannot follow


class ExportOptions(TypedDict, total=False):
    """The keyword arguments of `export` besides the formats, as that explains them."""

    precision: Precision
    uint8: bool
    size: int | tuple[int, int] | None
    opset: int
    tolerance: float | None
    rewrites: bool
    calibrate: str | os.PathLike | Sequence | None
    least_ssim: float
    metadata: dict[str, str] | None
    on_event: Event


def export_onnx(
    model: nn.Module | str | os.PathLike, path: str | os.PathLike, **options: Unpack[ExportOptions]
) -> ExportResult:
    """`export` to one .onnx file."""
    return export(model, path, formats=("onnx",), **options)[0]


def export(
    model: nn.Module | str | os.PathLike,
    path: str | os.PathLike,
    *,
    formats: str | Sequence[str] = ("onnx",),
    precision: Precision = "fp32",
    uint8: bool = False,
    size: int | tuple[int, int] | None = None,
    opset: int = 18,
    tolerance: float | None = None,
    rewrites: bool = True,
    calibrate: str | os.PathLike | Sequence | None = None,
    least_ssim: float = 0.98,
    metadata: dict[str, str] | None = None,
    on_event: Event = silent,
) -> list[ExportResult]:
    """Write `model` in each of `formats` (keys of `FORMATS`), after comparing each file with PyTorch in its runtime.

    `model` is a network, which is not changed, or what `weights.loading.load` takes. `path` names the file; of several
    formats its name without an ending is that of all. An existing file is replaced only on success.

    ONNX and OpenVINO take `x`, float32 N x C x H x W in [-1, 1], to `y`, of any number and size; with `uint8`, `image`
    to `result`, both uint8 N x H x W x C. The other formats take one image of `size` (a side, or height and width, in
    pixels; 256 by default), LiteRT with channels last; for ONNX it is one more size to compare at. Of a generator from
    latent vectors a file takes `z`, float32 N x size, to `y`, N x C x side x side; it has no `size` but its own.

    `precision`: "fp16" stores weights in 16 bits; "int8" is calibrated with the photos of the folder `calibrate`
    (latent vectors need none), leaves the layers in float that hurt most, and is refused below an SSIM of `least_ssim`
    to the float network on held-out photos. Without `rewrites` an ONNX graph stays as PyTorch exports it, and is
    slower. `metadata` (source, licence, ...) joins what the file says of itself.

    Events: {"event": "export", "stage", "done", "total"}, the stage "trace", then "compare" for each shape, "convert"
    for each format but ONNX, and "written". Raises UsageError (2), ExportError (7: a library is not installed or lacks
    an operation, photos cannot be read, or a file differs from PyTorch by more than `tolerance`, or `tolerance` times
    the largest absolute value where that is above 1), OutputError (9), MemoryExhausted (6).
    """
    if opset not in OPSETS:
        raise UsageError(f"opset {opset} is not supported; choose one from {OPSETS[0]} to {OPSETS[-1]}.")
    chosen = targets(Path(path), formats, precision, uint8)
    if not isinstance(model, nn.Module):
        loaded = load(model)
        model, metadata = loaded.generator, origin(loaded) | (metadata or {})
    try:
        exporter = _Exporter(model, [form for form, _ in chosen], str(path), uint8, size, on_event)
        about = _describe(exporter.network, exporter.contract, uint8, precision) | (metadata or {})
        settings = {"precision": precision, "least_ssim": least_ssim, "rewrites": rewrites, "tolerance": tolerance}
        job = exporter.job(opset, facts=about, photos=exporter.photos(precision, calibrate), **settings)
        return [exporter.written(form, job.for_one_file(), target) for form, target in chosen]
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(f"{path}: not enough memory to export and compare; compare at a smaller size.") from error


class _Exporter:
    """One call of `export`: the network, at which inputs it is compared, and how far it has come."""

    def __init__(self, model: nn.Module, forms: Sequence[Format], name: str, uint8: bool, size, on_event: Event):
        self.forms, self.name, self.uint8, self.on_event = forms, name, uint8, heard(on_event)
        self.network = deployment_copy(model)
        self.contract = contract_of(self.network)
        if uint8 and isinstance(self.contract, ImageContract):
            self._check_uint8(self.contract)
        given = _check_size(name, size, self.contract)
        self.shapes = self.contract.shapes(given)
        if given is not None and isinstance(self.contract, ImageContract):
            self._check_memory(given)
        self.size = given or default_size(self.contract)
        self.done = self.number = self.checks = self.total = 0

    def job(self, opset: int, *, precision: Precision, rewrites: bool, tolerance: float | None, **more) -> Job:
        """What is exported; also counts the steps to come."""
        graphs = {form.rewrites if rewrites else () for form in self.forms if not form.fixes_size}
        others = sum(form.name != "onnx" for form in self.forms)
        by_levels = len(self.forms) - others if self.uint8 and precision == "fp32" else 0
        run = [form for form in self.forms if form.runs_here and (form.name != "onnx" or precision != "fp32")]
        self.checks = len(graphs) * len(self.shapes) + by_levels * len(self.contract.uint8_shapes()) + len(run)
        self.total = self.checks + bool(graphs) + others + len(self.forms)
        graph = FloatGraph(self.network, self.contract, opset, self.shapes, tolerance, self.tell)
        about = {"precision": precision, "rewrites": rewrites, "tolerance": tolerance, "uint8": self.uint8}
        told = {"tell": self.tell, "on_event": self.on_event}
        return Job(self.network, self.contract, self.size, graph, **about, **told, **more)

    def photos(self, precision: Precision, calibrate: str | os.PathLike | Sequence | None) -> list[np.ndarray]:
        """What int8 is calibrated with, and fp16 judged on; at least two. Raises UsageError (2) and ExportError (7)."""
        if precision == "int8" and calibrate is None and isinstance(self.contract, ImageContract):
            raise UsageError("--precision int8: give a folder of 16 to 100 real photos to --calibrate.")
        if calibrate is not None and precision == "fp32":
            raise UsageError("--calibrate: photos are for int8 and fp16; omit it, or add --precision int8.")
        scale = self.contract.scale if isinstance(self.contract, ImageContract) else 1
        if precision != "fp32" and scale * min(self.size) < WINDOW:
            raise UsageError(f"--precision {precision}: is judged by SSIM, for images of at least {WINDOW} px.")
        inputs = calibration_inputs(self.contract, self.size, calibrate)
        if inputs:
            split(inputs)
        return inputs

    def stage(self, name: str, **more) -> None:
        self.on_event({"event": "export", "stage": name, "done": self.done, "total": self.total, **more})
        self.done += 1

    def tell(self, what: str | Shape) -> None:
        """The float graph is traced, or a file compared at a shape."""
        if what == "trace":
            self.stage("trace")
        else:
            self.number += 1
            self.stage("compare", number=self.number, checks=self.checks, shape=what)

    def written(self, form: Format, job: Job, target: Path) -> ExportResult:
        """One file, converted, compared and put in its place."""
        if form.name != "onnx":
            self.stage("convert", format=form.title)
        with Replaced(form.files(target)) as folder:
            checked = form.produce(job, folder / target.name)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self.done += 1
        self.on_event({"event": "export", "stage": "written", "done": self.done, "total": self.total} | {"bytes": size})
        ends = {"input": job.facts["input"], "output": job.facts["output"], "metadata": job.facts}
        about = {"bytes": size, "files": form.files(target), "quantised": job.quantised, "notes": job.notes}
        return ExportResult(target, form.name, job.precision, **asdict(checked), **ends, **about)

    def _check_uint8(self, contract: ImageContract) -> None:
        if contract.in_channels not in COLOURS:  # levels of 0 to 255 stand for -1 to 1
            raise ExportError(
                f"{self.name}: the network takes {contract.in_channels} channels, no photos, and only these are uint8; "
                "export it without uint8."
            )
        if contract.only_size is not None and not all(form.fixes_size for form in self.forms):
            raise ExportError(
                f"{self.name}: the network takes images of {contract.only_size} px alone, and a uint8 graph takes any "
                "size; export it without uint8."
            )

    def _check_memory(self, size: tuple[int, int]) -> None:
        def run(side: int) -> None:
            self.network(torch.zeros(1, self.contract.in_channels, side, side))

        with torch.inference_mode():  # PyTorch's and the runtime's of one image
            MemoryLimit(run, scale=self.contract.scale).check(self.name, *size, 2)


def origin(loaded: Loaded) -> dict[str, str]:
    """Where a model comes from, for the file's metadata; of a student, also where its teacher came from."""
    facts, teacher = loaded.provenance(), {}
    if "range" in facts:  # of the network inside; the graph takes and gives what `range` says of every file
        facts["source_range"] = facts.pop("range")
    with suppress(*MALFORMED):  # another program's file may say anything, or nothing
        teacher = dict(parse_json(loaded.metadata["teacher"]))
    facts |= {f"teacher_{name}": teacher.get(name, "") for name in ("source", "sha256", "revision")}
    facts["licence"] = loaded.licence or teacher.get("licence", "")
    return {name: value for name, value in facts.items() if value}


def _check_size(name: str, size: int | tuple[int, int] | None, contract: Contract) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(contract, ImageContract):
        return own_sides(name, (contract.image, contract.image), size)
    height, width = (size, size) if isinstance(size, int) else size
    if contract.only_size is not None:
        return own_sides(name, (contract.only_size, contract.only_size), size, of_latents=False)
    for side in (height, width):
        if side < contract.min_size or side % contract.multiple:
            raise UsageError(
                f"size {height} x {width}: this network takes sides that are multiples of {contract.multiple} and at "
                f"least {contract.min_size}."
            )
    return height, width


def default_size(contract: Contract) -> tuple[int, int]:
    """Of a format that takes images of one size: 256 px, or the nearest that the network takes; of latents its own."""
    if not isinstance(contract, ImageContract):
        return contract.image, contract.image
    least = max(contract.min_size, DEFAULT)
    side = contract.only_size or -(-least // contract.multiple) * contract.multiple
    return side, side


def _describe(network: nn.Module, contract: Contract, uint8: bool, precision: Precision) -> dict[str, str]:
    """What the file says of itself, so that nobody has to guess."""
    config = getattr(network, "config", None)
    return {
        "family": getattr(network, "family", "custom"),
        "config": config.model_dump_json() if config is not None else json.dumps(None),
        "layout": "NHWC" if uint8 else "NCHW",
        "range": "0..255" if uint8 else "-1..1",
        "channels": "RGB",
        "precision": precision,
        **contract.facts(uint8),
        "version": __version__,
        "source": "unknown",
        "licence": "unknown",
    }
