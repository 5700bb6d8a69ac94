"""Checks of a foreign .onnx file before ONNX Runtime opens it."""

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx

from vemcompress.errors import InputError, MemoryExhausted
from vemcompress.system.files import open_regular, read_bytes
from vemcompress.system.memory import is_exhausted

Graph = onnx.GraphProto | onnx.FunctionProto

LIMIT = 2**31 - 1  # bytes: protobuf's own
LARGEST_DATA = 64 << 30  # bytes of an external data file
MOST_NODES = 100_000  # once every local function is written out where it is called; ours have about 200
_CONTROL = ("Loop", "Scan", "If")  # with them a graph decides how long it runs, perhaps for ever


def read_onnx(path: Path) -> tuple[bytes, bool]:
    """The file's bytes, and whether they are all there is: then loading them can open nothing else.

    Raises InputError (4) for a file that is absent, no ONNX model, reaches for data outside its folder, or whose
    running time has no bound (loops, or functions that call one another too often); MemoryExhausted (6).
    """
    try:
        data = read_bytes(path, LIMIT)
        model = onnx.ModelProto.FromString(data)
        if model.ir_version and model.graph.node:
            if why := endless(model):
                raise InputError(f"{path}: {why}, and is refused; export it with sizes and decisions fixed.")
            return data, _is_contained(path, model)
    except InputError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be read ({reason}); check the path.") from error
    except Exception as error:  # protobuf's DecodeError lies in different places; a name that is no text is read late
        if is_exhausted(error):
            raise MemoryExhausted(f"{path}: not enough memory to read it; close other programs.") from error
        raise InputError(f"{path}: not an ONNX file; give a file made by an ONNX exporter.") from error
    raise InputError(f"{path}: not an ONNX model (no graph in it); give a file made by an ONNX exporter.")


def _is_contained(path: Path, model: onnx.ModelProto) -> bool:
    folder, contained = path.resolve().parent, True
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        contained = False
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        said = repr(location[:80])
        try:
            target = (folder / location).resolve()
            if not target.is_relative_to(folder):
                raise InputError(f"{path}: wants to read {said}, outside its own folder; do not use this file.")
            open_regular(target, LARGEST_DATA).close()
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: its weights are in {said}, which is not there; put it beside the file."
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: its weights are in {said}, which cannot be read ({reason}).") from error
    return contained


def endless(model: onnx.ModelProto) -> str | None:
    """Why ONNX Runtime could load or run the model without end; None where it could not."""
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
    """These graphs and functions, and all that are nested in them."""
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
    """Every tensor of a model, those in nodes, subgraphs and functions included."""
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
