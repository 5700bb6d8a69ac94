"""Base class of pruning criteria: settings, and a score for each channel of each group."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.system.events import Event, silent
from vemcompress.system.settings import BaseSettings, Text, Width


class Pruner:
    """A pruning criterion. Subclasses compute scores; channels with low scores are removed first.

    A criterion that needs images runs on `device` and reports its progress to `on_event`.
    """

    files: ClassVar[tuple[str, ...]] = ()  # keys of the settings that are file paths
    decides: ClassVar[bool] = False  # the method itself decides which channels stay (`kept`), without a budget

    class Settings(BaseSettings):
        """`by`: how scores of different groups are compared: "threshold" compares them directly, "ratio" by their
        rank within the group, which removes the same share of each group. `least`: the smallest number of channels
        that a group keeps if it has as many; it does not apply within residual blocks.
        """

        name: Text
        by: Literal["threshold", "ratio"] = "ratio"
        least: Width = 1

    def __init__(self, settings: Settings | None = None):
        self.settings: Any = settings or self.Settings()
        self.device, self.on_event = torch.device("cpu"), silent

    def work_on(self, device: torch.device, on_event: Event) -> "Pruner":
        self.device, self.on_event = device, on_event
        return self

    def told(self, done: int, total: int) -> None:
        """Report that `done` of `total` images have been processed."""
        self.on_event({"event": "judged", "done": done, "total": total})

    def scores(self, network: Generator) -> dict[str, Tensor]:
        """Scores by group, one finite number for each channel. A group without scores is not pruned.

        Raises UsageError if the network lacks what the criterion needs.
        """
        raise NotImplementedError

    def kept(self, network: Generator) -> dict[str, Tensor]:
        """The channels that stay, by group, at least one of each. Only for methods that `decide`."""
        raise NotImplementedError

    def selected(self, network: Generator, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """The channels with the highest scores, as many of each group as `widths` says, the highest first. Raises
        UsageError if a group that must become narrower has no scores.
        """
        scores, taken = self.scores(network), {}
        for group in network.groups():
            width = widths.get(group.name, group.size)
            if group.name in scores:
                taken[group.name] = scores[group.name].sort(descending=True, stable=True).indices[:width]
            elif width < group.size:
                raise UsageError(f"method {self.settings.name}: cannot score the channels of {group.name}; use l1.")
        return taken
