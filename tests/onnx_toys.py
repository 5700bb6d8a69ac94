"""Small .onnx files as other programs write them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

OPSET = 'opset_import: ["" : 18]'


def graph(path: Path, x: str, body: str, y: str, *, metadata: dict[str, str] | None = None, **weights) -> Path:
    """A file with the graph of `body`, in ONNX's own text, from `x` to `y`, each `type[shape] name`."""
    model = parser.parse_model(f"<ir_version: 9, {OPSET}> g ({x}) => ({y}) {{ {body} }}")
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()
    )
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def kernel(seed: int = 0, outputs: int = 3, inputs: int = 3, scale: float = 0.5) -> np.ndarray:
    """Weights of a 1x1 convolution."""
    return np.random.default_rng(seed).normal(0, scale, (outputs, inputs, 1, 1)).astype(np.float32)


def tanh_graph(path: Path, sides: str = "H, W", batch: str = "N") -> Path:
    """float NCHW in [-1, 1] to the same, by a 1x1 convolution and tanh."""
    shape = f"{batch}, 3, {sides}"
    return graph(path, f"float[{shape}] x", "c = Conv (x, w) y = Tanh (c)", f"float[{shape}] y", w=kernel())


def external(path: Path, location: str) -> Path:
    """As `tanh_graph`, with its weights in another file."""
    model = onnx.load(tanh_graph(path))
    (tensor,) = model.graph.initializer
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    if "/" not in location:
        (path.parent / location).write_bytes(raw)
    return path
