"""Single layers for timing, each as a PyTorch function and as an ONNX graph of one node."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from vemcompress.export.goals.layers import Layer

OPSET, IR = 18, 10


@dataclass(frozen=True)
class Work:
    """A layer to time. `run` takes tensors with the shapes `inputs`. The ONNX node `op` with these `attributes`
    computes the same from the same inputs, followed by the `constants`."""

    inputs: Sequence[tuple[int, ...]]
    run: Callable[..., Tensor]
    op: str
    constants: Sequence[np.ndarray] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Inputs, uniform in [-1, 1]."""
        draws = torch.Generator().manual_seed(0)
        return [torch.rand(shape, generator=draws) * 2 - 1 for shape in self.inputs]

    def graph(self) -> bytes:
        """The bytes of an ONNX file with this one node, from x0, x1, ... to y."""
        names = [f"x{i}" for i in range(len(self.inputs))]
        values = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, self.inputs, strict=True)
        ]
        # An empty array marks an omitted input.
        given = [f"c{i}" if constant.size else "" for i, constant in enumerate(self.constants)]
        held = [numpy_helper.from_array(c, n) for c, n in zip(self.constants, given, strict=True) if n]
        node = helper.make_node(self.op, [*names, *given], ["y"], **self.attributes)
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "layer", values, [result], held)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR).SerializeToString()


def work_of(layer: Layer) -> Work:
    """The layer with random weights."""
    return KINDS[layer.kind](*layer.sizes)


def is_empty(layer: Layer) -> bool:
    """Whether the layer has no channels."""
    return not all(layer.sizes[: {"conv": 2, "transposed": 2}.get(layer.kind, 1)])


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.05, shape).astype(np.float32)


def _conv(i, o, kh, kw, sh, sw, ph, pw, dh, dw, _h, _w, groups, height, width) -> Work:
    weight, bias = _weights(o, i // groups, kh, kw), _weights(o)
    torch_weight, torch_bias = torch.from_numpy(weight), torch.from_numpy(bias)
    spaces = {"kernel_shape": [kh, kw], "strides": [sh, sw], "pads": [ph, pw, ph, pw], "dilations": [dh, dw]}

    def run(x: Tensor) -> Tensor:
        return F.conv2d(x, torch_weight, torch_bias, (sh, sw), (ph, pw), (dh, dw), groups)

    return Work([(1, i, height, width)], run, "Conv", [weight, bias], spaces | {"group": groups})


def _transposed(i, o, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow, groups, height, width) -> Work:
    weight, bias = _weights(i, o // groups, kh, kw), _weights(o)
    torch_weight, torch_bias = torch.from_numpy(weight), torch.from_numpy(bias)
    spaces = {"kernel_shape": [kh, kw], "strides": [sh, sw], "pads": [ph, pw, ph, pw], "dilations": [dh, dw]}
    attributes = spaces | {"output_padding": [oh, ow], "group": groups}

    def run(x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, torch_weight, torch_bias, (sh, sw), (ph, pw), (oh, ow), groups, (dh, dw))

    return Work([(1, i, height, width)], run, "ConvTranspose", [weight, bias], attributes)


def _padded(torch_mode: str, onnx_mode: str) -> Callable[..., Work]:
    def work(channels, height, width, left, right, top, bottom) -> Work:
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64)
        sides = (left, right, top, bottom)
        run = lambda x: F.pad(x, sides, mode=torch_mode)  # noqa: E731
        return Work([(1, channels, height, width)], run, "Pad", [pads], {"mode": onnx_mode})

    return work


def _norm(channels, groups, height, width) -> Work:
    """An instance norm. A group norm is an instance norm over fewer channels with more pixels."""
    scale, shift = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    run = lambda x: F.group_norm(x, groups)  # noqa: E731
    return Work([(1, groups, channels // groups * height, width)], run, "InstanceNormalization", [scale, shift])


def _batch_norm(channels, height, width) -> Work:
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    mean, variance = torch.zeros(channels), torch.ones(channels)
    run = lambda x: F.batch_norm(x, mean, variance, variance, mean)  # noqa: E731
    return Work([(1, channels, height, width)], run, "BatchNormalization", [one, zero, zero, one])


def _resized(torch_mode: str, attributes: dict[str, str]) -> Callable[..., Work]:
    def work(channels, height, width, new_height, new_width) -> Work:
        nothing, sides = np.zeros(0, np.float32), np.array([1, channels, new_height, new_width], dtype=np.int64)
        run = lambda x: F.interpolate(x, (new_height, new_width), mode=torch_mode)  # noqa: E731
        return Work([(1, channels, height, width)], run, "Resize", [nothing, nothing, sides], attributes)

    return work


def _pooled(pool: Callable, op: str, **more: int) -> Callable[..., Work]:
    def work(channels, height, width, kh, kw, sh, sw, ph, pw) -> Work:
        attributes = {"kernel_shape": [kh, kw], "strides": [sh, sw], "pads": [ph, pw, ph, pw]} | more
        run = lambda x: pool(x, (kh, kw), (sh, sw), (ph, pw))  # noqa: E731
        return Work([(1, channels, height, width)], run, op, [], attributes)

    return work


def _linear(rows, inputs, outputs) -> Work:
    weight = _weights(inputs, outputs)
    torch_weight = torch.from_numpy(weight)
    return Work([(rows, inputs)], lambda x: x @ torch_weight, "MatMul", [weight])


def _product(batch, rows, inner, columns) -> Work:
    return Work([(batch, rows, inner), (batch, inner, columns)], lambda a, b: a @ b, "MatMul")


def _softmax(rows, columns) -> Work:
    return Work([(rows, columns)], lambda x: x.softmax(1), "Softmax", [], {"axis": 1})


_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}

KINDS: dict[str, Callable[..., Work]] = {
    "conv": _conv,
    "transposed": _transposed,
    "reflect_pad": _padded("reflect", "reflect"),
    "replicate_pad": _padded("replicate", "edge"),
    "zero_pad": _padded("constant", "constant"),
    "norm": _norm,
    "batch_norm": _batch_norm,
    "nearest": _resized("nearest", _NEAREST),
    "bilinear": _resized("bilinear", _LINEAR),
    "average_pool": _pooled(F.avg_pool2d, "AveragePool", count_include_pad=1),
    "max_pool": _pooled(F.max_pool2d, "MaxPool"),
    "linear": _linear,
    "product": _product,
    "softmax": _softmax,
}
