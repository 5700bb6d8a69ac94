"""Pruning to a measured goal on a device: a latency or a file size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vemcompress.export.goals.goal import Goal, met
from vemcompress.export.goals.kinds import Wanted
from vemcompress.export.goals.subjects import OfGroups
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator
from vemcompress.pruning.base import Pruner
from vemcompress.pruning.budget import check, choose, narrowest
from vemcompress.system.events import Event, silent


def prune_to(
    wanted: Wanted,
    network: Generator,
    pruner: Pruner,
    size: int,
    *,
    fresh: bool = False,
    multiple: int = 1,
    on_event: Event = silent,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The channels that stay, by group, and the report of the goal. Images have `size` pixels a side; the other
    arguments are as in `budget.choose`. Raises UsageError (2) for a goal that the network meets already, or that
    nothing meets.
    """
    subject, groups = OfGroups(network, size, fresh=fresh), network.groups()
    goal = wanted.of(subject, on_event)
    check_goal(goal, subject, network, pruner, multiple)  # before a method generates images to score channels
    scores, settings = pruner.scores(network), pruner.settings

    def chosen(most: float) -> dict[str, Tensor]:
        how = {"by": settings.by, "least": settings.least, "multiple": multiple, "shown": goal.shown}
        return choose(groups, scores, goal.cost, most, **how)

    kept, report = met(goal, chosen, _widths)
    return kept, report | {"before": goal.measured(subject.widths)}


def check_goal(goal: Goal, subject: OfGroups, network: Generator, pruner: Pruner, multiple: int = 1) -> None:
    """Measure the network and, unless the goal is clearly reachable, the smallest network that the method can make.
    Raises UsageError as `prune_to`. The network may be on the meta device, without weights.
    """
    if network.config is not None:
        with torch.device("meta"):
            network = build_generator(network.config)
    groups, least = network.groups(), pruner.settings.least
    scores = pruner.scores(network)
    goal.calibrate(subject.widths)
    smallest = narrowest(groups, scores, least, multiple)
    if goal.cost(smallest) > goal.most:
        goal.calibrate(smallest)
    check(groups, scores, goal.cost, goal.most, least, multiple, goal.shown)


def _widths(kept: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: len(channels) for name, channels in kept.items()}
