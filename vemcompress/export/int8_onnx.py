"""int8 quantisation for ONNX Runtime and OpenVINO: static quantisation of an ONNX graph, calibrated on real inputs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from vemcompress.export.calibration import METHODS, input_name, measure, session
from vemcompress.export.openvino import compiled
from vemcompress.export.precision import Judge, Quantised, Run, split
from vemcompress.export.qdq import LAYERS, Kernels, Prepared
from vemcompress.export.sensitivity import Candidate, Search
from vemcompress.system.events import Event, silent


def onnx_run(graph: onnx.ModelProto) -> Run:
    """A function that runs the graph in ONNX Runtime and returns its first output."""
    opened, name = session(graph), input_name(graph)
    return lambda x: opened.run(None, {name: x})[0]


def openvino_run(graph: onnx.ModelProto) -> Run:
    """A function that runs the graph in OpenVINO on the CPU and returns its first output; layers not in int8 compute in
    float32."""
    request, name = compiled(graph.SerializeToString()).create_infer_request(), input_name(graph)
    return lambda x: request.infer({name: x})[0].copy()


@dataclass(frozen=True)
class Runtime:
    """The operations that a runtime computes in int8, and how it runs a graph."""

    kernels: Kernels
    run: Callable[[onnx.ModelProto], Run]


RUNTIMES = {
    "onnx": Runtime(Kernels(integer=("Conv", "Gemm", "MatMul"), rounds_outputs=True), onnx_run),
    "openvino": Runtime(Kernels(integer=LAYERS, rounds_outputs=False), openvino_run),
}


def quantise(
    graph: onnx.ModelProto,
    photos: Sequence[np.ndarray],
    *,
    runtime: str = "onnx",
    least_ssim: float = 0.98,
    on_event: Event = silent,
) -> Quantised:
    """Quantise `graph` for `runtime` (a key of `RUNTIMES`). As few layers as possible stay in float, so that the SSIM
    to the float graph is at least `least_ssim`.

    `photos` are inputs of the graph: float32 1 x C x H x W in [-1, 1], best real photos, or latent vectors, 1 x size.
    Three quarters of them calibrate; every fourth is for the score. The product is an `onnx.ModelProto` with the
    inputs, outputs, dynamic sizes and metadata of `graph`. The same graph and photos give the same bytes.

    Convolutions and products with fixed weights compute in int8. ONNX Runtime has no integer kernel for transposed
    convolutions, so there only their weights are int8. Norms and all other operations stay float.

    Events: {"event": "export", "stage", ...} with the stages "calibrate" (done, total), "try" (method, float_layers,
    ssim, psnr) and "sensitivity" (done, total, layer, psnr). Raises UsageError (2) for fewer than two photos, images
    below 11 px, or a runtime that is not installed, and ExportError (7) if int8 does not reach the SSIM.
    """
    kernels, run = RUNTIMES[runtime].kernels, RUNTIMES[runtime].run
    calibration, held = split(photos)
    prepared = Prepared.of(graph, calibration, kernels)
    ranges = measure(prepared.model, prepared.activations(), calibration, on_event)

    def build(method: str, layers: Collection[str]) -> Candidate:
        made = prepared.quantised(ranges[method], layers)
        return Candidate(made, made.ByteSize(), run(made))

    search = Search(build, Judge(held, onnx_run(graph)), least_ssim, on_event)
    return search.find(list(METHODS), list(prepared.layers))
