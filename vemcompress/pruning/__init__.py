"""How a student's shape is found by removing channels: one file a criterion, and what fits a budget of MACs.

A criterion gives a score to each channel of each group and knows no architecture; `budget` decides from the scores
which channels stay, and `networks.groups` cuts. Nothing here reads files or trains. `PRUNERS` maps a method's name to
its class; a new one is a file beside these and an entry in `_ALL`.
"""

from typing import Annotated, Union

from pydantic import Field

from vemcompress.pruning.base import Pruner
from vemcompress.pruning.l1 import L1
from vemcompress.pruning.random import Random
from vemcompress.pruning.scale import Scale

_ALL = (L1, Random, Scale)

PRUNERS: dict[str, type[Pruner]] = {cls.Settings.model_fields["name"].default: cls for cls in _ALL}

AnyPruner = Annotated[Union[*(cls.Settings for cls in _ALL)], Field(discriminator="name")]


def build_pruner(settings: Pruner.Settings) -> Pruner:
    """The method of these settings."""
    return PRUNERS[settings.name](settings)
