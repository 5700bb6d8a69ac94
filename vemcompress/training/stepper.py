"""Runs one training step: memory format, precision, optimisers and random numbers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.networks.norms import synchronise
from vemcompress.system import devices, distributed
from vemcompress.training.compiling import compile_networks, compiler_errors
from vemcompress.training.learner import Learner
from vemcompress.training.optimizers import Runner
from vemcompress.training.settings import TrainSettings
from vemcompress.training.timing import Timer
from vemcompress.training.update import Update


class Stepper:
    """All trained networks on their device. Call it with a batch and the step's number, counted from 1.

    `factor` is the learning rate's factor in the last step. Images and networks use the channels_last memory format,
    which makes convolutions faster; saved files do not depend on it.
    """

    def __init__(self, learner: Learner, settings: TrainSettings, device: torch.device, epoch_length: float):
        self.learner, self.settings, self.device = learner, settings, device
        self.epoch_length = epoch_length if settings.decay == "epoch" else None
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # events and graphs belong to the current device
        devices.reuse_memory()
        learner.to(device, memory_format=torch.channels_last).train()
        if distributed.ranks() > 1:
            synchronise(learner)
        self.timer = Timer(device)
        learner.work_with(self.timer, settings.precision == "bf16")
        check_parts(learner, settings)
        if settings.compile:
            compile_networks(learner, device)
        self.runner = Runner(learner.updates(), device, self.timer)
        self.factor = 1.0

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Run all updates that are due on one batch on the device. Returns their terms, detached.

        Raises NumericalError, and UsageError if the networks cannot be compiled.
        """
        if not self.settings.compile:
            return self._step(batch, step)
        torch.compiler.cudagraph_mark_step_begin()  # outputs of the last step's graphs may be overwritten
        with compiler_errors():
            return self._step(batch, step)

    def _step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        settings = self.settings
        clock = self.learner.clock(step, settings.steps)
        self.factor = self.runner.schedule(*clock, settings.constant, self.epoch_length)
        losses: dict[str, Tensor] = {}
        due = [update for update in self.runner.updates if update.due(step)]
        parts = self._parts(len(batch.input))
        if len(parts) == 1:
            out = self.learner(batch, self.random(step), step)
            for update in due:
                with self.timer.part(update.name):
                    losses |= self.runner.apply(update, out, step)
        else:
            computed = Parts(self.learner, batch, parts, step, self.random)
            for update in due:
                losses |= self.runner.apply_in_parts(update, computed.of(update), step)
        self.runner.settle()
        return losses

    def _parts(self, images: int) -> list[distributed.Part]:
        count = images // min(self.settings.micro_batch or images, images)
        return [distributed.Part(number, count, self.learner.grouped) for number in range(count)]

    def random(self, step: int) -> torch.Generator:
        return noise_of(self.settings.seed, step, self.device)


def check_parts(learner: Learner, settings: TrainSettings) -> None:
    """Raises RecipeError if a batch cannot be computed in parts of train.micro_batch images."""
    if settings.micro_batch is None:
        return
    here, part = settings.batch // distributed.ranks(), settings.micro_batch
    said = f"train.micro_batch {part}"
    if not learner.splits and part < here:
        raise RecipeError(f"{said}: the losses of this recipe need the whole batch; omit it, or lower train.batch.")
    if part < here and part % learner.grouped:
        raise RecipeError(
            f"{said}: the discriminator compares groups of {learner.grouped} images, which must stay together; set a "
            f"multiple of {learner.grouped}."
        )


class Parts:
    """Computes a step again for each update and each part of its batch, with the same random numbers, so that only
    one part's graph is in memory. Samples and energies of the add-on are kept for later updates.
    """

    kept = ("samples", "start", "energies")

    def __init__(self, learner: Learner, batch: Batch, parts: list[distributed.Part], step: int, random: Callable):
        self.learner, self.batch, self.parts, self.step, self.random = learner, batch, parts, step, random
        self._kept: list[dict] = [{} for _ in parts]

    def of(self, update: Update) -> list[Callable[[], AbstractContextManager]]:
        """Contexts that compute each part."""
        return [partial(self._computed, update, part) for part in self.parts]

    @contextmanager
    def _computed(self, update: Update, part: distributed.Part) -> Iterator[Any]:
        with distributed.working_on(part):
            with torch.no_grad() if update.apart else nullcontext():
                out = self.learner(self.batch.part(part), self.random(self.step), self.step)
            for name, value in self._kept[part.number].items():
                setattr(out, name, value)
            yield out
            found = {name: getattr(out, name, None) for name in self.kept}
            self._kept[part.number] = {name: value for name, value in found.items() if value is not None}


def noise_of(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random generator of a step. It depends only on the seed and the step, so resuming needs no state."""
    found = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(found >> 1))
