"""Exact rewrites of an exported graph: they apply where they should, and the numbers stay."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.exporting import export_onnx
from vemcompress.export.graph import trace
from vemcompress.export.rewrites import EXACT, rewrite
from vemcompress.networks import build_generator, parse_config


def traced(**config):
    torch.manual_seed(0)
    network = deployment_copy(build_generator(parse_config(config)))
    contract = contract_of(network)
    return trace(network, contract, 18), contract


def output(graph, x):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_rewrite_keeps_the_numbers(norm):
    graph, contract = traced(family="mobile_resnet", width=8, blocks=1, norm=norm)
    inputs = [images(1, 3, 32, 32), images(2, 3, 20, 36)]
    expected = [output(graph, x) for x in inputs]
    biases = {"instance": 9, "batch": 2}[norm]  # the depthwise convolutions of a BatchNorm network have instance norms
    for name, places in {"head": 1, "upsampling": 2, "biases": biases}.items():
        found, counts = rewrite(graph, contract, [name])
        onnx.checker.check_model(found, full_check=True)
        assert counts == {name: places}
        for x, y in zip(inputs, expected, strict=True):
            assert np.abs(output(found, x) - y).max() < 5e-6


def test_the_published_graph_stays_as_it_is():
    graph, contract = traced(family="mobile_resnet", width=8, blocks=1)
    before = graph.SerializeToString()
    rewrite(graph, contract)
    assert graph.SerializeToString() == before


def test_nothing_that_is_replaced_stays_in_the_file():
    graph, contract = traced(family="unet", width=8, downs=3)
    found, counts = rewrite(graph, contract)
    used = {name for node in found.graph.node for name in node.input}
    assert counts == {"upsampling": 2}  # the last has three outputs
    assert {tensor.name for tensor in found.graph.initializer} <= used
    assert sum(node.op_type == "ConvTranspose" for node in found.graph.node) == 1


def test_odd_sides_keep_the_head():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(3, 3, 7, padding=3)

        def forward(self, x):
            return self.head(x).tanh()

    network = deployment_copy(Small())
    contract = contract_of(network)
    assert contract.multiple == 1
    assert rewrite(trace(network, contract, 18), contract)[1] == {}


def test_a_convolution_that_others_read_keeps_its_bias():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    network = deployment_copy(Both())
    contract = contract_of(network)
    assert "biases" not in rewrite(trace(network, contract, 18), contract)[1]


@pytest.mark.parametrize(("kernel", "padding", "more"), [(2, 0, 0), (3, 1, 1), (4, 1, 0), (5, 2, 1), (6, 2, 0)])
def test_every_doubling_transposed_convolution_is_rewritten(kernel, padding, more):
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 8, 2, stride=2)
            self.up = nn.ConvTranspose2d(8, 8, kernel, 2, padding, more)
            self.last = nn.Conv2d(8, 3, 1)

        def forward(self, x):
            return self.last(self.up(self.down(x)))

    torch.manual_seed(0)
    network = deployment_copy(Up())
    contract = contract_of(network)
    graph = trace(network, contract, 18)
    found, counts = rewrite(graph, contract)
    assert counts == {"upsampling": 1}
    x = images(2, 3, 12, 20)
    assert np.abs(output(found, x) - output(graph, x)).max() < 2e-6


def test_export_rewrites_unless_told_not_to(tmp_path):
    torch.manual_seed(0)
    network = build_generator(parse_config({"family": "mobile_resnet", "width": 8, "blocks": 1}))
    fast = export_onnx(network, tmp_path / "fast.onnx")
    plain = export_onnx(network, tmp_path / "plain.onnx", rewrites=False)
    assert set(fast.rewrites) == set(EXACT) and plain.rewrites == {}
    kinds = {node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node}
    assert "ConvTranspose" in kinds and "DepthToSpace" not in kinds
    x = images(1, 3, 64, 64)
    ours, as_exported = (output(onnx.load(tmp_path / f"{name}.onnx"), x) for name in ("fast", "plain"))
    assert np.abs(ours - as_exported).max() < 1e-4


def test_a_uint8_file_names_its_opset_once(tmp_path):
    network = build_generator(parse_config({"family": "mobile_resnet", "width": 8, "blocks": 1}))
    export_onnx(network, tmp_path / "m.onnx", uint8=True)
    domains = [opset.domain for opset in onnx.load(tmp_path / "m.onnx").opset_import]
    assert len(domains) == len(set(domains))
