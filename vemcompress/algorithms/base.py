"""What the training loop asks of a distillation algorithm."""

from torch import Generator, Tensor, nn

from vemcompress.step import Output, Update


class Algorithm(nn.Module):
    """How the student learns from the teacher (paper, A.2). Modules that learn beside the student are submodules."""

    student: nn.Module
    teacher: nn.Module

    def forward(self, batch: Tensor, random: Generator) -> Output:
        """Everything a step needs, each computed once. `batch`: B x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """The step's updates in the published order, the information add-on's included."""
        raise NotImplementedError
