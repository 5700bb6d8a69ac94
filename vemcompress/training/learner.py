"""The interface of everything that the training loop trains: a distillation algorithm, or the GAN of a teacher."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Generator, Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.training.timing import Timer
from vemcompress.training.update import Update


class Learner(nn.Module):
    """Networks, their losses and their updates.

    `timer` measures the parts of a step. `bf16`: whether networks compute in bfloat16. `second`: whether each batch
    needs a second one. `halves`: with `second`, the two batches come from separate halves of the images. `measures`:
    whether the coming step also logs values that are costly to compute. `uncompiled`: why torch.compile cannot be used,
    or empty. `splits`: whether a batch can be computed in parts (`train.micro_batch`). `grouped`: each part must have a
    multiple of this many images. `about`: metadata for the file of the first of the `artifacts`.
    """

    timer: Timer
    bf16: bool = False
    measures: bool = False
    second: bool = False
    halves: bool = False
    uncompiled: str = ""
    splits: bool = False
    grouped: int = 1

    def __init__(self):
        super().__init__()
        self.about: dict[str, str] = {}
        self.timer = Timer(torch.device("cpu"))

    def work_with(self, timer: Timer, bf16: bool) -> None:
        """Set the timer and precision of all modules within."""
        for module in self.modules():
            if hasattr(module, "timer"):
                module.timer = timer
            if isinstance(module, Learner):
                module.bf16 = bf16

    def autocast(self, device: torch.device):
        """Context for networks: bfloat16 if the recipe asks for it. Losses and energies are computed at least in
        float32.
        """
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def forward(self, batch: Batch, random: Generator, step: int = 1) -> Any:
        """Compute what the step's updates need, each value once. Images are B x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """The step's updates in the published order. Their `terms` get the output of `forward`."""
        raise NotImplementedError

    def artifacts(self) -> dict[str, nn.Module]:
        """Generators and discriminators to write, by file name. The first is the run's product."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Metadata for the file of the first of `artifacts`, in addition to that of every file."""
        return {}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        """Other modules that a checkpoint needs: by file name, the module and its metadata."""
        return {}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        """The networks' outputs for a few images, by column title. Called in evaluation mode."""
        raise NotImplementedError

    def clock(self, step: int, total: int) -> tuple[int, int]:
        """The step and the length that the learning-rate schedule uses at a step."""
        return step, total

    def finishes(self, step: int) -> bool:
        """Whether `finish` is due after this step."""
        return False

    def finish(self, step: int) -> dict:
        """Called after all updates of a step for which `finishes` is true. Returns an event to report."""
        raise NotImplementedError


def one_by_one(network: nn.Module, images: Tensor) -> Tensor:
    """A network's outputs, computed one image at a time, so that no image influences another."""
    return torch.cat([network(image[None]).float() for image in images])
