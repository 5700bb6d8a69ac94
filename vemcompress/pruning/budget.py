"""Which channels stay under a budget of MACs: one threshold on all scores, found by bisection."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vemcompress.errors import InputError, UsageError
from vemcompress.networks.base import Generator
from vemcompress.networks.groups import Group, cut, masked
from vemcompress.pruning.base import Pruner


def prune_network(
    network: Generator, pruner: Pruner, target: int, height: int, width: int, convention: str = "true"
) -> Generator:
    """A generator of at most `target` MACs on an image of this size, with the channels of the highest scores.

    `convention` is "true", "paper" or "paper_norm". Raises UsageError (2) for a target that is not below the network's
    own MACs, or below what its groups' floors allow.
    """
    costs = network.costs(height, width)
    kept = choose(
        network.groups(),
        pruner.scores(network),
        lambda widths: costs(widths).macs()[convention],
        target,
        by=pruner.settings.by,
        least=pruner.settings.least,
    )
    return cut(network, kept) if network.config is not None else _cut_and_compared(network, kept)


def choose(
    groups: Sequence[Group],
    scores: Mapping[str, Tensor],
    macs: Callable[[Mapping[str, int]], int],
    target: int,
    *,
    by: str = "threshold",
    least: int = 1,
) -> dict[str, Tensor]:
    """The channels that stay, by group in ascending order: at most `target` MACs, and one more would be too many.

    `macs` gives those of a set of widths. Channels are removed in the order of their scores; of equal ones those of an
    earlier group go first, and within a group the last. The bisection is over how many go, so it always ends.
    """
    floors = {g.name: floor(g, least) for g in groups}
    whole = {g.name: g.size for g in groups}
    order = [channel for _, *channel in sorted(_removable(groups, scores, floors, by))]

    def widths(removed: int) -> dict[str, int]:
        left = dict(whole)
        for place, _ in order[:removed]:
            left[groups[place].name] -= 1
        return left

    _check(target, macs(whole), macs(widths(len(order))))
    low, high = 0, len(order)  # too many MACs, few enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if macs(widths(middle)) <= target else (middle, high)
    gone = {group.name: set() for group in groups}
    for place, channel in order[:high]:
        gone[groups[place].name].add(-channel)
    return {g.name: torch.tensor([c for c in range(g.size) if c not in gone[g.name]]) for g in groups}


def _cut_and_compared(network: Generator, kept: dict[str, Tensor]) -> Generator:
    """The cut network of a class whose groups were traced, after a look at whether they were the right ones."""
    reason = "the image is another one"
    try:
        small = cut(network, kept)
        side = network.multiple * -(-max(network.min_size, 64) // network.multiple)
        x = torch.rand(1, network.in_channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        masks = {g.name: torch.zeros(g.size).index_fill(0, kept[g.name], 1.0) for g in network.groups()}
        with torch.no_grad():
            expected = masked(network, masks, x)[0]
            if torch.allclose(small(x), expected, rtol=1e-3, atol=1e-3):
                return small
    except Exception as error:  # the user's own code may raise anything
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:160]
    raise InputError(
        f"{network.name}: does not work with fewer channels ({reason}): its forward depends on their number in a way "
        "that tracing cannot see; distil it into a known student instead."
    )


def floor(group: Group, least: int) -> int:
    """The smallest width of a group for a method that keeps `least` channels outside residual blocks."""
    return max(group.least, 1 if group.bypassed else min(least, group.size))


def _removable(groups: Sequence[Group], scores: Mapping[str, Tensor], floors: Mapping[str, int], by: str):
    """Of every channel that may go: its worth, its group's place, and its own index as a negative number."""
    for place, group in enumerate(groups):
        if group.name not in scores:
            continue
        found = scores[group.name].detach().cpu()
        ranked = found.sort(descending=True, stable=True).indices.tolist()
        for rank in range(floors[group.name], group.size):
            channel = ranked[rank]
            worth = found[channel].item() if by == "threshold" else 1 - (rank + 1) / group.size
            yield worth, place, -channel


def _check(target: int, whole: int, smallest: int) -> None:
    if target >= whole:
        raise UsageError(
            f"a target of {_giga(target)} MACs: the network has {_giga(whole)} already, so there is nothing to prune."
        )
    if target < smallest:
        raise UsageError(
            f"a target of {_giga(target)} MACs: this method can go down to {_giga(smallest)}; give a higher target or "
            "a lower --least, or distil a smaller student."
        )


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.4g} G" if macs >= 1e8 else f"{macs / 1e6:.4g} M"
