"""QDQ quantisation of an ONNX graph: QuantizeLinear and DequantizeLinear nodes put layers into int8.

Weights are signed and symmetric, with one scale per output channel. Activations are unsigned, with one scale per
tensor. Runtimes fuse the operations between these nodes into integer kernels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from vemcompress.export.calibration import Ranges
from vemcompress.export.equalise import equalise
from vemcompress.export.precision import put_first

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INFERRED = "onnx.infer"  # tells ONNX Runtime's quantiser that the types have been inferred


@dataclass(frozen=True)
class Kernels:
    """The int8 kernels of a runtime. Layer types in `integer` compute in int8. Others only store their weights in int8
    and compute in float: without an integer kernel, rounding their inputs would only cost quality. `rounds_outputs`:
    whether integer kernels give int8, so that outputs need a range too."""

    integer: tuple[str, ...]
    rounds_outputs: bool


@dataclass(frozen=True)
class Prepared:
    """A copy of a graph, ready for quantisation: tensor types are inferred, every node has a name, and channels are
    equalised. `layers` are its nodes with fixed weights, by their names in the PyTorch module."""

    model: onnx.ModelProto
    layers: dict[str, onnx.NodeProto]
    kernels: Kernels

    @classmethod
    def of(cls, graph: onnx.ModelProto, photos: Sequence[np.ndarray], kernels: Kernels) -> "Prepared":
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        del model.graph.value_info[:]  # outdated sizes would stop the inference
        model = equalise(onnx.shape_inference.infer_shapes(model), photos)
        for value, original in zip(model.graph.output, graph.graph.output, strict=True):
            value.CopyFrom(original)  # the inference gives new names to dynamic sides
        model.metadata_props.add(key=_INFERRED, value="onnxruntime.quant")
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        weights = _weights(model)
        layers: dict[str, onnx.NodeProto] = {}
        for node in model.graph.node:
            if node.op_type in LAYERS and node.input[1] in weights:
                name = node.input[1].removesuffix(".weight") if node.input[1].endswith(".weight") else node.name
                layers[name if name not in layers else node.name] = node
        return cls(model, layers, kernels)

    def activations(self) -> set[str]:
        """Names of the tensors whose range is needed."""
        nodes = [node for node in self.layers.values() if node.op_type in self.kernels.integer]
        outputs = {node.output[0] for node in nodes} if self.kernels.rounds_outputs else set()
        return {node.input[0] for node in nodes} | outputs

    def quantised(self, ranges: Ranges, layers: Collection[str]) -> onnx.ModelProto:
        """A copy with these layers in int8. The same layers give the same bytes."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        chosen = [self.layers[name] for name in layers]
        integer = [node.name for node in chosen if node.op_type in self.kernels.integer]
        _store(model, {node.name for node in chosen} - set(integer))
        if integer:  # an empty list means all layers to the quantiser
            quantiser = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=ranges,
                nodes_to_quantize=integer,
                nodes_to_exclude=[],
                op_types_to_quantize=list(LAYERS),
                extra_options={
                    "OpTypesToExcludeOutputQuantization": [] if self.kernels.rounds_outputs else list(LAYERS)
                },
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()  # the quantiser appends new nodes at the end
            model = quantiser.model.model
        del model.graph.value_info[:]
        facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != _INFERRED}
        helper.set_model_props(model, facts)
        return model


def _weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The constant float tensors, by name."""
    given = {value.name for value in model.graph.input}
    tensors = (tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return {tensor.name: tensor for tensor in tensors if tensor.name not in given}


def _store(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Store the weights of these layers as int8 with a scale per output channel (of a group). The layers compute with
    the dequantised weights."""
    weights, widened = _weights(model), []
    for node in model.graph.node:
        if node.name not in names:
            continue
        name = f"{node.name}_weight"
        values = numpy_helper.to_array(weights[node.input[1]])
        axis = _outputs(node, values.ndim)
        scale = np.abs(values).max(axis=tuple(i for i in range(values.ndim) if i != axis)) / 127
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        levels = np.round(values / scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(levels, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        widened.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_widened", axis=axis))
        node.input[1] = name
    put_first(model, widened)
    read = {name for node in model.graph.node for name in node.input}
    for tensor in weights.values():
        if tensor.name not in read:
            model.graph.initializer.remove(tensor)


def _outputs(node: onnx.NodeProto, rank: int) -> int:
    """The axis of the output channels in the node's weight."""
    if node.op_type == "Gemm":
        return 0 if any(entry.name == "transB" and entry.i for entry in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, rank - 1)
