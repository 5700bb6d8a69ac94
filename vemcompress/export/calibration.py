"""Activation ranges for int8 quantisation, measured on real inputs; one pass serves all methods."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization.calibrate import TensorData

from vemcompress.system.events import Event, silent

Ranges = dict[str, TensorData]  # by tensor name

# Percentage of the values inside the range; half of the rest lies below it, half above. A range that includes rare
# large values makes all others less precise. Each image has its own range, and the union of these is used.
METHODS = {"percentile 99.99": 99.99, "percentile 99.9": 99.9, "min-max": 100.0}


def session(graph: onnx.ModelProto, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU that prints nothing to stderr: errors are raised."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def input_name(graph: onnx.ModelProto) -> str:
    """Name of the first input that has no initial value: `x` or `z`."""
    preset = {tensor.name for tensor in graph.graph.initializer}
    return next(value.name for value in graph.graph.input if value.name not in preset)


def measure(
    graph: onnx.ModelProto, tensors: Collection[str], photos: Sequence[np.ndarray], on_event: Event = silent
) -> dict[str, Ranges]:
    """The range of each of the float `tensors`, by method. `graph` must have its tensors' types (value_info), and
    `photos` are inputs of the graph.

    Events: {"event": "export", "stage": "calibrate", "done", "total"} for each photo.
    """
    seen = onnx.ModelProto()
    seen.CopyFrom(graph)
    name, outputs = input_name(graph), {value.name for value in graph.graph.output}
    inside = [value for value in graph.graph.value_info if value.name in tensors and value.name not in outputs]
    seen.graph.output.extend(inside)
    wanted = [*(value.name for value in inside), *(output for output in sorted(outputs) if output in tensors)]
    run, found = session(seen), {method: {} for method in METHODS}
    for done, photo in enumerate(photos, 1):
        values = dict(zip(wanted, run.run(wanted, {name: photo}), strict=True)) if wanted else {}
        if name in tensors:
            values[name] = photo
        for tensor, value in values.items():
            for method, (low, high) in _bounds(value).items():
                before = found[method].get(tensor, (low, high))
                found[method][tensor] = min(before[0], low), max(before[1], high)
        on_event({"event": "export", "stage": "calibrate", "done": done, "total": len(photos)})
    return {
        method: {tensor: TensorData(lowest=low, highest=high) for tensor, (low, high) in ranges.items()}
        for method, ranges in found.items()
    }


def _bounds(value: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The lowest and the highest value inside each method's range."""
    flat, ends = value.ravel(), {}
    for method, share in METHODS.items():
        cut = int(flat.size * (100 - share) / 200)
        if cut == 0:
            ends[method] = flat.min(), flat.max()
            continue
        sorted_ends = np.partition(flat, (cut, flat.size - 1 - cut))
        ends[method] = sorted_ends[cut], sorted_ends[flat.size - 1 - cut]
    return ends
