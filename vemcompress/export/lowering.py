"""A network's operations in forms that a runtime knows, before it is converted: exact to rounding.

PyTorch's exporter gives a graph of a few dozen operations for inputs of one size. `lowered` runs it once more, and puts
in the place of an operation what a rule gives for it. `PLAIN` are rules for operations that converters forget;
`UPSAMPLING`, `PADDING` and `NORMS` are for those that a runtime lacks, or has no fast kernel for.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from vemcompress.export.quiet import quiet

aten = torch.ops.aten

Rule = Callable  # (lowering, node, *arguments) to what takes the operation's place, or None where it stays


def lowered(network: nn.Module, sample: Tensor, rules: Mapping[object, Rule]) -> torch.export.ExportedProgram:
    """`network`, a deployment copy, as a program for inputs of the size of `sample`. Whatever PyTorch's exporter raises
    is raised."""
    with torch.no_grad(), quiet():
        whole = torch.export.export(network, (sample,)).module(check_guards=False)
        return torch.export.export(Lowering(whole, rules).transform(), (sample,))


class Lowering(fx.Transformer):
    """Copies a graph, by the rules."""

    def __init__(self, module: fx.GraphModule, rules: Mapping[object, Rule]):
        super().__init__(module)
        self.rules = rules

    def run_node(self, node: fx.Node):
        self.node = node
        return super().run_node(node)

    def call_function(self, target, arguments, more):
        rule = self.rules.get(target)
        found = None if rule is None else rule(self, self.node, *arguments, **more)
        return super().call_function(target, arguments, more) if found is None else found

    def constant(self, name: str, value: Tensor) -> fx.Proxy:
        """A tensor as a buffer of the new module, such as weights in another order."""
        name = f"{self.node.name}_{name}"
        self.module.register_buffer(name, value.contiguous())
        return fx.Proxy(self.new_graph.get_attr(name), self.tracer)

    def value(self, argument: int) -> Tensor | None:
        """The tensor that a parameter of the node has; None where it is computed."""
        node = self.node.args[argument] if len(self.node.args) > argument else None
        return self.fetch_attr(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def shape(node: fx.Node, argument: int = 0) -> torch.Size:
    """Of one of the node's inputs."""
    return node.args[argument].meta["val"].shape


def _multiplied_and_added(lowering, node, x, a, b, value=1):
    return x + (a * b if value == 1 else value * (a * b))


def _transposed(lowering, node, x):
    return x.transpose(-2, -1)


def _converted(lowering, node, x, *arguments, **more):
    """Copies to the same type, which exact statistics of float32 make, go."""
    before, after = node.args[0].meta["val"], node.meta["val"]
    return x if (before.dtype, before.device) == (after.dtype, after.device) else None


def _summed(lowering, node, x, dim=None, keepdim=False, dtype=None):
    """As a mean: XNNPACK and Core ML have that one."""
    if dtype is not None or not dim:
        return None
    count = 1
    for axis in dim:
        count *= shape(node)[axis]
    return x.mean(dim, keepdim) * float(count)


def _ignored(lowering, node, x, *arguments, **more):
    return x


PLAIN: dict[object, Rule] = {
    aten.addcmul.default: _multiplied_and_added,
    aten.mT.default: _transposed,
    aten.numpy_T.default: _transposed,
    aten.square.default: lambda lowering, node, x: x * x,
    aten.to.dtype: _converted,
    aten.to.device: _converted,
    aten.sum.dim_IntList: _summed,
    aten._assert_tensor_metadata.default: _ignored,
}


def _upsampled(
    lowering, node, x, weight, bias=None, stride=(1, 1), padding=(0, 0), more=(0, 0), groups=1, dilation=(1, 1)
):
    """A transposed convolution of stride 2 as one convolution to four phases, and a pixel shuffle. LiteRT's converter
    refuses kernels of odd sizes, of which the left and the right padding differ."""
    kernel, shift = lowering.value(1), lowering.value(2)
    if kernel is None or groups != 1 or tuple(dilation) != (1, 1) or tuple(stride) != (2, 2):
        return None
    size, pad, extra = kernel.shape[2], padding[0], more[0]
    if kernel.shape[3] != size or size % 2 == 0 or size - 2 * pad + extra != 2 or len({*padding}) > 1:
        return None
    # Output position 2i + a reads tap k at i + (a + pad - k) / 2.
    taps = [[(k, (a + pad - k) // 2) for k in range(size) if (a + pad - k) % 2 == 0] for a in range(2)]
    first, last = (choose(o for phase in taps for _, o in phase) for choose in (min, max))
    phases = kernel.new_zeros(kernel.shape[1], 2, 2, kernel.shape[0], last - first + 1, last - first + 1)
    for a, rows in enumerate(taps):
        for b, columns in enumerate(taps):
            for k, row in rows:
                for m, column in columns:
                    phases[:, a, b, :, row - first, column - first] = kernel[:, :, k, m].T
    shift = None if shift is None else lowering.constant("bias", shift.repeat_interleave(4))
    grown = F.pad(x, (-first, last, -first, last))
    return F.pixel_shuffle(F.conv2d(grown, lowering.constant("weight", phases.flatten(0, 2)), shift), 2)


UPSAMPLING: dict[object, Rule] = {aten.conv_transpose2d.input: _upsampled}


def _reflected(lowering, node, x, pads, mode="constant", value=None):
    """A reflection as rows and columns beside the image: XNNPACK has no reflection."""
    if mode != "reflect" or len(pads) != 4:
        return None
    for axis, (before, after) in ((3, pads[:2]), (2, pads[2:])):
        size = shape(node)[axis]
        front = [x.narrow(axis, i, 1) for i in range(before, 0, -1)]
        back = [x.narrow(axis, size - 2 - i, 1) for i in range(after)]
        x = torch.cat([*front, x, *back], axis) if front or back else x
    return x


PADDING: dict[object, Rule] = {aten.pad.default: _reflected}


def _normalised(lowering, node, x, weight=None, bias=None, mean=None, var=None, use=True, momentum=0.1, eps=1e-5, *_):
    """An instance norm as means: XNNPACK has no norms."""
    centred = x - x.mean((2, 3), keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean((2, 3), keepdim=True) + eps)
    y = y if weight is None else y * weight.reshape(1, -1, 1, 1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


NORMS: dict[object, Rule] = {aten.instance_norm.default: _normalised}
