"""Channel equalisation before instance norms: makes a graph easier to quantise without changing what it computes.

In int8, all channels of a convolution's output share one scale. An instance norm that follows removes the mean and the
size of each channel. So the convolution's weights can be scaled such that all channels have the same range, centred on
zero, and all are rounded with the same precision. This is cross-layer equalisation (Nagel et al., ICCV 2019) with the
norm in place of the next layer.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from vemcompress.export.calibration import input_name, session

MOST = 100.0  # largest factor of a channel: one that needs more is so small that the norm's epsilon counts
MOVES = ("Concat", "Unsqueeze", "Reshape")  # between an upsampling's phases and its norm: they only move values

Ends = tuple[np.ndarray, np.ndarray]


class _Source(NamedTuple):
    """A convolution before a norm: its weight, the axis of the weight's output channels, its bias or None, and its
    output. `channel`: the norm's channel for each output channel; a pixel shuffle maps several to one."""

    weight: onnx.TensorProto
    axis: int
    bias: onnx.TensorProto | None
    output: str
    channel: np.ndarray


def equalise(graph: onnx.ModelProto, photos: Sequence[np.ndarray]) -> onnx.ModelProto:
    """A copy in which all channels of a convolution before an instance norm have the same range on `photos`. It
    computes the same function, apart from the norms' epsilon. `graph` must have its tensors' types (value_info)."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    found = _sources(model)
    if not found:
        return model
    seen = onnx.ModelProto()
    seen.CopyFrom(graph)
    wanted = {name for normed, sources in found.items() for name in (normed, *(source.output for source in sources))}
    values = [value for value in graph.graph.value_info if value.name in wanted]
    seen.graph.output.extend(values)
    run, name, names = session(seen), input_name(graph), [value.name for value in values]
    inner, whole = dict[str, Ends](), dict[str, Ends]()
    for photo in photos:
        for tensor, y in zip(names, run.run(names, {name: photo}), strict=True):
            flat = np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)
            inner[tensor] = _wider([_ends(flat, flat.shape[1] // 10_000), *filter(None, [inner.get(tensor)])])
            whole[tensor] = _wider([_ends(flat, 0), *filter(None, [whole.get(tensor)])])
    for normed, sources in found.items():
        if not _agree(whole, normed, sources):
            continue
        low, high = inner[normed]
        half, middle = (high - low) / 2, (high + low) / 2
        factor = np.clip(half.max() / np.maximum(half, np.finfo(np.float32).tiny), 1, MOST).astype(np.float32)
        for source in sources:
            _scale(source, factor[source.channel], middle[source.channel])
    return model


def _sources(model: onnx.ModelProto) -> dict[str, list[_Source]]:
    """The convolutions whose output goes only to an instance norm, by the name of the norm's input."""
    made = {name: node for node in model.graph.node for name in node.output}
    read: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    own = {t.name: t for t in model.graph.initializer if len(read.get(t.name, ())) == 1 and t.name not in given}

    def before(name: str) -> list[_Source] | None:
        """None if other nodes read it, or if its source is no convolution. Nodes that read only its shape are
        ignored."""
        node = made.get(name)
        if node is None or name in given or sum(other.op_type != "Shape" for other in read[name]) != 1:
            return None
        if node.op_type in MOVES:
            values = node.input if node.op_type == "Concat" else node.input[:1]
            parts = [before(value) for value in values]
            return None if None in parts else [source for part in parts for source in part]
        if node.op_type == "DepthToSpace":
            parts = before(node.input[0]) or []
            return [part._replace(channel=_shuffled(node, part.channel)) for part in parts] if len(parts) == 1 else None
        return [source] if (source := _source(node, own)) else None

    norms = [node.input[0] for node in model.graph.node if node.op_type == "InstanceNormalization"]
    return {name: sources for name in norms if (sources := before(name))}


def _source(node: onnx.NodeProto, own: dict[str, onnx.TensorProto]) -> _Source | None:
    if node.op_type not in ("Conv", "ConvTranspose") or any(name and name not in own for name in node.input[1:]):
        return None
    weight, axis = own[node.input[1]], int(node.op_type == "ConvTranspose")
    if axis and any(entry.name == "group" and entry.i > 1 for entry in node.attribute):
        return None
    bias = own[node.input[2]] if len(node.input) > 2 and node.input[2] else None
    return _Source(weight, axis, bias, node.output[0], np.arange(weight.dims[axis]))


def _shuffled(node: onnx.NodeProto, channel: np.ndarray) -> np.ndarray:
    """The channel to which a pixel shuffle moves each channel."""
    facts = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    count = len(channel) // facts["blocksize"] ** 2
    return channel * count // len(channel) if facts.get("mode") == b"CRD" else channel % count


def _ends(flat: np.ndarray, cut: int) -> Ends:
    """The range of each row without the `cut` lowest and highest values."""
    if cut == 0:
        return flat.min(axis=1), flat.max(axis=1)
    parts = np.partition(flat, (cut, flat.shape[1] - 1 - cut), axis=1)
    return parts[:, cut], parts[:, flat.shape[1] - 1 - cut]


def _wider(ends: Iterable[Ends]) -> Ends:
    """The union of ranges."""
    low, high = zip(*ends, strict=True)
    return np.min(low, axis=0), np.max(high, axis=0)


def _agree(ends: dict[str, Ends], normed: str, sources: Sequence[_Source]) -> bool:
    """Whether values were only moved, each to the expected channel: the ranges of the channels are then equal. This
    detects a group norm, which is an instance norm over other channels."""
    count = len(ends[normed][0])
    if any(source.channel.max() >= count for source in sources):
        return False
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    for source in sources:
        np.minimum.at(low, source.channel, ends[source.output][0])
        np.maximum.at(high, source.channel, ends[source.output][1])
    return np.array_equal(low, ends[normed][0]) and np.array_equal(high, ends[normed][1])


def _scale(source: _Source, factor: np.ndarray, middle: np.ndarray) -> None:
    weight = numpy_helper.to_array(source.weight)
    shape = [-1 if axis == source.axis else 1 for axis in range(weight.ndim)]
    _set(source.weight, weight * factor.reshape(shape))
    if source.bias is not None:
        _set(source.bias, (numpy_helper.to_array(source.bias) - middle) * factor)


def _set(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
