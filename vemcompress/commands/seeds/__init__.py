"""One recipe under several seeds: an ordinary run for each in one folder, and mean and spread over them."""

from vemcompress.commands.seeds.distilling import SeedsResult, distill_seeds
from vemcompress.commands.seeds.evaluating import SeedsEvaluation, evaluate_seeds
from vemcompress.runs.series import are_in

__all__ = ["SeedsEvaluation", "SeedsResult", "are_in", "distill_seeds", "evaluate_seeds"]
