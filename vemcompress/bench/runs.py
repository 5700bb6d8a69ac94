"""Timed runs of our training step (`FastRun`) and of the reference step (`PlainRun`)."""

from time import perf_counter

import torch

from vemcompress.algorithms import Distillation
from vemcompress.bench.peak import counted
from vemcompress.data.batch import Batch
from vemcompress.recipe import TrainSettings
from vemcompress.reference.step import PlainStep
from vemcompress.system import devices
from vemcompress.training.compiling import as_written
from vemcompress.training.stepper import Stepper, noise_of

# Names of the timed parts here, by the names of updates in recipes.
NAMES = {"discriminators": "discriminator", "deep": "teacher", "wide": "teacher", "generators": "teacher"}
NAMES["optimizer"] = "optimisers"


class FastRun:
    """Our step as in `distill`, including the data loader. `parts`: for each cycle, milliseconds per step by part;
    `other` is the time that no part covers."""

    def __init__(self, algorithm: Distillation, settings: TrainSettings, stream, device: torch.device):
        self.settings, self.device = settings, device
        self.stepper = Stepper(algorithm, settings, device, stream.epoch_length)
        self.parts: list[dict[str, float]] = []
        self._batches = stream.iterate()

    def __enter__(self) -> "FastRun":
        return self

    def __exit__(self, *error) -> None:
        self._batches.close()

    def batch(self) -> Batch:
        return next(self._batches)[1].to(self.device)

    def run(self, cycle: list[int]) -> float:
        """One cycle: seconds a step."""
        timer = self.stepper.timer
        devices.wait(self.device)
        start = perf_counter()
        with devices.arithmetic(self.settings.precision):
            for number in cycle:
                with timer.part("data"):
                    batch = self.batch()
                self.stepper(batch, number)
        devices.wait(self.device)
        seconds = (perf_counter() - start) / len(cycle)
        parts: dict[str, float] = {}
        for name, value in timer.collect().items():
            name = NAMES.get(name, name)
            parts[name] = parts.get(name, 0.0) + 1000 * value / len(cycle)
        self.parts.append(parts | {"other": 1000 * seconds - sum(parts.values())})
        return seconds

    def flops(self, cycle: list[int]) -> float:
        """Run a cycle, and return the mean operations of a step in convolutions and matrix products."""
        with as_written(), counted() as found:
            self.run(cycle)
        return found.get_total_flops() / len(cycle)


class PlainRun:
    """The reference step, on one batch that is already loaded."""

    def __init__(self, algorithm: Distillation, batch: Batch, device: torch.device, precision: str, seed: int):
        self.seed = seed
        self.batch = batch.map(torch.Tensor.contiguous)
        self.device, self.precision = device, precision
        self.step = PlainStep(algorithm.to(device))

    def run(self, cycle: list[int]) -> float:
        """One cycle: seconds a step."""
        devices.wait(self.device)
        start = perf_counter()
        with devices.arithmetic(self.precision):
            for number in cycle:
                self.step(self.batch, noise_of(self.seed, number, self.device), number)
        devices.wait(self.device)
        return (perf_counter() - start) / len(cycle)
