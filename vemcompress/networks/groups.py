"""Operations on channel groups: cut a generator to some channels, run it at a smaller width, or mask channels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vemcompress.networks.base import Config, Generator, Taps
from vemcompress.networks.equalised import Equalised
from vemcompress.networks.slots import Group, Kept, Slot


def narrowed(tensors: Mapping[str, Tensor], groups: Sequence[Group], kept: Kept) -> dict[str, Tensor]:
    """The tensors of the network with only the kept channels; differentiable. Groups not in `kept` are not changed."""
    out = dict(tensors)
    for (name, axis), parts in _places(groups, kept).items():
        if name not in out:
            continue
        tensor, pieces, done = out[name], [], 0
        for slot, group in parts:  # entries between the groups are kept
            pieces.append(tensor.narrow(axis, done, slot.start - done))
            pieces.append(_chosen(tensor, slot, group.size, kept.get(group.name)))
            done = slot.start + group.size * slot.each
        pieces.append(tensor.narrow(axis, done, tensor.shape[axis] - done))
        pieces = [piece for piece in pieces if piece.shape[axis]] or pieces[:1]
        out[name] = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
    return out


def cut(network: Generator, kept: Kept) -> Generator:
    """A new generator with only the kept channels, their weights and a Config of its widths. Raises ValueError for an
    unknown group, and for one of which nothing is kept.

    Parts that only training needs are removed first: a spectral norm counts all channels, so the remaining ones keep
    their weights only if it is folded in.
    """
    network = network.deployed()
    groups = network.groups()
    _check(groups, kept)
    small = network.narrower(groups, {name: _count(k) for name, k in kept.items()})
    tensors, left = narrowed(network.state_dict(), groups, kept), small.state_dict()
    tensors = {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items() if n in left}
    small.load_state_dict(tensors, strict=True, assign=True)
    return small.train(network.training)


def at(
    network: Generator, widths: Mapping[str, int] | Config, x: Tensor, names: tuple[str, ...] = ()
) -> tuple[Tensor, Taps]:
    """Image and taps of the network that uses only the first channels of each group, without cutting it.

    `widths` is by group, where missing groups run at full width, or a Config of this family. The weights are views of
    the network's own, so gradients reach these. In training mode the running statistics of BatchNorm are updated in the
    first channels, where those of several widths mix: `norms.recalibrate` gives a sub-network its own.
    """
    widths = widths.widths_by_group() if isinstance(widths, Config) else widths
    groups = network.groups()
    _check(groups, widths)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    changed = narrowed(tensors, groups, widths)
    changed = {name: t for name, t in changed.items() if t is not tensors[name]}
    with _resized(network, sizes(network, groups, widths)):
        return called(network, changed, x, names)


def masked(
    network: Generator, masks: Mapping[str, Tensor], x: Tensor, names: tuple[str, ...] = ()
) -> tuple[Tensor, Taps]:
    """Image and taps with each group's channels multiplied by its mask, of `size` numbers, wherever they are read.

    A mask of zeros and ones gives the image of `cut`, whatever the norms add to a channel. Differentiable in the masks.
    The taps are those of all channels, without masks.
    """
    groups = network.groups()
    _check(groups, dict.fromkeys(masks, 1))
    tensors, changed = dict(network.named_parameters()) | dict(network.named_buffers()), {}
    for group in groups:
        for slot in group.slots:
            if slot.role != "read" or group.name not in masks or slot.tensor not in tensors:
                continue
            weight = changed.get(slot.tensor, tensors[slot.tensor])
            mask = masks[group.name].to(weight).repeat_interleave(slot.each)
            rest = weight.shape[slot.axis] - slot.start - len(mask)
            mask = torch.cat((mask.new_ones(slot.start), mask, mask.new_ones(rest)))
            changed[slot.tensor] = weight * mask.view([-1 if i == slot.axis else 1 for i in range(weight.dim())])
    return called(network, changed, x, names)


def makers(network: nn.Module, group: Group) -> list[tuple[Slot, Slot | None]]:
    """The layers that produce a group's channels, each with the norm after it, as slots of their weights. A norm
    without scales has a slot too.
    """
    found: list[tuple[Slot, Slot | None]] = []
    for slot in group.slots:
        if not slot.tensor.endswith(".weight"):
            continue
        if slot.role == "write":
            found.append((slot, None))
        elif slot.role == "through" and found and found[-1][1] is None and _is_norm(network, slot):
            found[-1] = found[-1][0], slot
    return found


def _is_norm(network: nn.Module, slot: Slot) -> bool:
    return isinstance(network.get_submodule(slot.module), nn.BatchNorm2d | nn.InstanceNorm2d)


def sizes(network: nn.Module, groups: Sequence[Group], widths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """PyTorch's names for the layers' channel counts (`out_channels`, `num_features`, ...), by module, at these
    widths.
    """
    modules, found = dict(network.named_modules()), {}
    for (name, axis), parts in _places(groups, widths).items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight":  # the slot exists for norms without parameters too
            fewer = sum((group.size - widths.get(group.name, group.size)) * slot.each for slot, group in parts)
            layer = modules[module]
            of_module = found.setdefault(module, {})
            of_module |= {attribute: getattr(layer, attribute) - fewer for attribute in _attributes(layer, axis)}
    return found


def set_sizes(network: nn.Module, wanted: Mapping[str, Mapping[str, int]]) -> None:
    """Set the attributes from `sizes` on the layers; their weights are not changed."""
    for name, attributes in wanted.items():
        layer = network.get_submodule(name)
        for attribute, value in attributes.items():
            setattr(layer, attribute, value)


def _places(groups: Sequence[Group], kept: Kept) -> dict[tuple[str, int], list[tuple[Slot, Group]]]:
    """The slots on every tensor and axis that `kept` changes, in order."""
    found: dict[tuple[str, int], list[tuple[Slot, Group]]] = {}
    changed = set()
    for group in groups:
        width = kept.get(group.name)
        whole = width is None or (not isinstance(width, Tensor) and width == group.size)
        for slot in group.slots:
            found.setdefault((slot.tensor, slot.axis), []).append((slot, group))
            if not whole:
                changed.add((slot.tensor, slot.axis))
    return {place: sorted(found[place], key=lambda part: part[0].start) for place in found if place in changed}


def _chosen(tensor: Tensor, slot: Slot, size: int, kept: Tensor | int | None) -> Tensor:
    if kept is None or not isinstance(kept, Tensor):
        return tensor.narrow(slot.axis, slot.start, (size if kept is None else kept) * slot.each)
    index = kept.to(tensor.device)
    if slot.each > 1:
        index = (index[:, None] * slot.each + torch.arange(slot.each, device=index.device)).flatten()
    return tensor.index_select(slot.axis, slot.start + index)


def _count(kept: Tensor | int) -> int:
    return len(kept) if isinstance(kept, Tensor) else kept


def _check(groups: Sequence[Group], kept: Kept) -> None:
    known = {group.name: group for group in groups}
    for name, channels in kept.items():
        if name not in known:
            raise ValueError(f"no channel group {name!r}; known: {', '.join(known)}")
        least, most = min(1, known[name].least), known[name].size
        if not least <= _count(channels) <= most:
            raise ValueError(f"channel group {name!r}: keep {least} to {most} channels, not {_count(channels)}")


def _attributes(layer: nn.Module, axis: int) -> tuple[str, ...]:
    if isinstance(layer, Equalised):
        return ()
    if isinstance(layer, nn.Linear):
        return ("in_features",) if axis else ("out_features",)
    if isinstance(layer, nn.PReLU):
        return ("num_parameters",)
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return ("num_features",)
    if layer.groups > 1:  # depthwise
        return "in_channels", "out_channels", "groups"
    return ("in_channels",) if (axis == 1) != isinstance(layer, nn.ConvTranspose2d) else ("out_channels",)


@contextmanager
def _resized(network: nn.Module, wanted: dict[str, dict[str, int]]) -> Iterator[None]:
    """Context in which the network's layers have these channel counts."""
    before = {
        name: {attribute: getattr(network.get_submodule(name), attribute) for attribute in attributes}
        for name, attributes in wanted.items()
    }
    try:
        set_sizes(network, wanted)
        yield
    finally:
        set_sizes(network, before)


class _WithTaps(nn.Module):
    def __init__(self, network: Generator):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, names: tuple[str, ...]):
        return self.network.forward_with_taps(x, names)


def called(
    network: Generator, tensors: Mapping[str, Tensor], x: Tensor, names: tuple[str, ...] = ()
) -> tuple[Tensor, Taps]:
    """Image and taps of the network with these tensors instead of its own; differentiable in them."""
    return functional_call(_WithTaps(network), {f"network.{name}": t for name, t in tensors.items()}, (x, names))
