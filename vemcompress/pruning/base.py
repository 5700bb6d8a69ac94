"""What every pruning method is: settings, and a score for each channel of each group."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.system.settings import BaseSettings, Text, Width


class Pruner:
    """A criterion. Subclasses give scores; channels of low score go first."""

    class Settings(BaseSettings):
        """`by` says how scores of different groups are compared: "threshold" as they are, "ratio" by their rank within
        the group, which narrows all groups alike. A group keeps `least` channels if it has them, except within
        residual blocks."""

        name: Text
        by: Literal["threshold", "ratio"] = "ratio"
        least: Width = 1

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or self.Settings()

    def scores(self, network: Generator) -> dict[str, Tensor]:
        """By group, one finite number for each channel; a group that is left out stays whole.

        Raises UsageError where the network has nothing that the criterion could judge by.
        """
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
