"""ONNX for ONNX Runtime on desktops, servers, browsers and phones."""

from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime

from vemcompress import __version__
from vemcompress.errors import ExportError
from vemcompress.export.deploy import cause
from vemcompress.export.formats.base import Checked, Format, Opened
from vemcompress.export.formats.job import Job
from vemcompress.export.graph import check_uint8
from vemcompress.export.int8_onnx import quantise
from vemcompress.export.precision import half
from vemcompress.export.rewrites import EXACT
from vemcompress.export.uint8 import wrap_uint8
from vemcompress.weights.graphs.foreign import endless


class ONNX(Format):
    """One .onnx file for any number of images of any size, with its metadata inside."""

    name = "onnx"
    title = "ONNX"
    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8")
    rewrites = tuple(EXACT)
    fixes_size = False

    def convert(self, job: Job, path: Path) -> None:
        graph = checked_bytes(product(job, self.rewrites, "onnx"))
        with self.converting(path):
            path.write_bytes(graph)

    def compared(self, job: Job, path: Path) -> Checked:
        """Compare an fp16 or int8 file at one more shape. The float graph that it is made from was already compared at
        several batch sizes and image sizes."""
        graph, float_graph = onnx.load(path), job.graph
        checked = Checked(float_graph.difference, None, float_graph.shapes)
        if job.precision != "fp32":
            checked = super().compared(job, path)
        elif job.uint8:
            levels = check_uint8(job.network, graph, job.contract, job.tell)
            checked = Checked(float_graph.difference, levels, job.contract.uint8_shapes())
        opset = next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))
        return replace(checked, opset=opset, nodes=len(graph.graph.node), rewrites=float_graph.rewritten)

    def open(self, path: Path, threads: int = 1) -> Opened:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"{path}: ONNX Runtime cannot load it ({cause(error)}); export it again.") from error
        given = session.get_inputs()[0]
        uint8 = "uint8" in session.get_outputs()[0].type
        return Opened(lambda x: session.run(None, {given.name: x})[0], "NHWC" if uint8 else "NCHW", None, uint8)


def product(job: Job, rewrites: tuple[str, ...], runtime: str) -> onnx.ModelProto:
    """The job's graph with its metadata, in the job's precision for this runtime."""
    graph = job.graph(rewrites if job.rewrites else ())
    if job.precision == "int8":
        found = quantise(graph, job.photos, runtime=runtime, least_ssim=job.least_ssim, on_event=job.on_event)
        job.quantised, graph = found, found.product
    elif job.precision == "fp16" and runtime == "onnx":
        graph = half(graph)
    if job.uint8:
        graph = wrap_uint8(graph, job.contract)
    onnx.helper.set_model_props(graph, {key: str(value) for key, value in job.facts.items()})
    graph.producer_name, graph.producer_version = "vemcompress", __version__
    return graph


def checked_bytes(graph: onnx.ModelProto) -> bytes:
    """The graph as the bytes of a file. Raises ExportError (7) for invalid ONNX, and for a graph with loops or
    branches, which might never end."""
    if why := endless(graph):
        raise ExportError(
            f"the exported graph {why}, so no file was written; remove branches and loops that depend on the image "
            "from the network."
        )
    try:
        onnx.checker.check_model(graph, full_check=True)
        return graph.SerializeToString()
    except Exception as error:
        raise ExportError(f"the exported graph is not valid ONNX: {cause(error)}") from error
