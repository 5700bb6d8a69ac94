"""int8 for ONNX Runtime: static quantisation, calibrated on real inputs and refused on a measured SSIM.

Weights are signed, symmetric and per output channel; activations are unsigned with one scale each. QuantizeLinear and
DequantizeLinear stand around each layer (QDQ), which ONNX Runtime fuses into integer kernels and other runtimes read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from vemcompress.export.calibration import METHODS, Ranges, input_name, measure, session
from vemcompress.export.equalise import equalise
from vemcompress.export.precision import Judge, Quantised, Run, put_first, split
from vemcompress.export.sensitivity import Candidate, Search
from vemcompress.system.events import Event, silent

INTEGER = ("Conv", "Gemm", "MatMul")  # ONNX Runtime has integer kernels for these
STORED = ("ConvTranspose",)  # and none for these: only their weights become int8
_INFERRED = "onnx.infer"  # the key by which ONNX Runtime's quantiser knows that types are there


def quantise(
    graph: onnx.ModelProto, photos: Sequence[np.ndarray], *, least_ssim: float = 0.98, on_event: Event = silent
) -> Quantised:
    """`graph` in int8, with the fewest layers left in float that reach `least_ssim` to the float graph.

    `photos` are inputs of the graph, such as real photos, float32 1 x C x H x W in [-1, 1], or latent vectors, 1 x
    size: three quarters calibrate, every fourth is for the score. The graph keeps its inputs, outputs, dynamic sizes
    and metadata. Convolutions and products compute in int8; of transposed convolutions only the weights are int8, as
    ONNX Runtime has no integer kernel for them and rounding their activations would cost quality and time; all else
    stays float. The same graph and photos give the same bytes. Events: {"event": "export", "stage", ...} with the
    stages "calibrate" (done, total), "try" (method, float_layers, ssim, psnr) and "sensitivity" (done, total, layer,
    psnr). Raises UsageError (2) for less than two photos or images of less than 11 px, and ExportError (7) where int8
    does not reach the SSIM.
    """
    calibration, held = split(photos)
    prepared = _Prepared.of(graph, calibration)
    ranges = measure(prepared.model, prepared.activations(), calibration, on_event)

    def build(method: str, layers: Collection[str]) -> Candidate:
        made = prepared.quantised(ranges[method], layers)
        return Candidate(made, made.ByteSize(), runner(made))

    search = Search(build, Judge(held, runner(graph)), least_ssim, on_event)
    return search.find(list(METHODS), list(prepared.layers))


def runner(graph: onnx.ModelProto) -> Run:
    """The graph's first output of an input, by ONNX Runtime."""
    opened, name = session(graph), input_name(graph)
    return lambda x: opened.run(None, {name: x})[0]


@dataclass(frozen=True)
class _Prepared:
    """A copy with fresh types of all tensors and a name for every node; `layers` are its nodes of fixed weights by the
    name that a person knows them by."""

    model: onnx.ModelProto
    layers: dict[str, onnx.NodeProto]

    @classmethod
    def of(cls, graph: onnx.ModelProto, photos: Sequence[np.ndarray]) -> "_Prepared":
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        del model.graph.value_info[:]  # stale sizes stop the inference
        model = equalise(onnx.shape_inference.infer_shapes(model), photos)
        model.metadata_props.add(key=_INFERRED, value="onnxruntime.quant")
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        weights = _weights(model)
        layers: dict[str, onnx.NodeProto] = {}
        for node in model.graph.node:
            if node.op_type in (*INTEGER, *STORED) and node.input[1] in weights:
                name = node.input[1].removesuffix(".weight") if node.input[1].endswith(".weight") else node.name
                layers[name if name not in layers else node.name] = node
        return cls(model, layers)

    def activations(self) -> set[str]:
        """The tensors whose range is needed."""
        nodes = [node for node in self.layers.values() if node.op_type in INTEGER]
        return {name for node in nodes for name in (node.input[0], node.output[0])}

    def quantised(self, ranges: Ranges, layers: Collection[str]) -> onnx.ModelProto:
        """A copy with these layers in int8."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        chosen = [self.layers[name] for name in layers]
        _store(model, {node.name for node in chosen if node.op_type in STORED})
        integer = [node.name for node in chosen if node.op_type in INTEGER]
        if integer:
            quantiser = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=ranges,
                nodes_to_quantize=integer,
                nodes_to_exclude=[],
                op_types_to_quantize=list(INTEGER),
                extra_options={},
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()  # new nodes stand at the end
            model = quantiser.model.model
        del model.graph.value_info[:]
        facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != _INFERRED}
        helper.set_model_props(model, facts)
        return model


def _weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The float tensors of fixed values by name."""
    given = {value.name for value in model.graph.input}
    tensors = (tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return {tensor.name: tensor for tensor in tensors if tensor.name not in given}


def _store(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Store the weights of these transposed convolutions as int8, with a scale for each output channel of a group, and
    compute with what they stand for."""
    weights, widened = _weights(model), []
    for node in model.graph.node:
        if node.name not in names:
            continue
        name = f"{node.name}_weight"
        values = numpy_helper.to_array(weights[node.input[1]])  # in x out / groups x height x width
        scale = np.abs(values).max(axis=(0, *range(2, values.ndim))) / 127
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        levels = np.round(values / scale.reshape(1, -1, *[1] * (values.ndim - 2))).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(levels, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        widened.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_widened", axis=1))
        node.input[1] = name
    put_first(model, widened)
    read = {name for node in model.graph.node for name in node.input}
    for tensor in weights.values():
        if tensor.name not in read:
            model.graph.initializer.remove(tensor)
