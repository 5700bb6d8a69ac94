"""Exact rewrites of an exported ONNX graph: the same result up to rounding, in less time. One module per rewrite.

`EXACT` maps the name of a rewrite to its function. The function changes a graph in place and returns the number of
places that it changed. To add one, write a module and add an entry here. A rewrite may change only how a result is
computed. A change of the result itself must be a setting of the network or of the export.
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
    """The rewritten model, and the number of places that each of the named rewrites changed. `model` is not changed."""
    found = ir.from_proto(model)
    counts = {name: change(found.graph, contract) for name, change in EXACT.items() if name in names}
    if not any(counts.values()):
        return model, {}
    RemoveUnusedNodesPass()(found)
    found.graph.sort()
    return ir.to_proto(found), {name: count for name, count in counts.items() if count}
