"""Makes a graph easier to quantise without changing what it computes.

A convolution's output has one scale for all of its channels. Where an instance norm follows, each channel's size and
mean are taken out again, so that all channels can be given one range, centred on zero: then none is rounded more
coarsely than another. The idea is that of cross-layer equalisation (Nagel et al., ICCV 2019), where the norm plays the
next layer's part.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from vemcompress.export.calibration import input_name, session

MOST = 100.0  # the factor of a channel: larger ones would lift channels that are nothing but the norm's epsilon


class _Pair(NamedTuple):
    """A convolution's weight, the axis of its output channels, its bias or None, what the norm takes, and which of the
    norm's channels each of the convolution's goes to, as a pixel shuffle between them spreads a channel over several.
    """

    weight: onnx.TensorProto
    axis: int
    bias: onnx.TensorProto | None
    normed: str
    channel: np.ndarray


def equalise(graph: onnx.ModelProto, photos: Sequence[np.ndarray]) -> onnx.ModelProto:
    """A copy in which the channels of convolutions before instance norms have one range on `photos`; the same function
    but for the norms' epsilon. `graph` has the types of its tensors (value_info)."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    pairs = _pairs(model)
    if not pairs:
        return model
    seen = onnx.ModelProto()
    seen.CopyFrom(graph)
    names = [pair.normed for pair in pairs]
    seen.graph.output.extend(value for value in graph.graph.value_info if value.name in set(names))
    run, name = session(seen), input_name(graph)
    ranges = [[_of_channels(y) for y in run.run(names, {name: photo})] for photo in photos]
    for number, pair in enumerate(pairs):
        low = np.min([of[number][0] for of in ranges], axis=0)
        high = np.max([of[number][1] for of in ranges], axis=0)
        half, middle = (high - low) / 2, (high + low) / 2
        factor = np.clip(half.max() / np.maximum(half, np.finfo(np.float32).tiny), 1, MOST).astype(np.float32)
        factor, middle = factor[pair.channel], middle[pair.channel]
        weight = numpy_helper.to_array(pair.weight)
        shape = [-1 if axis == pair.axis else 1 for axis in range(weight.ndim)]
        _set(pair.weight, weight * factor.reshape(shape))
        if pair.bias is not None:
            _set(pair.bias, (numpy_helper.to_array(pair.bias) - middle) * factor)
    return model


def _pairs(model: onnx.ModelProto) -> list[_Pair]:
    """The convolutions whose output goes to an instance norm and nowhere else, each with weights of its own."""
    read: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    own = {tensor.name: tensor for tensor in model.graph.initializer if len(read.get(tensor.name, ())) == 1}
    own = {name: tensor for name, tensor in own.items() if name not in given}
    pairs = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or any(name and name not in own for name in node.input[1:]):
            continue
        weight, axis = own[node.input[1]], int(node.op_type == "ConvTranspose")
        if axis and any(entry.name == "group" and entry.i > 1 for entry in node.attribute):
            continue
        bias = own[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        normed, channel = node.output[0], np.arange(weight.dims[axis])
        after = read.get(normed, [])
        if [other.op_type for other in after] == ["DepthToSpace"] and normed not in given:
            channel = _shuffled(after[0], channel)
            normed = after[0].output[0]
            after = read.get(normed, [])
        if [other.op_type for other in after] == ["InstanceNormalization"] and normed not in given:
            pairs.append(_Pair(weight, axis, bias, normed, channel))
    return pairs


def _shuffled(node: onnx.NodeProto, channel: np.ndarray) -> np.ndarray:
    """The channel that each one is moved to by a pixel shuffle."""
    facts = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    count = len(channel) // facts["blocksize"] ** 2
    return channel * count // len(channel) if facts.get("mode") == b"CRD" else channel % count


def _of_channels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range of each channel of N x C x H x W but for one value in 10,000 on each side."""
    flat = np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)
    cut = flat.shape[1] // 10_000
    ends = np.partition(flat, (cut, flat.shape[1] - 1 - cut), axis=1)
    return ends[:, cut], ends[:, flat.shape[1] - 1 - cut]


def _set(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
