"""Replaces operations of a PyTorch program by forms that a runtime supports, exact up to rounding.

PyTorch's exporter gives a graph of a few dozen operations for inputs of one size. `lowered` traces this graph again. It
computes every part that does not depend on the input, and replaces operations by the rules of `rules`.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx, nn

from vemcompress.export.quiet import quiet

SMALL = 4096  # a constant of up to so many numbers is always computed in advance

Rule = Callable  # (lowering, node, *arguments) -> the replacement of the operation, or None to keep it


def lowered(network: nn.Module, sample: Tensor, rules: Mapping[object, Rule]) -> torch.export.ExportedProgram:
    """`network`, a deployment copy, as a program for inputs of the size of `sample`. Errors of PyTorch's exporter are
    passed on."""
    with torch.no_grad(), quiet():
        whole = torch.export.export(network, (sample,)).module(check_guards=False)
        found = Lowering(whole, rules).transform()
        found.graph.eliminate_dead_code()
        return torch.export.export(fx.GraphModule(found, found.graph), (sample,))  # drops unused tensors


class Lowering(fx.Transformer):
    """Copies a graph and applies the rules. `known`: the values of nodes that do not depend on an input."""

    def __init__(self, module: fx.GraphModule, rules: Mapping[object, Rule]):
        super().__init__(module)
        self.rules = rules
        self.garbage_collect_values = False  # rules read earlier values
        self.known: dict[fx.Node, Tensor] = {}

    def run_node(self, node: fx.Node):
        self.node = node
        if node.op == "get_attr":
            self.known[node] = self.fetch_attr(node.target)
        return super().run_node(node)

    def call_function(self, target, arguments, more):
        if (value := self._computed(target)) is not None:
            self.known[self.node] = value
            return self.constant("value", value)
        rule = self.rules.get(target)
        found = None if rule is None else rule(self, self.node, *arguments, **more)
        return super().call_function(target, arguments, more) if found is None else found

    def _computed(self, target) -> Tensor | None:
        """The node's value if it is a constant and not much larger than the constants that it is computed from."""
        node = self.node
        if any(source not in self.known for source in node.all_input_nodes):
            return None
        schemas = [getattr(each.target, "_schema", None) for each in (node, *node.users) if each.op == "call_function"]
        random = torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())
        if random or any(schema is None or schema.is_mutable for schema in schemas):
            return None
        value = target(*fx.map_arg(node.args, self.known.get), **fx.map_arg(node.kwargs, self.known.get))
        given = sum(self.known[source].numel() for source in node.all_input_nodes)
        return value if isinstance(value, Tensor) and value.numel() <= max(2 * given, SMALL) else None

    def constant(self, name: str, value: Tensor) -> fx.Proxy:
        """Store a tensor, such as reordered weights, as a buffer of the new module."""
        name = f"{self.node.name}_{name}"
        self.module.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        return fx.Proxy(self.new_graph.get_attr(name), self.tracer)

    def value(self, argument: int) -> Tensor | None:
        """The value of an argument of the node; None if it depends on an input."""
        node = self.node.args[argument] if len(self.node.args) > argument else None
        return self.known.get(node) if isinstance(node, fx.Node) else None


def shape(node: fx.Node, argument: int = 0) -> torch.Size:
    """The shape of one of the node's inputs."""
    return node.args[argument].meta["val"].shape
