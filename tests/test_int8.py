"""Graphs of fewer bits: float16 weights, and int8 that finds out which layers must stay in float."""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vemcompress.errors import ExportError, UsageError
from vemcompress.export.calibration import measure
from vemcompress.export.equalise import equalise
from vemcompress.export.int8_executorch import quantise_program
from vemcompress.export.int8_litert import quantise_tflite
from vemcompress.export.int8_onnx import onnx_run, openvino_run, quantise
from vemcompress.export.precision import Judge, Score, half, split
from vemcompress.export.sensitivity import Candidate, Search
from vemcompress.system.events import silent

PLANTED = "planted"


def graph(nodes, weights, inputs=(("x", ["N", 3, "H", "W"]),)):
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, None, None])
    made = helper.make_graph(nodes, "toy", values, [y], tensors)
    model = helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"family": "toy"})
    return model


def conv(name, x, y, **more):
    return helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [y], pads=[1, 1, 1, 1], **more)


def weights(rng, **channels):
    made = {}
    for name, (given, out) in channels.items():
        made[f"{name}.weight"] = rng.normal(0, (2 / (9 * given)) ** 0.5, (out, given, 3, 3)).astype(np.float32)
        made[f"{name}.bias"] = rng.normal(0, 0.1, out).astype(np.float32)
    return made


