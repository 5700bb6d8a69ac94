"""What the training loop asks of whatever it trains: a distillation algorithm, or a GAN that makes a teacher."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Generator, Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.training.timing import Timer
from vemcompress.training.update import Update


class Learner(nn.Module):
    """Networks that learn, and how. `timer` sums where a step's time goes, `bf16` is the recipe's precision.
    `second`: whether each batch must have a second one; `halves`: the first then shows one half of the images, and the
    second the other. `measures`: whether the coming step logs what only some steps do, because it costs something.
    `uncompiled`: why torch.compile cannot take its networks; `splits`: whether a batch can be worked on in parts
    (`train.micro_batch`), each of whole groups of `grouped` images. `about`: what the file of the first of its
    `artifacts` says of the run beside all else."""

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
        """Give this timer and precision to all that learns within."""
        for module in self.modules():
            if hasattr(module, "timer"):
                module.timer = timer
            if isinstance(module, Learner):
                module.bf16 = bf16

    def autocast(self, device: torch.device):
        """bfloat16 for networks where the recipe asks for it; losses and energies are at least float32."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def forward(self, batch: Batch, random: Generator, step: int = 1) -> Any:
        """Everything that a step's updates need, each computed once. Images are B x C x H x W in [-1, 1]."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """The step's updates in the published order. Their `terms` take what `forward` returns."""
        raise NotImplementedError

    def artifacts(self) -> dict[str, nn.Module]:
        """Generators and discriminators to write, by file name; the first is what the run is for."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """What the file of the first of `artifacts` says beside what all say."""
        return {}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        """What else learns and belongs in a checkpoint: by file name, the module and its metadata."""
        return {}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        """What the networks make of a few images, by the title of its column. Called in evaluation mode."""
        raise NotImplementedError

    def clock(self, step: int, total: int) -> tuple[int, int]:
        """Where the learning rate's schedule stands at a step, and how long it is."""
        return step, total

    def finishes(self, step: int) -> bool:
        """Whether `finish` is due after this step."""
        return False

    def finish(self, step: int) -> dict:
        """Called once every optimiser has moved at a step that `finishes` something. Returns an event to report."""
        raise NotImplementedError


def one_by_one(network: nn.Module, images: Tensor) -> Tensor:
    """A network's outputs, image after image: what a picture shows must not depend on its neighbours."""
    return torch.cat([network(image[None]).float() for image in images])
