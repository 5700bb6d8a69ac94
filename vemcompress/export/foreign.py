"""Checks of a foreign .onnx file before ONNX Runtime opens it."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from vemcompress.errors import InputError

LIMIT = 2**31  # protobuf's own


def read_onnx(path: Path) -> tuple[bytes, bool]:
    """The file's bytes, and whether they are all there is: then loading them can open nothing else. Raises InputError
    (4) for a file that is absent, no ONNX model, or reaches for data outside its folder."""
    try:
        if path.stat().st_size >= LIMIT:
            raise InputError(f"{path}: larger than 2 GiB, which no ONNX file can be; check the file.")
        data = path.read_bytes()
        model = onnx.ModelProto.FromString(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be read ({reason}); check the path.") from error
    except InputError:
        raise
    except Exception as error:  # protobuf's DecodeError lies in different places in its implementations
        raise InputError(f"{path}: not an ONNX file; give a file made by an ONNX exporter.") from error
    if not model.ir_version or not model.graph.node:
        raise InputError(f"{path}: not an ONNX model (no graph in it); give a file made by an ONNX exporter.")
    folder, contained = path.resolve().parent, True
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        contained = False
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            raise InputError(f"{path}: wants to read '{location}', outside its own folder; do not use this file.")
        if not target.is_file():
            raise InputError(f"{path}: its weights are in '{location}', which is not there; put it beside the file.")
    return data, contained


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, those in nodes, subgraphs and functions included."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        while nodes:
            for attribute in nodes.pop().attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                graphs.extend((*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])))
