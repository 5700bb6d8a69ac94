"""A network's operations in forms that a runtime knows, before it is converted: exact to rounding.

PyTorch's exporter gives a graph of a few dozen operations for inputs of one size. `lowered` runs it once more: what
depends on no input is computed, and in the place of an operation comes what a rule of `rules` gives for it.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx, nn

from vemcompress.export.quiet import quiet

SMALL = 4096  # numbers of a constant that may be computed whatever it comes of

Rule = Callable  # (lowering, node, *arguments) to what takes the operation's place, or None where it stays


def lowered(network: nn.Module, sample: Tensor, rules: Mapping[object, Rule]) -> torch.export.ExportedProgram:
    """`network`, a deployment copy, as a program for inputs of the size of `sample`. Whatever PyTorch's exporter raises
    is raised."""
    with torch.no_grad(), quiet():
        whole = torch.export.export(network, (sample,)).module(check_guards=False)
        found = Lowering(whole, rules).transform()
        found.graph.eliminate_dead_code()
        return torch.export.export(fx.GraphModule(found, found.graph), (sample,))  # without tensors that nothing reads


class Lowering(fx.Transformer):
    """Copies a graph, by the rules. `known` are the tensors of nodes that depend on no input."""

    def __init__(self, module: fx.GraphModule, rules: Mapping[object, Rule]):
        super().__init__(module)
        self.rules = rules
        self.garbage_collect_values = False  # rules look back
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
        """What the node gives, where that is a constant not much larger than those that it comes of."""
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
        """A tensor as a buffer of the new module, such as weights in another order."""
        name = f"{self.node.name}_{name}"
        self.module.register_buffer(name, value.detach().clone(memory_format=torch.contiguous_format))
        return fx.Proxy(self.new_graph.get_attr(name), self.tracer)

    def value(self, argument: int) -> Tensor | None:
        """The tensor that an argument of the node is; None where it depends on an input."""
        node = self.node.args[argument] if len(self.node.args) > argument else None
        return self.known.get(node) if isinstance(node, fx.Node) else None


def shape(node: fx.Node, argument: int = 0) -> torch.Size:
    """Of one of the node's inputs."""
    return node.args[argument].meta["val"].shape
