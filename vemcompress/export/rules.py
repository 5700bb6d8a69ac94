"""Rewrite rules for `lowering`: exact replacements of operations that a runtime lacks or runs slowly.

A rule is called with the lowering, the node and the operation's arguments. It returns the replacement, or None to keep
the operation. `PLAIN` holds rules for operations that converters do not support. A format adds the other dicts that it
profits from.
"""

import torch
import torch.nn.functional as F
from torch import fx

from vemcompress.export.lowering import Rule, shape
from vemcompress.export.rewrites.head import MOST_CHANNELS, shifted

aten = torch.ops.aten


def _multiplied_and_added(lowering, node, x, a, b, value=1):
    return x + (a * b if value == 1 else value * (a * b))


def _transposed(lowering, node, x):
    return x.transpose(-2, -1)


def _converted(lowering, node, x, *arguments, **more):
    """Remove conversions to the same type, which the exact float32 statistics leave behind."""
    before, after = node.args[0].meta["val"], node.meta["val"]
    return x if (before.dtype, before.device) == (after.dtype, after.device) else None


def _summed(lowering, node, x, dim=None, keepdim=False, dtype=None):
    """A sum as a mean times a factor: XNNPACK and Core ML support means."""
    if dtype is not None or not dim:
        return None
    count = 1
    for axis in dim:
        count *= shape(node)[axis]
    return x.mean(dim, keepdim) * float(count)


def _with_floats(lowering, node, x, y, **more):
    """Make integer constants float: otherwise they become integer tensors that are converted in every run."""
    floats = node.args[0].meta["val"].is_floating_point() if isinstance(node.args[0], fx.Node) else False
    return node.target(x, float(y), **more) if floats and type(y) is int else None


def _joined(lowering, node, parts, axis=0):
    return parts[0] if len(parts) == 1 else None


def _filled(lowering, node, x, size, value, **more):
    return lowering.constant("filled", torch.full(size, value, dtype=node.meta["val"].dtype))


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
    aten.cat.default: _joined,
    aten.new_full.default: _filled,
    **dict.fromkeys((aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor), _with_floats),
    aten._assert_tensor_metadata.default: _ignored,
}


def _upsampled(
    lowering, node, x, weight, bias=None, stride=(1, 1), padding=(0, 0), more=(0, 0), groups=1, dilation=(1, 1)
):
    """A transposed convolution of stride 2 as one convolution to four phases and a pixel shuffle. LiteRT's converter
    refuses odd kernel sizes, for which the left and the right padding differ."""
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


def _narrowed(lowering, node, x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """A convolution to few channels as a strided one to four times as many; see `rewrites.head`."""
    kernel, shift = lowering.value(1), lowering.value(2)
    if kernel is None or groups != 1 or tuple(stride) != (1, 1) or tuple(dilation) != (1, 1):
        return None
    if kernel.shape[0] > MOST_CHANNELS or any(side % 2 == 0 for side in kernel.shape[2:]) or max(kernel.shape[2:]) < 3:
        return None
    if any(side % 2 for side in node.meta["val"].shape[2:]):
        return None
    weight = lowering.constant("weight", torch.from_numpy(shifted(kernel.detach().numpy())))
    bias = None if shift is None else lowering.constant("bias", shift.repeat_interleave(4))
    return F.pixel_shuffle(F.conv2d(x, weight, bias, 2, padding), 2)


HEAD: dict[object, Rule] = {aten.conv2d.default: _narrowed}


def _enlarged(lowering, node, x, size=None, scales=None):
    """Nearest-neighbour upsampling by an integer factor as a broadcast sum with zeros: XNNPACK has only bilinear
    upsampling, and cannot concatenate a map with itself."""
    batch, channels, height, width = shape(node)
    rows, columns = (after // before for after, before in zip(node.meta["val"].shape[2:], (height, width), strict=True))
    if (rows * height, columns * width) != tuple(node.meta["val"].shape[2:]):
        return None
    zeros = lowering.constant("zeros", torch.zeros(1, rows, 1, columns))
    return (x.reshape(-1, 1, width, 1) + zeros).reshape(batch, channels, rows * height, columns * width)


ENLARGING: dict[object, Rule] = {aten.upsample_nearest2d.vec: _enlarged}


def _reflected(lowering, node, x, pads, mode="constant", value=None):
    """Reflection padding as copied rows and columns: XNNPACK has no reflection padding."""
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
    """An instance norm as means and products: XNNPACK has no instance norm."""
    centred = x - x.mean((2, 3), keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean((2, 3), keepdim=True) + eps)
    y = y if weight is None else y * weight.reshape(1, -1, 1, 1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


NORMS: dict[object, Rule] = {aten.instance_norm.default: _normalised}


def _averaged(lowering, node, x, dim=None, keepdim=False, dtype=None):
    """Spatial means with kept dimensions, and channel means as products: XNNPACK supports no other means."""
    if dtype is None and len(shape(node)) == 4 and sorted(dim or ()) == [2, 3] and not keepdim:
        return x.mean((2, 3), keepdim=True).flatten(1)
    return _weighed(lowering, node, x, dim, keepdim, dtype, 1 / shape(node)[-1])


def _weighed(lowering, node, x, dim=None, keepdim=False, dtype=None, weight=1.0):
    """The weighted sum over the channels of B x C as a product; other sums as in `PLAIN`."""
    if dtype is None and len(shape(node)) == 2 and list(dim or ()) in ([1], [-1]):
        y = F.linear(x, lowering.constant("weights", torch.full((1, shape(node)[1]), weight)))
        return y if keepdim else y.flatten()
    return _summed(lowering, node, x, dim, keepdim, dtype) if node.target is aten.sum.dim_IntList else None


def _multiplied(lowering, node, a, b):
    """Batched matrix products without the copies that PyTorch's decomposition makes."""
    left, right = shape(node, 0), shape(node, 1)
    return torch.bmm(a, b) if len(left) == len(right) == 3 and left[0] == right[0] else None


def _selected(lowering, node, x, axis, index):
    """Select one of several equal parts, which are copies of one part."""
    copies = node.args[0]
    one = copies.args[0] if copies.target is aten.expand.default else None
    if one is None or one.target is not aten.unsqueeze.default or len(one.meta["val"].shape) != len(shape(node)):
        return None
    return lowering.env[one.args[0]] if one.args[1] == axis else None


MEANS: dict[object, Rule] = {
    aten.mean.dim: _averaged,
    aten.sum.dim_IntList: _weighed,
    aten.matmul.default: _multiplied,
    aten.select.int: _selected,
}
