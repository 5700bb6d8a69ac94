"""Distillation algorithms: how a student learns from its teacher (VEM paper, section A.2), one file per method.

`ALGORITHMS` maps a recipe's `algorithm.name` to its class. The first entry is the default. `distillation` holds what
all methods share.

To add a method, write a file with its Settings and its loss terms, and add its name to the list below. Methods from
other packages are appended after ours (`system.plugins`).
"""

from vemcompress.algorithms.agd import AutoGANDistiller
from vemcompress.algorithms.cagc import CAGC
from vemcompress.algorithms.cat import CAT
from vemcompress.algorithms.dcd import DCD
from vemcompress.algorithms.dense import Dense
from vemcompress.algorithms.distillation import Distillation, Facts, Parts
from vemcompress.algorithms.dmad import DMAD
from vemcompress.algorithms.finetune import Finetune
from vemcompress.algorithms.gan_compression import GANCompression
from vemcompress.algorithms.gan_slimming import GANSlimming
from vemcompress.algorithms.gcc import GCC
from vemcompress.algorithms.kd import KD
from vemcompress.algorithms.nickel_dime import NickelDime
from vemcompress.algorithms.omgd import OMGD
from vemcompress.system.plugins import Classes

__all__ = ["ALGORITHMS", "Distillation", "Facts", "Parts"]

_CLASSES: tuple[type[Distillation], ...] = (
    OMGD,
    KD,
    Dense,
    GANCompression,
    CAT,
    GCC,
    CAGC,
    NickelDime,
    DMAD,
    DCD,
    GANSlimming,
    AutoGANDistiller,
    Finetune,
)

ALGORITHMS: Classes[type[Distillation]] = Classes("algorithms", _CLASSES, Distillation)