def toy(planted=False):
    """Three convolutions. The planted one has a channel that is 3,000 times as large as the others, and is scaled back
    after it: one scale for all of its channels rounds the others to nothing."""
    numbers = weights(np.random.default_rng(0), first=(3, 8), planted=(8, 8), head=(8, 3))
    gain = np.ones((1, 8, 1, 1), np.float32)
    if planted:
        gain[0, 0] = 1 / 3000
        numbers["planted.weight"][0] *= 3000
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        conv(PLANTED, "b", "c"),
        helper.make_node("Mul", ["c", "gain"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        conv("head", "e", "f"),
        helper.make_node("Tanh", ["f"], ["y"]),
    ]
    return graph(nodes, numbers | {"gain": gain})


def photos(count=8, size=32, channels=3):
    rng = np.random.default_rng(1)
    coarse = rng.uniform(-1, 1, (count, 1, channels, size // 8, size // 8)).astype(np.float32)
    return list(coarse.repeat(8, axis=3).repeat(8, axis=4))


def kinds(model):
    return [node.op_type for node in model.graph.node]


def test_an_int8_graph_keeps_its_ends_its_facts_and_any_size():
    model = toy()
    made = quantise(model, photos())
    product = made.product
    onnx.checker.check_model(product, full_check=True)
    assert product.graph.input == model.graph.input and product.graph.output == model.graph.output
    assert {entry.key: entry.value for entry in product.metadata_props} == {"family": "toy"}
    assert made.layers == ("first", PLANTED, "head") and made.float_layers == ()
    assert {t.name for t in product.graph.initializer if t.data_type == TensorProto.INT8} >= {
        f"{name}.weight_quantized" for name in made.layers
    }
    x = photos(1, 48)[0]
    assert np.abs(onnx_run(product)(x) - onnx_run(model)(x)).max() < 0.1
    assert onnx_run(model)(photos(1)[0]).std() > 0.1  # an output near zero would agree with anything


def test_a_layer_that_int8_ruins_is_found_and_left_in_float():
    events = []
    made = quantise(toy(planted=True), photos(), least_ssim=0.98, on_event=events.append)
    assert [name for name, _ in made.float_layers] == [PLANTED] and made.layers == ("first", "head")
    assert made.ssim >= 0.98 > max(row.ssim for row in made.tried if row.float_layers == 0)
    costs = {event["layer"]: event["psnr"] for event in events if event["stage"] == "sensitivity"}
    assert costs[PLANTED] == made.float_layers[0][1] < min(costs["first"], costs["head"]) - 10
    assert "planted" in made.said() and made.as_dict()["float_layers"][0]["layer"] == PLANTED
    names = {tensor.name for tensor in made.product.graph.initializer}
    assert "planted.weight" in names and "planted.weight_quantized" not in names


def test_the_score_is_that_of_images_that_did_not_calibrate():
    model, given = toy(), photos(9)
    calibration, held = split(given)
    assert len(calibration) == 7 and [id(x) for x in held] == [id(given[3]), id(given[7])]
    made = quantise(model, given)
    assert Judge(held, onnx_run(model)).score(onnx_run(made.product)) == (made.ssim, made.psnr)


def test_an_ssim_that_int8_cannot_reach_is_refused():
    with pytest.raises(ExportError, match=r"int8 reaches an SSIM of 0\.9\d+ .* but 1 is required"):
        quantise(toy(), photos(), least_ssim=1.0)


def test_a_graph_without_layers_is_refused():
    with pytest.raises(ExportError, match="no layer of this graph can be int8"):
        quantise(graph([helper.make_node("Tanh", ["x"], ["y"])], {}), photos())


def test_one_image_is_too_few_and_two_are_enough():
    with pytest.raises(UsageError, match="at least 2 images"):
        quantise(toy(), photos(1))
    assert quantise(toy(), photos(2)).ssim > 0.9


def latent_toy():
    rng = np.random.default_rng(0)
    numbers = {
        "fc.weight": rng.normal(0, 0.4, (128, 6)).astype(np.float32),
        "fc.bias": np.zeros(128, np.float32),
        "shape": np.array([-1, 8, 4, 4]),
        "up.weight": rng.normal(0, 0.3, (8, 3, 4, 4)).astype(np.float32),
        "truncation": np.ones((), np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["z", "truncation"], ["w"]),
        helper.make_node("Gemm", ["w", "fc.weight", "fc.bias"], ["a"], transB=1),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "up.weight"], ["c"], strides=[4, 4]),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    return graph(nodes, numbers, (("z", ["N", 6]), ("truncation", [])))


def test_latent_vectors_calibrate_and_what_has_no_integer_kernel_is_only_stored():
    vectors = [np.random.default_rng(n).normal(size=(1, 6)).astype(np.float32) for n in range(8)]
    made = quantise(latent_toy(), vectors)
    onnx.checker.check_model(made.product, full_check=True)
    assert made.layers == ("fc", "up") and made.ssim > 0.98
    assert kinds(made.product).count("QuantizeLinear") == 2  # around the product; none at the transposed convolution
    stored = {tensor.name: tensor.data_type for tensor in made.product.graph.initializer}
    assert "up.weight" not in stored and stored["fc.weight_quantized"] == TensorProto.INT8
    assert stored["truncation"] == TensorProto.FLOAT


def test_two_runs_give_the_same_bytes():
    code = (
        "import hashlib, test_int8 as t\n"
        "print(hashlib.sha256(t.quantise(t.toy(planted=True), t.photos()).product.SerializeToString()).hexdigest())"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    here = quantise(toy(planted=True), photos()).product.SerializeToString()
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest(), done.stderr


def normed_toy(between=None):
    """Channels that differ a hundredfold between a convolution and an instance norm, perhaps with a pixel shuffle."""
    rng = np.random.default_rng(0)
    out = 32 if between else 8
    numbers = weights(rng, first=(3, out), head=(8, 3))
    spread = np.geomspace(0.2, 20, 8).astype(np.float32)
    spread = {None: spread, "CRD": spread.repeat(4), "DCR": np.tile(spread, 4)}[between]
    numbers["first.weight"] *= spread.reshape(-1, 1, 1, 1)
    shuffle = [helper.make_node("DepthToSpace", ["a"], ["s"], blocksize=2, mode=between)] if between else []
    nodes = [
        conv("first", "x", "a"),
        *shuffle,
        helper.make_node("InstanceNormalization", ["s" if between else "a", "one", "zero"], ["b"]),
        conv("head", "b", "c"),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    return graph(nodes, numbers | {"one": np.ones(8, np.float32), "zero": np.zeros(8, np.float32)})


@pytest.mark.parametrize("between", [None, "CRD", "DCR"])
def test_channels_before_a_norm_are_given_one_range_without_changing_the_image(between):
    model, given = onnx.shape_inference.infer_shapes(normed_toy(between)), photos()
    even = equalise(model, given)
    x = given[0]
    assert np.abs(onnx_run(even)(x) - onnx_run(model)(x)).max() < 2e-3
    sizes = [np.abs(numpy_helper.to_array(of.graph.initializer[0])).max(axis=(1, 2, 3)) for of in (model, even)]
    assert np.ptp(np.log10(sizes[0])) > 1.5 and np.ptp(np.log10(sizes[1])) < 0.7
    assert quantise(model, given, least_ssim=0.5).psnr > 40


def joined_toy(axis):
    """Two convolutions whose outputs lie side by side before the norm: of one image, or as other channels."""
    numbers = weights(np.random.default_rng(0), left=(3, 4), right=(3, 4), head=(4 if axis > 1 else 8, 3))
    ones = np.ones(4 if axis > 1 else 8, np.float32)
    nodes = [
        conv("left", "x", "a"),
        conv("right", "x", "b"),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=axis),
        helper.make_node("InstanceNormalization", ["c", "one", "zero"], ["d"]),
        conv("head", "d", "y"),
    ]
    return graph(nodes, numbers | {"one": ones, "zero": 0 * ones})


def grouped_toy():
    """A group norm, as PyTorch's exporter writes it: an instance norm of other channels."""
    numbers = weights(np.random.default_rng(0), first=(3, 8), head=(8, 3))
    numbers |= {"one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "flat": np.array([0, 2, -1])}
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Reshape", ["a", "flat"], ["b"]),
        helper.make_node("InstanceNormalization", ["b", "one", "zero"], ["c"]),
        helper.make_node("Shape", ["a"], ["size"]),
        helper.make_node("Reshape", ["c", "size"], ["d"]),
        conv("head", "d", "y"),
    ]
    return graph(nodes, numbers)


@pytest.mark.parametrize(("model", "changed"), [(joined_toy(2), True), (joined_toy(1), False), (grouped_toy(), False)])
def test_channels_that_a_norm_takes_otherwise_are_left_alone(model, changed):
    model, given = onnx.shape_inference.infer_shapes(model), photos()
    even = equalise(model, given)
    assert np.abs(onnx_run(even)(given[0]) - onnx_run(model)(given[0])).max() < 2e-3
    assert (even.graph.initializer != model.graph.initializer) == changed


def test_rare_values_are_left_out_of_a_percentile_and_kept_by_the_extremes():
    model = onnx.shape_inference.infer_shapes(toy())
    given = photos(3, 128)
    given[1][0, 0, 0, 0] = 50
    found = measure(model, {"x", "a"}, given)
    assert found["min-max"]["x"].highest == 50 and found["percentile 99.9"]["x"].highest <= 1
    assert set(found["min-max"]) == {"x", "a"}


def test_half_is_half_as_large_with_float_ends():
    model = toy()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 64), np.float32), "bulk"))
    made = half(model)
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.input == model.graph.input and made.graph.output == model.graph.output
    assert made.ByteSize() < 0.6 * model.ByteSize()
    x = photos(1)[0]
    assert 0 < np.abs(onnx_run(made)(x) - onnx_run(model)(x)).max() < 5e-3


