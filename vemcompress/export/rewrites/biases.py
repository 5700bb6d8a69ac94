"""Rewrite: remove biases before instance norms, which subtract them again with the mean."""

import onnx_ir as ir

from vemcompress.export.contracts import Contract
from vemcompress.export.rewrites.nodes import bias, weights


def drop_cancelled_biases(graph: ir.Graph, contract: Contract) -> int:
    """Drop the bias of each convolution whose output is read only by InstanceNormalization nodes."""
    count = 0
    for node in graph:
        if node.op_type not in ("Conv", "ConvTranspose") or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        output = node.outputs[0]
        readers = [use.node.op_type for use in output.uses()]
        if readers and set(readers) == {"InstanceNormalization"} and not output.is_graph_output():
            if weights(node) is None or bias(node) is None:
                continue
            node.resize_inputs(2)
            count += 1
    return count
