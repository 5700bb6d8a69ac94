"""Parameters and MACs of an ONNX graph, counted as in `networks.cost`, from the shapes of its nodes."""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_model

from vemcompress.errors import InputError, first_line
from vemcompress.networks.cost import Cost
from vemcompress.weights.graphs.foreign import read_onnx

_KERNELS = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}  # the input that holds the weights
_PRODUCTS = {"MatMul": 1, "Gemm": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
_NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
_STATISTICS = {"BatchNormalization": (3, 4)}  # inputs that are not parameters
_WEIGHTS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8)
_WEIGHTS += (onnx.TensorProto.UINT8, onnx.TensorProto.DOUBLE)
Shapes = dict[str, tuple[int, ...]]


def cost_of_graph(path: Path, feed: Callable[[], np.ndarray]) -> Cost:
    """The cost of an image-to-image graph. It is run once on `feed()`, its input for one image. Convolutions, matrix
    products and normalisation nodes are counted; a norm that the exporter has decomposed into sums is not.

    Parameters are the initializers with at least one dimension that are read by nodes other than reshaping ones,
    without BatchNorm's statistics. Raises InputError (4).
    """
    model = onnx.ModelProto.FromString(read_onnx(path).data)
    parameters = sum(prod(tensor.dims) for tensor in _parameters(model))
    load_external_data_for_model(model, str(path.parent))
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    counted = [node for node in model.graph.node if node.op_type in {*_KERNELS, *_PRODUCTS, *_NORMS}]
    shapes = _shapes(path, model, counted, feed())
    return sum((_cost(node, shapes) for node in counted), Cost(parameters=parameters))


def _parameters(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    without = {
        node.input[place]
        for node in model.graph.node
        for place in _STATISTICS.get(node.op_type, ())
        if place < len(node.input)
    }
    for name, tensor in _constants(model):
        if tensor.data_type in _WEIGHTS and tensor.dims and name not in without:
            yield tensor


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers, and the tensors of Constant nodes, in which some exporters store weights."""
    yield from ((tensor.name, tensor) for tensor in model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value")


def _shapes(path: Path, model: onnx.ModelProto, nodes: list[onnx.NodeProto], x: np.ndarray) -> Shapes:
    """The input and output shapes of these nodes, from a run that only returns shapes."""
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name)
    del model.graph.output[:]
    for number, name in enumerate(names):
        model.graph.node.append(onnx.helper.make_node("Shape", [name], [f"vemcompress_shape_{number}"]))
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(f"vemcompress_shape_{number}", onnx.TensorProto.INT64, [None])
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised instead
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: x}) if names else []
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        raise InputError(f"{path}: its MACs cannot be counted ({first_line(error)}); choose another size.") from error
    return {name: tuple(map(int, shape)) for name, shape in zip(names, found, strict=True)}


def _cost(node: onnx.NodeProto, shapes: Shapes) -> Cost:
    out, kind = shapes[node.output[0]], node.op_type
    if kind in _NORMS:
        return Cost(norm=prod(out))
    if kind in _PRODUCTS:
        inner = shapes[node.input[0]][-1]
        if any(attribute.name == "transA" and attribute.i for attribute in node.attribute):
            inner = shapes[node.input[0]][0]
        return Cost(prod(out) * inner, prod(out) * inner)
    weights = prod(shapes[node.input[_KERNELS[kind]]])  # for one position: inputs of a group, outputs, kernel
    on_output = weights * prod(out[2:])
    on_input = weights * prod(shapes[node.input[0]][2:])
    return Cost(on_input if kind == "ConvTranspose" else on_output, on_output)
