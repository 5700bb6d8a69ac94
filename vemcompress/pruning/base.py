"""What every pruning method is: settings, and a score for each channel of each group."""

from typing import Literal

from torch import Tensor

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
        """By group, one finite number of at least 0 for each channel; a group that is left out stays whole.

        Raises UsageError where the network has nothing that the criterion could judge by.
        """
        raise NotImplementedError
