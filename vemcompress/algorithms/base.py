"""What every distillation algorithm is: a learner with a student in it."""

from typing import ClassVar

from torch import nn

from vemcompress.system.settings import BaseSettings
from vemcompress.training.learner import Learner


class Algorithm(Learner):
    """How the student learns from the teacher (paper, A.2). Modules that learn beside the student are submodules."""

    Settings: ClassVar[type[BaseSettings]]

    student: nn.Module
    teacher: nn.Module
