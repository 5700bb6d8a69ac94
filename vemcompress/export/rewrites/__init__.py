"""Exact rewrites of an exported ONNX graph: the same numbers to rounding, in less time. One file a rewrite.

`EXACT` maps a rewrite's name to its function, which changes a graph in place and returns at how many places it did. A
new one is a file beside these and an entry here. What a rewrite may change is only how something is computed; what
changes the numbers is a setting of the network or of the export, never a rewrite.
"""

from collections.abc import Callable, Collection

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from vemcompress.export.contracts import Contract
from vemcompress.export.rewrites.biases import drop_cancelled_biases
from vemcompress.export.rewrites.head import narrow_head
from vemcompress.export.rewrites.upsampling import upsampling_by_phases

EXACT: dict[str, Callable[[ir.Graph, Contract], int]] = {
    "biases": drop_cancelled_biases,
    "upsampling": upsampling_by_phases,
    "head": narrow_head,
}


def rewrite(
    model: onnx.ModelProto, contract: Contract, names: Collection[str] = tuple(EXACT)
) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model after the rewrites of these names, and at how many places each applied. The model itself stays."""
    found = ir.from_proto(model)
    counts = {name: change(found.graph, contract) for name, change in EXACT.items() if name in names}
    if not any(counts.values()):
        return model, {}
    RemoveUnusedNodesPass()(found)
    found.graph.sort()
    return ir.to_proto(found), {name: count for name, count in counts.items() if count}
