"""ONNX for ONNX Runtime: desktops, servers, browsers, and through its own packages phones."""

from pathlib import Path

import onnx
import onnxruntime

from vemcompress.errors import ExportError
from vemcompress.export.deploy import cause
from vemcompress.export.formats.base import Format, Job, Opened
from vemcompress.export.int8_onnx import quantise
from vemcompress.export.precision import half
from vemcompress.export.rewrites import EXACT
from vemcompress.export.uint8 import wrap_uint8


class ONNX(Format):
    name = "onnx"
    title = "ONNX"
    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8")
    fixes_size = False
    rewrites = tuple(EXACT)

    def convert(self, job: Job, path: Path) -> None:
        onnx.save(product(job, self.rewrites, "onnx"), path)

    def open(self, path: Path, threads: int = 1) -> Opened:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"{path}: ONNX Runtime does not take the file ({cause(error)}).") from error
        given = session.get_inputs()[0]
        uint8 = "uint8" in session.get_outputs()[0].type
        return Opened(lambda x: session.run(None, {given.name: x})[0], "NHWC" if uint8 else "NCHW", None, uint8)


def product(job: Job, rewrites: tuple[str, ...], runtime: str) -> onnx.ModelProto:
    """The job's graph in its precision for this runtime, with its metadata."""
    graph = job.graph(rewrites)
    if job.precision == "int8":
        found = quantise(graph, job.photos, runtime=runtime, least_ssim=job.least_ssim, on_event=job.on_event)
        job.quantised, graph = found, found.product
    elif job.precision == "fp16" and runtime == "onnx":
        graph = half(graph)
    if job.uint8:
        graph = wrap_uint8(graph, job.contract)
    onnx.helper.set_model_props(graph, {key: str(value) for key, value in job.facts.items()})
    return graph