@pytest.mark.parametrize("needed", range(1, 12))
def test_the_fewest_layers_are_left_in_float(needed):
    """Twelve layers, of which the later cost more; the SSIM is reached where `needed` of the worst are in float."""
    layers = [f"layer{n}" for n in range(12)]

    class Scripted(Judge):
        def __init__(self):
            self.scored = 0

        def psnr(self, run):
            return run

        def score(self, run):
            self.scored += 1
            return Score(0.99 if run >= needed else 0.9, 30.0)

    def build(method, chosen):
        alone = len(chosen) == 1 and not judge.scored > 1
        return Candidate(chosen, 1, 40.0 - layers.index(chosen[0]) if alone else len(layers) - len(chosen))

    judge = Scripted()
    found = Search(build, judge, 0.98, silent).find(["one"], layers)
    assert [name for name, _ in found.float_layers] == layers[::-1][:needed]
    assert found.layers == tuple(layers[: 12 - needed]) and judge.scored <= 9


def test_openvino_takes_the_graph_and_keeps_outputs_in_float():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    made = quantise(toy(planted=True), photos(), runtime="openvino")
    # The planted layer's outputs are never rounded here, so that nothing needs to stay in float.
    assert made.float_layers == () and kinds(made.product).count("QuantizeLinear") == 3
    x = photos(1)[0]
    assert np.abs(openvino_run(made.product)(x) - onnx_run(toy(planted=True))(x)).max() < 0.1


def test_openvino_reports_nothing_and_writes_nothing_at_home(tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    code = (
        "import socket\n"
        "def refuse(*a, **k): print('asked', a); raise OSError\n"
        "socket.getaddrinfo = refuse\n"
        "from vemcompress.export.openvino import library\n"
        "print(library().__version__)"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "asked" not in done.stdout and not (tmp_path / "intel").exists()


class Planted(torch.nn.Module):
    """`toy` in PyTorch."""

    def __init__(self):
        super().__init__()
        numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in toy(planted=True).graph.initializer}
        self.gain = torch.nn.Buffer(torch.tensor(numbers["gain"]))
        for name, (given, out) in {"first": (3, 8), PLANTED: (8, 8), "head": (8, 3)}.items():
            layer = torch.nn.Conv2d(given, out, 3, padding=1)
            layer.load_state_dict({key: torch.tensor(numbers[f"{name}.{key}"]) for key in ("weight", "bias")})
            self.add_module(name, layer)

    def forward(self, x):
        return self.head(self.planted(self.first(x).relu()).relu() * self.gain).tanh()  # a converter folds no more


def test_a_program_for_executorch_keeps_the_ruined_layer_in_float():
    for package in ("executorch", "torchao"):
        pytest.importorskip(package, reason="ExecuTorch is not installed")
    program = torch.export.export(Planted().eval(), (torch.from_numpy(photos(1)[0]),))
    made = quantise_program(program, photos())
    assert [name for name, _ in made.float_layers] == [PLANTED] and made.ssim >= 0.98
    run = made.product.module(check_guards=False)
    _, held = split(photos())
    score = Judge(held, onnx_run(toy(planted=True))).score(lambda x: run(torch.from_numpy(x)).detach().numpy())
    assert abs(score.psnr - made.psnr) < 0.1


def test_a_file_for_litert_keeps_the_ruined_layer_in_float():
    litert_torch = pytest.importorskip("litert_torch", reason="LiteRT is not installed")
    pytest.importorskip("ai_edge_quantizer", reason="LiteRT's quantiser is not installed")

    class ChannelsLast(Planted):
        def forward(self, x):
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    converted = litert_torch.convert(ChannelsLast().eval(), (torch.zeros(1, 32, 32, 3),))
    data = converted.model_content()
    made = quantise_tflite(data, photos())
    assert [name.rpartition("_")[2].split()[0] for name, _ in made.float_layers] == [PLANTED] and made.ssim >= 0.98
    assert made.bytes == len(made.product) < len(data) + 4096
