"""Makes a graph easier to quantise without changing what it computes.

A convolution's output has one scale for all of its channels. Where an instance norm follows, each channel's size and
mean are taken out again, so that all channels can be given one range, centred on zero: then none is rounded more
coarsely than another. The idea is that of cross-layer equalisation (Nagel et al., ICCV 2019), where the norm plays the
next layer's part.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from vemcompress.export.calibration import input_name, session

MOST = 100.0  # the factor of a channel: larger ones would lift channels that are nothing but the norm's epsilon
MOVES = ("Concat", "Unsqueeze", "Reshape")  # between the phases of an upsampling and its norm: values only move

Ends = tuple[np.ndarray, np.ndarray]


class _Source(NamedTuple):
    """A convolution before a norm: its weight, the axis of the weight's output channels, its bias or None, its output,
    and the norm's channel that each of its own goes to, as a pixel shuffle spreads one over several."""

    weight: onnx.TensorProto
    axis: int
    bias: onnx.TensorProto | None
    output: str
    channel: np.ndarray


def equalise(graph: onnx.ModelProto, photos: Sequence[np.ndarray]) -> onnx.ModelProto:
    """A copy in which the channels of convolutions before instance norms have one range on `photos`; the same function
    but for the norms' epsilon. `graph` has the types of its tensors (value_info)."""
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
    """The convolutions that lead to an instance norm and nowhere else, by what the norm takes."""
    made = {name: node for node in model.graph.node for name in node.output}
    read: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    own = {t.name: t for t in model.graph.initializer if len(read.get(t.name, ())) == 1 and t.name not in given}

    def before(name: str) -> list[_Source] | None:
        """None where it leads elsewhere, or comes of something else; what reads sizes alone does not count."""
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
    """The channel that each one is moved to by a pixel shuffle."""
    facts = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    count = len(channel) // facts["blocksize"] ** 2
    return channel * count // len(channel) if facts.get("mode") == b"CRD" else channel % count


def _ends(flat: np.ndarray, cut: int) -> Ends:
    """The range of each row but for `cut` values on each side."""
    if cut == 0:
        return flat.min(axis=1), flat.max(axis=1)
    parts = np.partition(flat, (cut, flat.shape[1] - 1 - cut), axis=1)
    return parts[:, cut], parts[:, flat.shape[1] - 1 - cut]


def _wider(ends: Iterable[Ends]) -> Ends:
    """The range of all ranges."""
    low, high = zip(*ends, strict=True)
    return np.min(low, axis=0), np.max(high, axis=0)


def _agree(ends: dict[str, Ends], normed: str, sources: Sequence[_Source]) -> bool:
    """Whether values only moved, each to the channel that is told: then the ends of channels stay. A group norm, which
    is an instance norm of other channels, is found out so."""
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
