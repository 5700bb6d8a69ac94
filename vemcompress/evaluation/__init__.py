"""Evaluation of generators: one module per metric, and one pass over the images that computes all of them.

`metric` has the base class of metrics, and `choose` the list of them. `sources` reads the images, `gather` makes the
pass, `judge` turns its result into scores, and `report` is a complete evaluation. Training, and reading the recipe of a
run, belong elsewhere.
"""

from vemcompress.evaluation.choose import METRICS
from vemcompress.evaluation.extractors import Extractor, load_extractor
from vemcompress.evaluation.frechet import Statistics, distance, frechet_distance
from vemcompress.evaluation.report import Evaluation, evaluate
from vemcompress.evaluation.statistics import compute_statistics, load_statistics, save_statistics

__all__ = [
    "METRICS",
    "Evaluation",
    "Extractor",
    "Statistics",
    "compute_statistics",
    "distance",
    "evaluate",
    "frechet_distance",
    "load_extractor",
    "load_statistics",
    "save_statistics",
]
