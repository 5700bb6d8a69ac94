"""Export a network to ONNX, OpenVINO, LiteRT, Core ML, ncnn or ExecuTorch; a file is kept only if it agrees with
PyTorch."""

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
from vemcompress.export.sides import both_sides, own_sides, usual_side
from vemcompress.export.targets import targets
from vemcompress.losses.image import WINDOW
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, Replaced, parse_json
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.pixels import COLOURS
from vemcompress.weights.loading import Loaded, load

OPSETS = range(18, 24)  # below 18 the exporter falls back to a converter; ONNX Runtime 1.22 supports at most 23


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
    """Write `model` in each of `formats` (keys of `FORMATS`). Each file is compared with PyTorch in its own runtime.

    `model` is a network, which is not changed, or a source that `weights.loading.load` accepts. `path` names the file;
    with several formats, its name without an ending is used for all. An existing file is replaced only on success.

    | model | format | input | output |
    |---|---|---|---|
    | images | ONNX, OpenVINO | `x`, float32 N x C x H x W in [-1, 1], any N and size | `y` |
    | images, `uint8` | ONNX, OpenVINO | `image`, uint8 N x H x W x C, any N and size | `result` |
    | images | others | one image of `size`; LiteRT with channels last | one image |
    | latent vectors | all | `z`, float32 N x size | `y`, N x C x side x side |

    `size` is a side, or height and width, in pixels; 256 by default. For ONNX it is one more size to compare at. A
    generator from latent vectors has its own size only.

    `precision`: "fp16" stores weights in 16 bits. "int8" is calibrated on the photos of the folder `calibrate` (latent
    vectors need none), leaves the most sensitive layers in float, and is refused if the SSIM to the float network on
    held-out photos is below `least_ssim`. Without `rewrites` an ONNX graph stays as PyTorch exports it, and is slower.
    `metadata` (source, licence, ...) is added to the file's metadata.

    Events: {"event": "export", "stage", "done", "total"} with the stage "trace", then "compare" for each shape,
    "convert" for each format but ONNX, and "written". Raises UsageError (2), OutputError (9), MemoryExhausted (6), and
    ExportError (7): a library is not installed or lacks an operation, photos cannot be read, or a file differs from
    PyTorch by more than `tolerance` (times the largest absolute value, if that is above 1).
    """
    if opset not in OPSETS:
        raise UsageError(f"opset {opset} is not supported; choose one from {OPSETS[0]} to {OPSETS[-1]}.")
    chosen = targets(Path(path), formats, precision, uint8)
    if not isinstance(model, nn.Module):
        loaded = load(model)
        loaded.tell(on_event)
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
    """One call of `export`: the network, the inputs at which files are compared, and the progress."""

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
        """The job that the formats work on. Also counts the steps for the progress events."""
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
        """At least two inputs to calibrate int8 with and to score fp16 on. Raises UsageError (2) and ExportError
        (7)."""
        if precision == "int8" and calibrate is None and isinstance(self.contract, ImageContract):
            raise UsageError("--precision int8: give a folder of 16 to 100 real photos to --calibrate.")
        if calibrate is not None and precision == "fp32":
            raise UsageError("--calibrate: photos are for int8 and fp16; omit it, or add --precision int8.")
        scale = self.contract.scale if isinstance(self.contract, ImageContract) else 1
        if precision != "fp32" and scale * min(self.size) < WINDOW:
            raise UsageError(
                f"--precision {precision}: is scored by SSIM, which needs images of at least {WINDOW} px; use a larger "
                "--size, or fp32."
            )
        inputs = calibration_inputs(self.contract, self.size, calibrate)
        if inputs:
            split(inputs)
        return inputs

    def stage(self, name: str, **more) -> None:
        self.on_event({"event": "export", "stage": name, "done": self.done, "total": self.total, **more})
        self.done += 1

    def tell(self, what: str | Shape) -> None:
        """Report that the float graph is traced, or that a file is compared at a shape."""
        if what == "trace":
            self.stage("trace")
        else:
            self.number += 1
            self.stage("compare", number=self.number, checks=self.checks, shape=what)

    def written(self, form: Format, job: Job, target: Path) -> ExportResult:
        """Convert one file, compare it, and move it to its place."""
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
                f"{self.name}: the network takes {contract.in_channels} channels, and only photos (1, 3 or 4 channels) "
                "can be uint8; export it without uint8."
            )
        if contract.only_size is not None and not all(form.fixes_size for form in self.forms):
            raise ExportError(
                f"{self.name}: the network takes only images of {contract.only_size} px, but a uint8 graph must take "
                "any size; export it without uint8."
            )

    def _check_memory(self, size: tuple[int, int]) -> None:
        def run(side: int) -> None:
            self.network(torch.zeros(1, self.contract.in_channels, side, side))

        with torch.inference_mode():  # two copies: PyTorch's and the runtime's
            MemoryLimit(run, scale=self.contract.scale).check(self.name, *size, 2)


def origin(loaded: Loaded) -> dict[str, str]:
    """The origin of a model for the file's metadata; for a student, also the origin of its teacher."""
    facts, teacher = loaded.provenance(), {}
    if "range" in facts:  # the range of the wrapped network; the file's own `range` is that of the exported graph
        facts["source_range"] = facts.pop("range")
    with suppress(*MALFORMED):  # files of other programs may have any metadata, or none
        teacher = dict(parse_json(loaded.metadata["teacher"]))
    facts |= {f"teacher_{name}": teacher.get(name, "") for name in ("source", "sha256", "revision")}
    facts["licence"] = loaded.licence or teacher.get("licence", "")
    return {name: value for name, value in facts.items() if value}


def _check_size(name: str, size: int | tuple[int, int] | None, contract: Contract) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(contract, ImageContract):
        return own_sides(name, (contract.image, contract.image), size)
    height, width = both_sides(size)
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
    """The size for formats of one size: 256 px, or the next permitted one; for latent vectors, the images' own."""
    if not isinstance(contract, ImageContract):
        return contract.image, contract.image
    side = usual_side(contract.only_size, contract.min_size, contract.multiple)
    return side, side


def _describe(network: nn.Module, contract: Contract, uint8: bool, precision: Precision) -> dict[str, str]:
    """The file's metadata: architecture, layout, range, precision, and placeholders for source and licence."""
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
