"""Foreign .onnx files: graphs that could run without end, read other files, or hang are refused before loading."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vemcompress.errors import ExportError, InputError
from vemcompress.export.formats.onnx import checked_bytes
from vemcompress.weights.graphs import foreign
from vemcompress.weights.graphs.foreign import read_onnx

IMAGE = ["n", 3, "h", "w"]
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]


def value(name: str, shape=IMAGE, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, functions=(), initializers=()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], initializers)
    return helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=9)


def node(kind: str, source="x", result="y", **more) -> onnx.NodeProto:
    return helper.make_node(kind, [source], [result], **more)


def body(*nodes) -> onnx.GraphProto:
    inputs = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v")]
    outputs = [value("again", [], TensorProto.BOOL), value("w")]
    more = [node("Identity", "go", "again"), *(nodes or [node("Tanh", "v", "w")])]
    return helper.make_graph(more, "body", inputs, outputs)


def loop(source="x", result="y", inside=None) -> onnx.NodeProto:
    return helper.make_node("Loop", ["", "", source], [result], "forever", body=inside or body())


def function(name: str, *nodes) -> onnx.FunctionProto:
    return helper.make_function("own", name, ["x"], ["y"], list(nodes), OPSETS)


def doubling(count: int) -> list[onnx.FunctionProto]:
    """Functions of which each calls the one before twice."""
    calls = [(node(f"f{i}", "x", "z", domain="own"), node(f"f{i}", "z", "y", domain="own")) for i in range(count)]
    return [function("f0", node("Tanh")), *(function(f"f{i + 1}", *both) for i, both in enumerate(calls))]


BRANCH = helper.make_graph([loop()], "branch", [], [value("y")])
ENDLESS = {
    "Loop": model([loop()]),
    "in a loop's body": model([loop(inside=body(loop("v", "w")))]),
    "If": model([node("Identity"), node("If", "x", "z", then_branch=BRANCH, else_branch=BRANCH)]),
    "Scan": model([node("Scan", body=body(), num_scan_inputs=1)]),
    "in a function": model([node("f", domain="own")], [function("f", loop())]),
    "in a node that is no loop": model([node("SequenceMap", body=helper.make_graph([loop()], "b", [], [value("y")]))]),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_graphs_that_may_run_for_ever_are_refused(case, tmp_path):
    onnx.save(ENDLESS[case], tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx: has the node '(forever)?' of type (Loop|If|Scan)"):
        read_onnx(tmp_path / "m.onnx")


def test_no_graph_is_exported_that_would_be_refused():
    with pytest.raises(ExportError, match="type Loop"):
        checked_bytes(ENDLESS["Loop"])


def test_functions_that_never_end_or_grow_without_bound_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model([node("f10", domain="own")], doubling(10)), path)
    read_onnx(path)
    onnx.save(model([node("f5000", domain="own")], doubling(5000)), path)
    with pytest.raises(InputError, match="more than 100,000 nodes"):
        read_onnx(path)
    onnx.save(model([node("f", domain="own")], [function("f", node("f", domain="own"))]), path)
    with pytest.raises(InputError, match="calls itself"):
        read_onnx(path)


def external(location: str, folder: Path) -> Path:
    """A model whose weights are in another file."""
    tensor = onnx.numpy_helper.from_array(np.zeros((3, 3, 1, 1), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    made = model([helper.make_node("Conv", ["x", "w"], ["y"])], initializers=[tensor])
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("w.bin", r"'w\.bin', which does not exist"),
        ("a\0b", r"'a\\x00b', which cannot be read"),
        ("../w.bin", "outside its own folder"),
        ("/etc/passwd", "outside its own folder"),
        ("device", "outside its own folder"),
        ("fifo", "not a regular file"),
        ("folder", "is a folder"),
        ("large", "more than 10"),
        ("n" * 5000, "cannot be read"),
    ],
)
def test_weights_in_another_file_are_a_regular_file_beside_it(location, said, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "LARGEST_DATA", 10)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=said) as caught:
        read_onnx(external(location, tmp_path))
    assert len(str(caught.value)) < 1000 and "\0" not in str(caught.value)


@pytest.mark.parametrize("what", ["fifo", "device"])
def test_a_model_that_is_no_regular_file_does_not_hang(what, tmp_path):
    path = tmp_path / "m.onnx"
    os.mkfifo(path) if what == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        read_onnx(path)
