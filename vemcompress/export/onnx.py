"""`export_onnx`: one .onnx file that ONNX Runtime was seen to compute as PyTorch does, or no file at all."""

import itertools
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from vemcompress import __version__
from vemcompress.errors import ExportError, MemoryExhausted, UsageError
from vemcompress.export.contracts import Contract, ImageContract, Shape
from vemcompress.export.deploy import cause, contract_of, deployment_copy
from vemcompress.export.graph import check_float, check_uint8, trace
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.rewrites import rewrite
from vemcompress.export.sides import own_sides
from vemcompress.export.uint8 import wrap_uint8
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, check_target, parse_json, write_atomically
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.foreign import endless
from vemcompress.weights.graphs.pixels import COLOURS
from vemcompress.weights.loading import Loaded, load

OPSETS = range(18, 24)  # below 18 the exporter falls back to a converter; above 23 ONNX Runtime 1.22 cannot follow


@dataclass(frozen=True)
class ExportResult:
    """What was written and how it was checked.

    `max_abs_diff` is that of the float network on [-1, 1]; `max_level_diff` that of the uint8 graph in levels of 255.
    `shapes` are the inputs that were compared, in the graph's layout; `rewrites` says at how many places each exact
    rewrite applied.
    """

    path: Path
    opset: int
    bytes: int
    nodes: int
    max_abs_diff: float
    max_level_diff: int | None
    shapes: list[tuple[int, ...]]
    input: str
    output: str
    metadata: dict[str, str]
    rewrites: dict[str, int]

    def as_dict(self) -> dict:
        """For --json."""
        return asdict(self) | {"path": str(self.path), "shapes": [list(shape) for shape in self.shapes]}


def export_onnx(
    model: nn.Module | str | os.PathLike,
    path: str | os.PathLike,
    *,
    uint8: bool = False,
    size: int | tuple[int, int] | None = None,
    opset: int = 18,
    tolerance: float = 1e-4,
    rewrites: bool = True,
    metadata: dict[str, str] | None = None,
    on_event: Event = silent,
) -> ExportResult:
    """Write `model` as ONNX with dynamic batch, height and width, after comparing it in ONNX Runtime.

    `model` is a network, which is not changed, or what `weights.loading.load` takes. The graph takes `x`, float32 N x C
    x H x W in [-1, 1], to `y`; with `uint8`, `image` to `result`, both uint8 N x H x W x C of any size. `size` (a side,
    or height and width, in pixels) is one more size to compare at. Of a generator from latent vectors the graph takes
    `z`, float32 N x size, to `y`, N x C x side x side; with `uint8`, to `result`, uint8 N x side x side x C; it has no
    `size` but its own. Without `rewrites` the graph stays as PyTorch exports it, and is slower. `metadata` (source, licence, ...) joins what the file says of itself. An existing file is
    replaced only on success. Events: {"event": "export", "stage", "done", "total"}, the stage "trace", then "compare"
    for each shape, then "written". Raises UsageError (2), ExportError (7: cannot be exported, or differs from PyTorch
    by more than `tolerance`, or `tolerance` times the largest absolute value where that is above 1), OutputError (9),
    MemoryExhausted (6).
    """
    path = Path(path)
    if opset not in OPSETS:
        raise UsageError(f"opset {opset} is not supported; choose one from {OPSETS[0]} to {OPSETS[-1]}.")
    check_target(path, "student.onnx")
    if not isinstance(model, nn.Module):
        loaded = load(model)
        model, metadata = loaded.generator, origin(loaded) | (metadata or {})
    try:
        network = deployment_copy(model)
        contract = contract_of(network)
        of_images = isinstance(contract, ImageContract)
        if uint8 and of_images and contract.in_channels not in COLOURS:  # levels of 0 to 255 stand for -1 to 1
            raise ExportError(
                f"{path}: the network takes {contract.in_channels} channels, no photos, and only these are uint8; "
                "export it without uint8."
            )
        if uint8 and of_images and contract.only_size is not None:
            raise ExportError(
                f"{path}: the network takes images of {contract.only_size} px alone, and a uint8 graph takes any size; "
                "export it without uint8."
            )
        shapes = contract.shapes(size := _check_size(path, size, contract))
        if size is not None and of_images:
            limit = MemoryLimit(
                lambda side: network(torch.zeros(1, contract.in_channels, side, side)), scale=contract.scale
            )
            with torch.inference_mode():  # PyTorch's and ONNX Runtime's of one image
                limit.check(str(path), *size, 2)
        checks, numbers = len(shapes) + (len(contract.uint8_shapes()) if uint8 else 0), itertools.count(1)

        def stage(name: str, done: int, **more) -> None:
            on_event({"event": "export", "stage": name, "done": done, "total": checks + 2, **more})

        def comparing(shape: Shape) -> None:
            number = next(numbers)
            stage("compare", number, number=number, checks=checks, shape=shape)

        stage("trace", 0, opset=opset)
        graph, rewritten = trace(network, contract, opset), {}
        if rewrites:
            graph, rewritten = rewrite(graph, contract)
        difference, levels = check_float(network, graph, contract, shapes, tolerance, comparing), None
        if uint8:
            graph, shapes = wrap_uint8(graph, contract), contract.uint8_shapes()
            levels = check_uint8(network, graph, contract, comparing)
        facts = _describe(network, contract, uint8) | (metadata or {})
        onnx.helper.set_model_props(graph, {key: str(value) for key, value in facts.items()})
        graph.producer_name, graph.producer_version = "vemcompress", __version__
        data = _checked_bytes(graph)
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise MemoryExhausted(f"{path}: not enough memory to export and compare; compare at a smaller size.") from error
    write_atomically(path, data)
    stage("written", checks + 2, path=str(path), bytes=len(data))
    ends, nodes = (facts["input"], facts["output"]), len(graph.graph.node)
    return ExportResult(path, opset, len(data), nodes, difference, levels, shapes, *ends, facts, rewritten)


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


def _check_size(path: Path, size: int | tuple[int, int] | None, contract: Contract) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(contract, ImageContract):
        return own_sides(str(path), (contract.image, contract.image), size)
    height, width = (size, size) if isinstance(size, int) else size
    if contract.only_size is not None:
        return own_sides(str(path), (contract.only_size, contract.only_size), size, of_latents=False)
    for side in (height, width):
        if side < contract.min_size or side % contract.multiple:
            raise UsageError(
                f"size {height} x {width}: this network takes sides that are multiples of {contract.multiple} and at "
                f"least {contract.min_size}."
            )
    return height, width


def _describe(network: nn.Module, contract: Contract, uint8: bool) -> dict[str, str]:
    """What the file says of itself, so that nobody has to guess."""
    config = getattr(network, "config", None)
    return {
        "family": getattr(network, "family", "custom"),
        "config": config.model_dump_json() if config is not None else json.dumps(None),
        "layout": "NHWC" if uint8 else "NCHW",
        "range": "0..255" if uint8 else "-1..1",
        "channels": "RGB",
        **contract.facts(uint8),
        "version": __version__,
        "source": "unknown",
        "licence": "unknown",
    }


def _checked_bytes(graph: onnx.ModelProto) -> bytes:
    if why := endless(graph):
        raise ExportError(
            f"the exported graph {why}: let the network decide nothing by its images; no file was written."
        )
    try:
        onnx.checker.check_model(graph, full_check=True)
        return graph.SerializeToString()
    except Exception as error:
        raise ExportError(f"the exported graph is not valid ONNX: {cause(error)}") from error
