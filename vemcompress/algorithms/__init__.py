"""How a student learns from its teacher (paper, A.2). `ALGORITHMS` maps a recipe's `algorithm.name` to its class.

A new one is a file with its Settings and its terms, and its name in the list; the first is a recipe's default.
"""

from vemcompress.algorithms.base import Algorithm
from vemcompress.algorithms.omgd import OMGD
from vemcompress.system.settings import tag_of, tagged_union

_CLASSES: tuple[type[Algorithm], ...] = (OMGD,)

ALGORITHMS = {tag_of(kind.Settings)[1]: kind for kind in _CLASSES}

AnyAlgorithm = tagged_union(kind.Settings for kind in _CLASSES)
