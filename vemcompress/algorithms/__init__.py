"""How a student learns from its teacher (paper, A.2). `ALGORITHMS` maps a recipe's `algorithm.name` to its class."""

from vemcompress.algorithms.omgd import OMGD

ALGORITHMS = {"omgd": OMGD}

AnyAlgorithm = OMGD.Settings  # a tagged union on `name` as soon as there are two
