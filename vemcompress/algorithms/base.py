"""What every distillation algorithm is: a learner with a student in it."""

from torch import nn

from vemcompress.training.learner import Learner


class Algorithm(Learner):
    """How the student learns from the teacher (paper, A.2). Modules that learn beside the student are submodules."""

    student: nn.Module
    teacher: nn.Module
