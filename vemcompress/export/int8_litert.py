"""int8 quantisation for LiteRT: static quantisation by ai_edge_quantizer, calibrated on real inputs."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.export.precision import Judge, Quantised, Run, split
from vemcompress.export.sensitivity import Candidate, Search
from vemcompress.system.events import Event, silent

INTEGER = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
STORED = ("TRANSPOSE_CONV",)  # weights only: the quantiser breaks the bias of such a layer if a norm is folded into it
METHOD = "min-max"
_KINDS = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}  # names in the quantiser, where they differ from those in the schema


class _Layer(NamedTuple):
    """An operation with fixed weights: its kind in the schema, and the name of its output."""

    kind: str
    output: str


def quantise_tflite(
    data: bytes, photos: Sequence[np.ndarray], *, least_ssim: float = 0.98, on_event: Event = silent
) -> Quantised:
    """Quantise the bytes of a float .tflite file. As few layers as possible stay in float, so that the SSIM to the
    float file is at least `least_ssim`.

    `photos` are inputs, as in `int8_onnx.quantise`: N x C x H x W, although the file has channels last. The product is
    the bytes of a file with float input and output. Only layers with weights are int8; sums, products and norms stay
    float. Raises UsageError (2) if LiteRT is not installed, and the errors of `int8_onnx.quantise`.
    """
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError as error:
        raise UsageError("LiteRT is not installed: pip install 'vemcompress[litert]'.") from error
    calibration, held = split(photos)
    layers = _layers(data)

    def recipe(names: Collection[str]) -> "quantizer.Quantizer":
        made = quantizer.Quantizer(bytearray(data))
        for name in names:
            kind, output = layers[name]
            where, what = f"^{re.escape(output)};", qtyping.TFLOperationName(_KINDS.get(kind, kind))
            if kind in INTEGER:
                made.add_static_config(where, what, activation_num_bits=8, weight_num_bits=8)
            else:
                made.add_weight_only_config(where, what, num_bits=8)
        return made

    whole, ranges = recipe(layers), {}
    if whole.need_calibration:
        key, name = _signature(data)
        ranges = whole.calibrate({key: [{name: _last(photo)} for photo in calibration]})

    def build(method: str, names: Collection[str]) -> Candidate:
        made = bytes(recipe(names).quantize(ranges).quantized_model)
        return Candidate(made, len(made), _runner(made))

    return Search(build, Judge(held, _runner(data)), least_ssim, on_event).find([METHOD], list(layers))


def _layers(data: bytes) -> dict[str, _Layer]:
    """The operations that can be int8, by the end of their output's name, which is the name of a PyTorch module."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    kinds = {number: kind for kind, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    graph, found = model.subgraphs[0], dict[str, _Layer]()
    for number, operator in enumerate(graph.operators):
        kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
        weights = graph.tensors[operator.inputs[1]] if kind in (*INTEGER, *STORED) else None
        if weights is not None and model.buffers[weights.buffer].data is not None:
            output = graph.tensors[operator.outputs[0]].name.decode()
            ends = [part.rpartition("/")[2] for part in output.split(";") if "/" in part]
            name = f"{ends[-1]} ({number})" if ends else f"{kind} ({number})"
            found[name] = _Layer(kind, output)
    return found


def _interpreter(data: bytes):
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(model_content=data)
    opened.allocate_tensors()
    return opened


def _signature(data: bytes) -> tuple[str, str]:
    """The name of the file's first signature, and the name of its input."""
    (key, ends), *_ = _interpreter(data).get_signature_list().items()
    return key, ends["inputs"][0]


def _last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)


def _runner(data: bytes) -> Run:
    opened = _interpreter(data)
    given, drawn = opened.get_input_details()[0]["index"], opened.get_output_details()[0]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        opened.set_tensor(given, _last(x))
        opened.invoke()
        return opened.get_tensor(drawn).transpose(0, 3, 1, 2)

    return run
