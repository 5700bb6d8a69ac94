"""Students that learn: built new from a resolved recipe, with the algorithm and the add-on that teach them."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vemcompress.algorithms.omgd import OMGD
from vemcompress.algorithms.omgd_online import OnlineOMGD, PhasedOMGD
from vemcompress.algorithms.phases import Phases
from vemcompress.gans import GAN
from vemcompress.information import build_information
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator, init_weights
from vemcompress.networks.features import FeatureNetwork
from vemcompress.recipe import Recipe
from vemcompress.training.update import Optimizer


def build_algorithm(
    plan: Recipe,
    teacher: Generator,
    features: FeatureNetwork | None,
    gan: GAN | None = None,
    judge: Callable[[nn.Module], Any] | None = None,
) -> OMGD:
    """The algorithm of a resolved recipe with a freshly initialised student; the same seed gives the same weights.

    `gan` holds `teacher` where it learns; `judge` scores it at the end of each of its phases.
    """
    size = plan.data.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        student = build_generator(plan.student)
        init_weights(student)
        information = build_information(
            plan.information, image_channels=plan.student.out_channels, height=size, width=size
        )
        options = {
            "student": student,
            "features": features,
            "information": information,
            "optimizer": Optimizer(plan.train.lr, plan.train.betas),
        }
        if gan is None:
            return OMGD(plan.algorithm, teacher=teacher, **options)
        paired = plan.data.kind != "unpaired"
        if plan.algorithm.online == "step":
            return OnlineOMGD(plan.algorithm, gan=gan, paired=paired, **options)
        phases = Phases(plan.algorithm.phase_steps, plan.algorithm.student_epochs, plan.train.steps)
        best = deepcopy(teacher)
        return PhasedOMGD(plan.algorithm, gan=gan, best=best, phases=phases, paired=paired, judge=judge, **options)
