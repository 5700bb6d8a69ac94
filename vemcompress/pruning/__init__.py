"""Pruning: finding a student's widths by removing channels under a budget. One file per criterion.

A criterion scores each channel of each channel group and knows no architecture. `budget` decides from the scores which
channels stay, and `networks.groups` removes the others. `PRUNERS` maps a method's name to its class. To add one, write
a file here and add its name to `_CLASSES`. `dmad` has masks that are trained in a `teach` run.

Searches are the alternative: `population` holds what they share, and `SEARCHES` maps the recipe's `search.method` to
their settings. Nothing here reads files.
"""

from vemcompress.pruning.base import Pruner
from vemcompress.pruning.co_evolution import CoEvolutionSettings
from vemcompress.pruning.content import Content
from vemcompress.pruning.diversity import Diversity
from vemcompress.pruning.dmad import MaskSettings
from vemcompress.pruning.gcc import GCC
from vemcompress.pruning.l1 import L1
from vemcompress.pruning.l1_out import L1Out
from vemcompress.pruning.l1_style import L1Style
from vemcompress.pruning.masked_gan import MaskedGAN, check_masks
from vemcompress.pruning.population import PopulationSettings
from vemcompress.pruning.random import Random
from vemcompress.pruning.scale import Scale
from vemcompress.pruning.search import SearchSettings
from vemcompress.pruning.zeros import Zeros
from vemcompress.system.plugins import Classes
from vemcompress.system.settings import tag_values, tagged_union

__all__ = ["PRUNERS", "SEARCHES", "AnySearch", "MaskSettings", "MaskedGAN", "Pruner", "check_masks"]

_CLASSES: tuple[type[Pruner], ...] = (L1, Random, Scale, GCC, Content, Diversity, L1Out, L1Style, Zeros)

PRUNERS: Classes[type[Pruner]] = Classes("pruning", _CLASSES, Pruner)

_SEARCHES = (SearchSettings, CoEvolutionSettings)

SEARCHES: dict[str, type[PopulationSettings]] = {name: kind for kind in _SEARCHES for name in tag_values(kind)}

AnySearch = tagged_union(_SEARCHES)
