"""Rewrite: a transposed convolution of stride 2 becomes four convolutions, one per phase of the output's rows and
columns.

Output row 2i + a uses the kernel taps k for which a + p - k is even, at input row i + (a + p - k) / 2. Each phase is
thus an ordinary convolution with a part of the kernel, and the number of multiplications stays the same. ONNX Runtime
has a fast (blocked) kernel for ordinary convolutions, but none for transposed ones, which it computes as a matrix
product and a scattered sum.
"""

import numpy as np
import onnx_ir as ir

from vemcompress.export.contracts import Contract
from vemcompress.export.rewrites.nodes import Builder, bias, ints, is_plain, weights

LEAST_CHANNELS = 8  # fewer output channels do not fill the SIMD lanes of a blocked convolution


def upsampling_by_phases(graph: ir.Graph, contract: Contract) -> int:
    """Rewrite every transposed convolution that has enough channels and doubles the sides of its input."""
    count = 0
    for node in list(graph):
        if node.op_type == "ConvTranspose" and is_plain(node) and _doubles(node):
            _rewrite(graph, node)
            count += 1
    return count


def _doubles(node: ir.Node) -> bool:
    kernel, pads = weights(node).shape[2:], ints(node, "pads", (0, 0, 0, 0))
    more = ints(node, "output_padding", (0, 0))
    return (
        ints(node, "strides", (1, 1)) == (2, 2)
        and weights(node).shape[1] >= LEAST_CHANNELS
        and pads[:2] == pads[2:]
        and all(k - 2 * p + m == 2 and 2 <= k <= 6 for k, p, m in zip(kernel, pads, more, strict=False))
    )


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    kernel = weights(node).transpose(1, 0, 2, 3)  # like a convolution's weights: outputs first
    rows, columns = (_phases(k, p) for k, p in zip(kernel.shape[2:], ints(node, "pads", (0, 0)), strict=False))
    new = Builder(graph, node)
    shift = new.constant("bias", bias(node)) if bias(node).any() else None

    def phase(a: int, b: int) -> ir.Value:
        (down, top, bottom), (across, left, right) = rows[a], columns[b]
        part = np.ascontiguousarray(kernel[:, :, down][:, :, :, across])
        inputs = [node.inputs[0], new.constant(f"weight{a}{b}", part), *([] if shift is None else [shift])]
        shape = {"kernel_shape": list(part.shape[2:]), "strides": [1, 1], "dilations": [1, 1], "group": 1}
        return new.add("Conv", inputs, pads=[top, left, bottom, right], **shape)

    parts = [[phase(a, b) for b in range(2)] for a in range(2)]
    # Concatenated along W, the two rows of a pair have the same order in memory as in the output.
    halves = [new.add("Concat", [parts[0][b], parts[1][b]], axis=3) for b in range(2)]
    last = new.constant("last", np.array([4], np.int64))
    woven = new.add("Concat", [new.add("Unsqueeze", [half, last]) for half in halves], axis=4)
    small = new.add("Shape", [parts[0][0]])
    sides = new.add("Mul", [small, new.constant("times", np.array([1, 1, 2, 2], np.int64))])
    small.dtype = sides.dtype = ir.DataType.INT64
    new.add("Reshape", [woven, sides])
    new.replace()


def _phases(size: int, padding: int) -> list[tuple[list[int], int, int]]:
    """For the output positions 2i and 2i + 1: the kernel taps in the order of the input positions that they read, and
    how many positions before and after i they read."""
    found = []
    for phase in range(2):
        taps = [k for k in reversed(range(size)) if (phase + padding - k) % 2 == 0]
        offsets = [(phase + padding - k) // 2 for k in taps]
        found.append((taps, -offsets[0], offsets[-1]))
    return found
