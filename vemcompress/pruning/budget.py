"""Selects the channels that stay under a budget of MACs, or of another cost that depends on widths, by bisection
over one threshold.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.networks.groups import cut
from vemcompress.networks.slots import Group
from vemcompress.pruning.base import Pruner
from vemcompress.weights.traced import cut_and_compared

Cost = Callable[[Mapping[str, int]], float]  # of the widths of all groups


def macs_text(macs: float) -> str:
    return f"{macs / 1e9:.4g} G MACs" if macs >= 1e8 else f"{macs / 1e6:.4g} M MACs"


def prune_network(
    network: Generator,
    pruner: Pruner,
    target: int,
    height: int,
    width: int,
    convention: str = "true",
    *,
    fresh: bool = False,
    multiple: int = 1,
) -> tuple[Generator, dict[str, Tensor]]:
    """Prune a generator to at most `target` MACs on an image of this size. Returns it and the channels that stay, by
    group.

    `convention` is "true", "paper" or "paper_norm". `fresh`: count the MACs of a new network of these widths, including
    layers whose widths depend on others (`Config.shaped`). Raises UsageError (2) for a target that is not below the
    network's own MACs, or that the groups' smallest widths exceed.
    """
    kept = choose(
        network.groups(),
        pruner.scores(network),
        _counted(network, height, width, convention, fresh),
        target,
        by=pruner.settings.by,
        least=pruner.settings.least,
        multiple=multiple,
    )
    return cut_to(network, kept), kept


def cut_to(network: Generator, kept: Mapping[str, Tensor]) -> Generator:
    """A generator with only the kept channels. For a user's own class the result is compared with the masked
    network.
    """
    return (cut if network.config is not None else cut_and_compared)(network, kept)


def narrow(network: Generator, pruner: Pruner, ratio: float, multiple: int = 1) -> tuple[Generator, dict[str, Tensor]]:
    """Prune as CAGC does: remove int(size * ratio) channels with the lowest scores from each group. Returns the
    generator and the channels that stay, by group.

    Groups without scores are not pruned. A group keeps at least the method's `least` channels.
    """
    scores, kept = pruner.scores(network), {}
    for group in network.groups():
        count = group.size
        if group.name in scores:
            count = max(count - int(count * ratio), floor(group, pruner.settings.least))
            ranked = scores[group.name].detach().cpu().sort(descending=True, stable=True).indices
            kept[group.name] = ranked[: rounded(group, count, multiple)].sort().values
        else:
            kept[group.name] = torch.arange(count)
    return cut_to(network, kept), kept


def choose(
    groups: Sequence[Group],
    scores: Mapping[str, Tensor],
    cost: Cost,
    target: float,
    *,
    by: str = "threshold",
    least: int = 1,
    multiple: int = 1,
    shown: Callable[[float], str] = macs_text,
) -> dict[str, Tensor]:
    """The channels that stay, by group in ascending order: as many as fit the `target`.

    `cost` computes the limited cost, such as MACs, from widths, and `shown` formats it. Channels are removed in the
    order of their scores. For equal scores, an earlier group's go first, and within a group the last. The bisection is
    over the number of removed channels, so it always ends. A pruned group keeps a multiple of `multiple` channels,
    rounded down, but at least that many if it has them. Raises UsageError (2) for a target that the unpruned network
    meets, or that no pruned network meets.
    """
    floors = {g.name: floor(g, least) for g in groups}
    whole = {g.name: g.size for g in groups}
    order = [channel for _, *channel in sorted(_removable(groups, scores, floors, by))]

    def widths(removed: int) -> dict[str, int]:
        left = dict(whole)
        for place, _ in order[:removed]:
            left[groups[place].name] -= 1
        return {g.name: rounded(g, left[g.name], multiple) if g.name in scores else g.size for g in groups}

    check(groups, scores, cost, target, least, multiple, shown)
    low, high = 0, len(order)  # too many, few enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(widths(middle)) <= target else (middle, high)
    counts, kept = widths(high), {}
    for group in groups:
        kept[group.name] = torch.arange(group.size)
        if counts[group.name] < group.size:
            ranked = scores[group.name].detach().cpu().sort(descending=True, stable=True).indices
            kept[group.name] = ranked[: counts[group.name]].sort().values
    return kept


def narrowest(groups: Sequence[Group], scores: Mapping[str, Tensor], least: int, multiple: int = 1) -> dict[str, int]:
    """The smallest widths that `choose` can return."""
    return {g.name: rounded(g, floor(g, least), multiple) if g.name in scores else g.size for g in groups}


def rounded(group: Group, width: int, multiple: int) -> int:
    """A group's width rounded down to a multiple of `multiple` channels, or up to one if none would be left."""
    if multiple == 1 or width == group.size:
        return width
    return max(width // multiple * multiple, min(multiple, group.size)) if width else 0


def check_budget(
    network: Generator,
    pruner: Pruner,
    target: int,
    height: int,
    width: int,
    convention: str,
    *,
    fresh: bool = False,
    multiple: int = 1,
) -> None:
    """Raises UsageError as `prune_network` would. The network may be on the meta device, without weights."""
    macs = _counted(network, height, width, convention, fresh)
    check(network.groups(), pruner.scores(network), macs, target, pruner.settings.least, multiple)


def _counted(
    network: Generator, height: int, width: int, convention: str, fresh: bool
) -> Callable[[Mapping[str, int]], int]:
    config = network.config
    if fresh and config is not None and not config.polynomial:
        return lambda widths: config.shaped(widths).cost(height, width).macs()[convention]
    costs = network.costs(height, width)
    return lambda widths: costs(widths).macs()[convention]


def floor(group: Group, least: int) -> int:
    """The smallest width of a group for a method that keeps `least` channels outside residual blocks."""
    return group.least if group.bypassed else max(group.least, min(least, group.size))


def _removable(groups: Sequence[Group], scores: Mapping[str, Tensor], floors: Mapping[str, int], by: str):
    """For every channel that may be removed: its score, its group's position, and its own index, negated."""
    for place, group in enumerate(groups):
        if group.name not in scores:
            continue
        found = scores[group.name].detach().cpu()
        ranked = found.sort(descending=True, stable=True).indices.tolist()
        for rank in range(floors[group.name], group.size):
            channel = ranked[rank]
            worth = found[channel].item() if by == "threshold" else 1 - (rank + 1) / group.size
            yield worth, place, -channel


def check(
    groups: Sequence[Group],
    scores: Mapping[str, Tensor],
    cost: Cost,
    target: float,
    least: int,
    multiple: int = 1,
    shown: Callable[[float], str] = macs_text,
) -> None:
    """Raises UsageError as `choose` would."""
    whole, smallest = cost({g.name: g.size for g in groups}), cost(narrowest(groups, scores, least, multiple))
    if target >= whole:
        raise UsageError(
            f"a target of {shown(target)}: the network has {shown(whole)} and meets it already; give a lower target."
        )
    if target < smallest:
        lower = f", a lower --least ({least})" if least > 1 else ""
        lower += f", a lower --multiple ({multiple})" if multiple > 1 else ""
        raise UsageError(
            f"a target of {shown(target)}: this method needs at least {shown(smallest)}; give a higher target"
            f"{lower} or another method, or distil a smaller student."
        )
