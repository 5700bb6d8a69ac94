"""One training step, as fast as its device allows: memory layout, precision, optimisers, noise."""

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.networks.norms import synchronise
from vemcompress.system import devices, distributed
from vemcompress.training.compiling import compile_networks, compiler_errors
from vemcompress.training.learner import Learner
from vemcompress.training.optimizers import Runner
from vemcompress.training.settings import TrainSettings
from vemcompress.training.timing import Timer


class Stepper:
    """Everything that learns, on its device. Called with a batch and the step's number, from 1, it makes that step.

    `factor` is the learning rate's in the last step. Images and networks use the channels_last memory format,
    which fast convolutions work on; files do not show it.
    """

    def __init__(self, learner: Learner, settings: TrainSettings, device: torch.device, epoch_length: float):
        self.learner, self.settings, self.device = learner, settings, device
        self.epoch_length = epoch_length if settings.decay == "epoch" else None
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # events and graphs belong to the current one
        devices.reuse_memory()
        learner.to(device, memory_format=torch.channels_last).train()
        if distributed.ranks() > 1:
            synchronise(learner)
        self.timer = Timer(device)
        learner.work_with(self.timer, settings.precision == "bf16")
        if settings.compile:
            compile_networks(learner, device)
        self.runner = Runner(learner.updates(), device, self.timer)
        self.factor = 1.0

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """All updates that are due, on one batch on the device: their terms, detached.

        Raises NumericalError, and UsageError where the networks cannot be compiled.
        """
        if not self.settings.compile:
            return self._step(batch, step)
        torch.compiler.cudagraph_mark_step_begin()  # what the last step's graphs gave may be overwritten
        with compiler_errors():
            return self._step(batch, step)

    def _step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        settings = self.settings
        clock = self.learner.clock(step, settings.steps)
        self.factor = self.runner.schedule(*clock, settings.constant, self.epoch_length)
        out = self.learner(batch, self.random(step), step)
        losses: dict[str, Tensor] = {}
        for update in self.runner.updates:
            if update.due(step):
                with self.timer.part(update.name):
                    losses |= self.runner.apply(update, out, step)
        self.runner.settle()
        return losses

    def random(self, step: int) -> torch.Generator:
        return noise_of(self.settings.seed, step, self.device)


def noise_of(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A step's own noise: a function of the seed and the step alone, so that resuming needs no state."""
    found = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(found >> 1))
