"""What the training loop asks of a distillation algorithm."""

from contextlib import nullcontext

import torch
from torch import Generator, Tensor, nn

from vemcompress.step import Output, Update
from vemcompress.timing import Timer


class Algorithm(nn.Module):
    """How the student learns from the teacher (paper, A.2). Modules that learn beside the student are submodules."""

    student: nn.Module
    teacher: nn.Module
    timer: Timer
    bf16: bool = False

    def autocast(self, device: torch.device):
        """bfloat16 for networks where the recipe asks for it; losses and energies stay in float32."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def forward(self, batch: Tensor, random: Generator) -> Output:
        """Everything a step needs, each computed once. `batch`: B x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """The step's updates in the published order, the information add-on's included."""
        raise NotImplementedError

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        """What learns beside the student and belongs in a checkpoint: by file name, the module and its metadata."""
        raise NotImplementedError
