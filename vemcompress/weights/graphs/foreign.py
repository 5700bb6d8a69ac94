"""Checks a foreign .onnx file before ONNX Runtime opens it."""

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import onnx

from vemcompress.errors import InputError, MemoryExhausted
from vemcompress.system.files import open_regular, read_bytes
from vemcompress.system.memory import is_exhausted

Graph = onnx.GraphProto | onnx.FunctionProto

LIMIT = 2**31 - 1  # bytes; protobuf's own limit
LARGEST_DATA = 64 << 30  # bytes of an external data file
MOST_NODES = 100_000  # after expanding every local function; ours have about 200
# The operator domains of ONNX Runtime; other domains need code that a file could only name.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
_DOMAINS |= {"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
_CONTROL = ("Loop", "Scan", "If")  # with them a graph decides how long it runs, possibly forever


# Nodes that do not change values, skipped in the search for the last node that does.
_CARRIERS = ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice")


class Read(NamedTuple):
    """A file's bytes, the `external` files that loading it opens too, and the type of the node that produces its
    first output, such as "Tanh"; for a Clip with its bounds, "Clip 0 255".
    """

    data: bytes
    external: tuple[Path, ...]
    last: str


def read_onnx(path: Path) -> Read:
    """Read the file after checking that it is safe.

    Raises InputError (4) for a file that is missing, is not an ONNX model, refers to data outside its folder, or whose
    running time is unbounded (loops, or functions that call one another too often); MemoryExhausted (6).
    """
    try:
        data = read_bytes(path, LIMIT)
        model = onnx.ModelProto.FromString(data)
        if model.ir_version and model.graph.node:
            if why := endless(model):
                raise InputError(f"{path}: {why}, and is refused; export it with sizes and decisions fixed.")
            if own := _own_operator(model):
                raise InputError(
                    f"{path}: needs the operator {own}, which ONNX Runtime does not have; export it "
                    "with standard operators only."
                )
            return Read(data, _external(path, model), _last(model.graph))
    except InputError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be read ({reason}); check the path.") from error
    except Exception as error:  # protobuf's DecodeError is in different modules; invalid names are read late
        if is_exhausted(error):
            raise MemoryExhausted(f"{path}: not enough memory to read it; close other programs.") from error
        raise InputError(f"{path}: not an ONNX file; give a file made by an ONNX exporter.") from error
    raise InputError(f"{path}: not an ONNX model (no graph in it); give a file made by an ONNX exporter.")


def _last(graph: onnx.GraphProto) -> str:
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name if graph.output else ""
    for _ in range(len(graph.node)):
        node = makers.get(name)
        if node is None or node.op_type not in _CARRIERS or not node.input:
            break
        name = node.input[0]
    node = makers.get(name)
    if node is None or node.op_type != "Clip":
        return node.op_type if node is not None else ""
    held = {tensor.name: tensor for tensor in graph.initializer}
    held |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant" and len(n.attribute) == 1}
    bounds = [held[name] for name in node.input[1:3] if name in held]
    values = [onnx.numpy_helper.to_array(tensor) for tensor in bounds if tensor.data_location != tensor.EXTERNAL]
    values += [attribute.f for key in ("min", "max") for attribute in node.attribute if attribute.name == key]
    return " ".join(["Clip", *(f"{float(value):g}" for value in values)])


def _external(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """The files beside it that it reads. Raises InputError for others."""
    folder, found = path.resolve().parent, {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        said = repr(location[:80])
        try:
            target = (folder / location).resolve()
            if not target.is_relative_to(folder):
                raise InputError(f"{path}: wants to read {said}, outside its own folder; do not use this file.")
            open_regular(target, LARGEST_DATA).close()
            found[target] = None
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: its weights are in {said}, which does not exist; put it beside the file."
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: its weights are in {said}, which cannot be read ({reason}).") from error
    return tuple(found)


def _own_operator(model: onnx.ModelProto) -> str | None:
    """An operator that neither ONNX Runtime nor the file's own functions provide; None if there is none."""
    known = {(f.domain, f.name) for f in model.functions}
    for node in _nodes(model.graph, *model.functions):
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in known:
            return f"{node.domain}.{node.op_type}"[:80]
    return None


def endless(model: onnx.ModelProto) -> str | None:
    """Why ONNX Runtime might load or run the model without end; None if it cannot."""
    for node in _nodes(model.graph, *model.functions):
        if node.op_type in _CONTROL and node.domain in ("", "ai.onnx"):
            return f"has the node {node.name[:80]!r} of type {node.op_type}, with which a graph may run without end"
    calls = {(f.domain, f.name, f.overload): Counter(map(_called, _nodes(f))) for f in model.functions}
    sizes: dict[tuple, int] = {}

    def size(nodes: Counter) -> int:
        return min(sum(count * sizes.get(called, 1) for called, count in nodes.items()), MOST_NODES + 1)

    try:
        for name in TopologicalSorter({name: calls[name].keys() & calls.keys() for name in calls}).static_order():
            sizes[name] = size(calls[name])
    except CycleError:
        return "has a function that calls itself"
    if size(Counter(map(_called, _nodes(model.graph)))) > MOST_NODES:
        return f"has more than {MOST_NODES:,} nodes once its functions are written out"
    return None


def _called(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.domain, node.op_type, node.overload


def _graphs(*roots: Graph) -> Iterator[Graph]:
    """These graphs and functions, and all graphs nested in them."""
    todo = list(roots)
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo.extend((*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])))


def _nodes(*roots: Graph) -> Iterator[onnx.NodeProto]:
    return (node for graph in _graphs(*roots) for node in graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, including those in nodes, subgraphs and functions."""
    for graph in _graphs(model.graph, *model.functions):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
