"""How good a network's images are: one metric a file, one pass over the images that feeds them all, and one judge.

`metric` says what a metric is, `choose` lists them. A `source` gives images, `gather` is the pass, a `judge` turns it
into scores; `report` is the whole evaluation. What trains, and what reads a run's recipe, lies elsewhere.
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
