"""One recipe under several seeds: an ordinary run for each in one folder, and mean and spread over them."""

from vemcompress.seeds.distilling import SeedsResult, distill_seeds
from vemcompress.seeds.evaluating import SeedsEvaluation, evaluate_seeds
from vemcompress.seeds.folder import are_in

__all__ = ["SeedsEvaluation", "SeedsResult", "are_in", "distill_seeds", "evaluate_seeds"]
