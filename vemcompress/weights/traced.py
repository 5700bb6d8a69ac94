"""Channel groups and MACs of networks without a Config, found by tracing and by running them.

Groups come from Torch-Pruning's dependency graph (Fang et al., CVPR 2023); only the graph is used, cutting and saving
are our own. MACs are counted while the network runs.
"""

import copy
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, UsageError, first_line, summary
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.networks.groups import cut, masked
from vemcompress.networks.joint_norms import JointNorm
from vemcompress.networks.slots import Group, Slot, passes, reads, writes

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, JointNorm)


def traced_groups(network: nn.Module, name: str, channels: int, prefix: str = "", side: int = 64) -> tuple[Group, ...]:
    """The groups of `network`, whose input images have `channels` channels and this side; `name` is for errors.

    Groups are named after a layer that produces the channels. Channels mixed by layers that are not known here, such as
    group norm or attention, are omitted. `prefix` is put before the tensors' names. Raises UsageError without
    Torch-Pruning, InputError if the class cannot be traced.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise UsageError(
            f"{name}: the channels of your own class are found by Torch-Pruning: pip install 'vemcompress[prune]'"
        ) from error
    # A copy, because tracing needs gradients of all weights.
    traced = copy.deepcopy(network).requires_grad_(True)
    modules = {module: path for path, module in traced.named_modules()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = torch_pruning.DependencyGraph()
            graph.build_dependency(traced, torch.zeros(1, channels, side, side), verbose=False)
            found = [_group(graph, items, modules, prefix) for items in graph.get_all_groups()]
    except Exception as error:  # Torch-Pruning raises any exception that its traversal meets
        raise InputError(
            f"{name}: Torch-Pruning cannot trace this class ({summary(error)}): its forward must be made "
            "of layers with gradients; distil it instead"
        ) from error
    return tuple(group for group in found if group is not None and group.size > 1)


def cut_and_compared(network: Generator, kept: Mapping[str, Tensor]) -> Generator:
    """The cut network of a class with traced groups, after checking on noise that its image equals the masked
    network's. Raises InputError if it does not, or if the cut network does not run.
    """
    reason = "the image differs"
    try:
        small = cut(network, kept)
        side = network.multiple * -(-max(network.min_size, 64) // network.multiple)
        x = torch.rand(1, network.in_channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        sizes = {group.name: group.size for group in network.groups()}
        masks = {name: torch.zeros(sizes[name]).index_fill(0, channels, 1.0) for name, channels in kept.items()}
        with torch.no_grad():
            expected = masked(network, masks, x)[0]
            found = small(x)
            if found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
                return small
    except Exception as error:  # the user's own code may raise anything
        reason = summary(error)
    raise InputError(
        f"{network.name}: does not work with fewer channels ({reason}): its forward depends on their number in a way "
        "that tracing cannot detect; distil it into a known student instead."
    )


def _group(graph, items, modules: dict[nn.Module, str], prefix: str) -> Group | None:
    """Torch-Pruning's group as ours, or None if its channels cannot be removed."""
    root = items[0].dep.target.module
    size, slots, scale = len(items[0].idxs), [], None
    for item in items:
        layer = item.dep.target.module
        if type(layer).__name__ == "_OutputOp":
            return None
        if layer not in modules:  # concatenation, sum, activation, ...: the layers show where the channels are
            if isinstance(layer, nn.Parameter):
                return None
            continue
        makes = graph.is_out_channel_pruning_fn(item.dep.handler)
        places = _places(item.idxs, item.root_idxs, size)
        for start, each in places or ():
            found = _slots(layer, f"{prefix}{modules[layer]}", makes, start, each)
            if found is None:
                return None
            slots += found
        if not places:
            return None
        if scale is None and hasattr(layer, "num_features") and layer.weight is not None:
            scale = f"{prefix}{modules[layer]}.weight"
    return Group(modules[root], size, tuple(dict.fromkeys(slots)), scale)


def _slots(layer: nn.Module, path: str, makes: bool, start: int, each: int) -> tuple[Slot, ...] | None:
    """The positions of channels in a layer; None if it mixes them."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.groups > 1:
        depthwise = layer.groups == layer.in_channels == layer.out_channels
        return passes(path, start=start, each=each) if depthwise else None
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        ends = writes if makes else reads
        return ends(path, transposed=isinstance(layer, nn.ConvTranspose2d), start=start, each=each)
    if isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
        return passes(path, start=start, each=each)
    if isinstance(layer, nn.PReLU):
        return passes(path, start=start, each=each) if layer.num_parameters > 1 else ()
    return () if not list(layer.parameters()) else None


def _places(indices: list[int], roots: list[int], size: int) -> list[tuple[int, int]] | None:
    """(start, each) of the channels' positions, once or more often; None if they are in another order."""
    of: dict[int, list[int]] = {}
    for index, root in zip(indices, roots, strict=True):
        of.setdefault(root, []).append(index)
    rows = [sorted(of.get(channel, ())) for channel in range(size)]
    times = len(rows[0])
    if not times or any(len(row) != times for row in rows):
        return None
    first = rows[0]
    if all(row == [i + channel for i in first] for channel, row in enumerate(rows)):
        return [(start, 1) for start in first]
    start = first[0]
    if all(row == [start + channel * times + i for i in range(times)] for channel, row in enumerate(rows)):
        return [(start, times)]
    return None


def macs_by_hooks(module: nn.Module, in_channels: int, height: int, width: int, device: str = "cpu") -> Cost:
    """Parameters and MACs (as in `networks.cost`) of any network for one image, counted while it runs, as `macs_of`."""
    return macs_of(module, torch.zeros(1, in_channels, height, width, device=device))


def macs_of(module: nn.Module, x: Tensor) -> Cost:
    """Parameters and MACs of any network for one input, counted while it runs: convolutions, linear layers and
    norms. Raises InputError if the network does not run.
    """
    seen: list[Cost] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(_layer_cost(layer, inputs[0], output))

    counted = [m for m in module.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear, *_NORMS))]
    handles = [m.register_forward_hook(count) for m in counted]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(x)
    except Exception as error:
        size = " x ".join(map(str, x.shape[2:] or x.shape))
        raise InputError(f"does not run at {size} ({first_line(error)}): choose another size") from error
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return sum(seen, Cost(parameters=count_parameters(module)))


def _layer_cost(layer: nn.Module, x: Tensor, output: Tensor) -> Cost:
    if isinstance(layer, _NORMS):
        return Cost(norm=output.numel())
    if isinstance(layer, nn.Linear):
        return Cost(output.numel() * layer.in_features, output.numel() * layer.in_features)
    per_pixel = layer.weight.numel()  # for one position: all inputs of a group, all outputs, the kernel
    on_output = per_pixel * output[0, 0].numel()
    on_input = per_pixel * x[0, 0].numel()
    return Cost(on_input if isinstance(layer, nn.ConvTranspose2d) else on_output, on_output)
