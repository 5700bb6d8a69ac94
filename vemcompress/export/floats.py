"""The float ONNX graph of a network, traced once and compared with PyTorch after each set of rewrites."""

from collections.abc import Callable, Sequence

import onnx
from torch import nn

from vemcompress.export.contracts import Contract, Shape
from vemcompress.export.graph import check_float, trace
from vemcompress.export.rewrites import rewrite


class FloatGraph:
    """Call it with names of rewrites to get the rewritten graph. The graph is returned only if it agrees with PyTorch
    within `tolerance` (1e-4) on `shapes`; otherwise ExportError (7) is raised.

    `tell` is called with "trace" before the graph is made, and with each shape before it is compared. `difference` is
    the largest difference so far, `rewritten` the number of places that each of the last rewrites changed.
    """

    def __init__(
        self,
        network: nn.Module,
        contract: Contract,
        opset: int,
        shapes: list[Shape],
        tolerance: float | None,
        tell: Callable[[str | Shape], None],
    ):
        self.network, self.contract, self.opset, self.shapes = network, contract, opset, shapes
        self.tolerance, self.tell = 1e-4 if tolerance is None else tolerance, tell
        self.difference, self.rewritten = 0.0, {}
        self._plain: onnx.ModelProto | None = None
        self._made: dict[tuple[str, ...], tuple[onnx.ModelProto, dict[str, int]]] = {}

    def __call__(self, rewrites: Sequence[str]) -> onnx.ModelProto:
        names = tuple(rewrites)
        if self._plain is None:
            self.tell("trace")
            self._plain = trace(self.network, self.contract, self.opset)
        if names not in self._made:
            graph, applied = rewrite(self._plain, self.contract, names)
            found = check_float(self.network, graph, self.contract, self.shapes, self.tolerance, self.tell)
            self.difference = max(self.difference, found)
            self._made[names] = graph, applied
        graph, self.rewritten = self._made[names]
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)
        return copy
