"""Helpers of the rewrites: read a node's attributes and weights, and replace a node by new nodes."""

import numpy as np
import onnx_ir as ir


def ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    found = node.attributes.get(name)
    return default if found is None else tuple(found.as_ints())


def weights(node: ir.Node) -> np.ndarray | None:
    """A convolution's weights; None if the graph computes them."""
    value = node.inputs[1].const_value
    return None if value is None else value.numpy()


def bias(node: ir.Node) -> np.ndarray | None:
    """A convolution's bias; zeros if it has none, None if the graph computes it."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        outputs = weights(node).shape[1 if node.op_type == "ConvTranspose" else 0]
        return np.zeros(outputs, np.float32)
    value = node.inputs[2].const_value
    return None if value is None else value.numpy()


def is_plain(node: ir.Node) -> bool:
    """Whether the node is a 2-D convolution with one group, no dilation, explicit padding and constant weights."""
    auto, group = node.attributes.get("auto_pad"), node.attributes.get("group")
    found = weights(node)
    return (
        (auto is None or auto.as_string() == "NOTSET")
        and (group is None or group.as_int() == 1)
        and found is not None
        and found.ndim == 4
        and bias(node) is not None
        and ints(node, "dilations", (1, 1)) == (1, 1)
        and "output_shape" not in node.attributes
    )


class Builder:
    """Builds new nodes that together replace the node `old`."""

    def __init__(self, graph: ir.Graph, old: ir.Node):
        self.graph, self.old, self.nodes = graph, old, []
        self.prefix = f"{old.outputs[0].name}_by"

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """A new initializer of the graph, named after the old node."""
        name = f"{self.prefix}_{name}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
        self.graph.register_initializer(value)
        return value

    def add(self, kind: str, inputs: list[ir.Value], **attributes) -> ir.Value:
        """Add a node of this kind, and return its output."""
        name = f"{self.prefix}_{kind.lower()}{len(self.nodes)}"
        node = ir.node(kind, inputs, attributes or None, name=f"node_{name}")
        node.outputs[0].name, node.outputs[0].dtype = name, self.old.outputs[0].dtype
        self.nodes.append(node)
        return node.outputs[0]

    def replace(self) -> None:
        """Replace the old node by the new ones; the last new node gives the result."""
        last, first = self.nodes[-1].outputs[0], self.old.outputs[0]
        last.shape, last.type = first.shape, first.type
        ir.convenience.replace_nodes_and_values(self.graph, self.old, [self.old], self.nodes, [first], [last])
