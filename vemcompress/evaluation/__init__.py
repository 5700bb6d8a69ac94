"""How good a student's images are: distances between sets of images and fidelity to the teacher, one metric a file."""

from vemcompress.evaluation.features import Extractor, load_extractor
from vemcompress.evaluation.frechet import Statistics, distance, frechet_distance
from vemcompress.evaluation.plan import METRICS
from vemcompress.evaluation.run import Evaluation, evaluate
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
