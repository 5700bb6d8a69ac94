"""Networks rewritten in operations that runtimes support: same numbers, and nothing that XNNPACK lacks."""

import pytest
import torch
from bench_formats import network
from torch import nn

from vemcompress.export.contracts import ImageContract
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.exporting import export
from vemcompress.export.formats.executorch import RULES
from vemcompress.export.formats.ncnn import NCNN
from vemcompress.export.lowering import lowered
from vemcompress.export.rules import HEAD, PLAIN, aten

LACKING = {
    *(aten.upsample_nearest2d.vec, aten.select.int, aten.expand.default, aten.sum.default),
    *(aten.sum.dim_IntList, aten.instance_norm.default, aten.new_full.default, aten.arange.default),
    *(aten.addcmul.default, aten.mT.default),
}


def nodes(program):
    return [node for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    "family", ["animegan2", "ugatit", "fast_neural_style", "sagan", "stylegan2", "srvgg", "rrdb", "local_enhancer"]
)
def test_nothing_is_left_that_xnnpack_lacks(family):
    made = deployment_copy(network(family))
    contract = contract_of(made)
    shape = (1, 3, 32, 32) if isinstance(contract, ImageContract) else (1, contract.size)
    x = contract.noise(shape, torch.Generator().manual_seed(1))
    program = lowered(made, torch.zeros(shape), PLAIN | RULES)
    with torch.no_grad():
        y = made(x)
        assert (program.module()(x) - y).abs().max() < 1e-5 * y.abs().max().clamp(min=1)
    assert not {node.target for node in nodes(program)} & LACKING
    for node in nodes(program):
        if node.target is aten.mean.dim:  # over the pixels of each map, whose sides are kept
            assert len(node.args[0].meta["val"].shape) == 4 and sorted(node.args[1]) == [2, 3] and node.args[2]
        if node.target is aten.matmul.default:
            assert all(len(matrix.meta["val"].shape) == 2 for matrix in node.args)
        if node.target is aten.cat.default:
            assert len(set(node.args[0])) > 1
        if node.target in (aten.conv2d.default, aten.conv_transpose2d.input, aten.linear.default):
            assert node.args[1].op == "placeholder"  # weights are constants of the file


def test_what_depends_on_no_input_is_computed_once():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.randn(3, 3, 1, 1)), nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return nn.functional.conv2d(x, (self.weight * self.scale).square())

    made = Scaled().requires_grad_(False)
    program = lowered(made, torch.zeros(1, 3, 4, 4), PLAIN)
    assert [node.target for node in nodes(program)] == [aten.conv2d.default]
    assert [tuple(tensor.shape) for tensor in program.state_dict.values()] == [(3, 3, 1, 1)]
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(program.module()(x), made(x))


def test_random_numbers_stay_random_and_large_copies_stay_copies():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.row = nn.Parameter(torch.randn(1, 1, 128, 1))

        def forward(self, x):
            return x + torch.rand_like(self.row) + self.row.expand(1, 64, 128, 128)

    program = lowered(Noisy().requires_grad_(False), torch.zeros(1, 64, 128, 128), PLAIN)
    kinds = {node.target for node in nodes(program)}
    assert {aten.rand_like.default, aten.expand.default} <= kinds


def test_ncnn_is_compared_in_the_precision_of_its_file(tmp_path):
    """Its default is half precision in linear layers, also on x86."""
    for name in NCNN.packages:
        pytest.importorskip(name)
    made = network("ugatit")
    assert export(made, tmp_path / "m.ncnn.param", formats=("ncnn",), size=32)[0].max_abs_diff < 5e-5


@pytest.mark.parametrize("side", [32, 33])
def test_a_head_of_few_channels_is_strided_where_its_sides_are_even(side):
    torch.manual_seed(0)
    made = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 3, 7), nn.Tanh()).requires_grad_(False)
    x = torch.randn(1, 3, side, side)
    program = lowered(made, x, PLAIN | HEAD)
    shuffled = [node for node in nodes(program) if node.target is aten.pixel_shuffle.default]
    assert len(shuffled) == (1 if side == 32 else 0)
    assert (program.module()(x) - made(x)).abs().max() < 2e-6
