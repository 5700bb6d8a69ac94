"""What every pruning method is: settings, and a score for each channel of each group."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.system.events import Event, silent
from vemcompress.system.settings import BaseSettings, Text, Width


class Pruner:
    """A criterion. Subclasses give scores; channels of low score go first.

    One that draws images to judge by uses `device` for them, and tells `on_event` how many are done.
    """

    files: ClassVar[tuple[str, ...]] = ()  # keys of the settings that are paths of files
    decides: ClassVar[bool] = False  # says itself which channels stay (`kept`), so that there is no budget

    class Settings(BaseSettings):
        """`by` says how scores of different groups are compared: "threshold" as they are, "ratio" by their rank within
        the group, which narrows all groups alike. A group keeps `least` channels if it has them, except within
        residual blocks."""

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
        """Tell that `done` of `total` images are judged."""
        self.on_event({"event": "judged", "done": done, "total": total})

    def scores(self, network: Generator) -> dict[str, Tensor]:
        """By group, one finite number for each channel; a group that is left out stays whole.

        Raises UsageError where the network has nothing that the criterion could judge by.
        """
        raise NotImplementedError

    def kept(self, network: Generator) -> dict[str, Tensor]:
        """By group the channels that stay, at least one of each, where the method `decides`."""
        raise NotImplementedError

    def selected(self, network: Generator, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """The channels of the highest scores, of each group as many as `widths` says, the highest first. Raises
        UsageError where a group that must become narrower has no scores."""
        scores, taken = self.scores(network), {}
        for group in network.groups():
            width = widths.get(group.name, group.size)
            if group.name in scores:
                taken[group.name] = scores[group.name].sort(descending=True, stable=True).indices[:width]
            elif width < group.size:
                raise UsageError(f"method {self.settings.name}: has nothing to judge {group.name} by; use l1.")
        return taken
