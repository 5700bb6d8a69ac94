"""`train.batch = "auto"`: find the largest batch that fits into the device's memory, before a run starts.

A separate learner is built for the trial. On a GPU, it runs real steps with more and more images until they no longer
fit. On a CPU, such a step would end the process, so the memory is estimated.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import torch

from vemcompress.commands import opening
from vemcompress.commands.facts import Facts, read
from vemcompress.commands.opening import Given
from vemcompress.data.batch import Batch
from vemcompress.errors import MemoryExhausted, NumericalError, UsageError
from vemcompress.recipe import Recipe
from vemcompress.system import devices, distributed, launch
from vemcompress.system.events import silent
from vemcompress.system.memory import is_exhausted
from vemcompress.system.names import AUTO
from vemcompress.training.footprint import SAMPLE, Footprint, footprint
from vemcompress.training.learner import Learner
from vemcompress.training.stepper import Stepper

MOST = 64  # images over all processes: for larger batches, a recipe's learning rate and steps would be wrong
USABLE = 0.5  # share of the free memory on a CPU: convolutions and other programs need the rest for short times
NOT_ONE = "--batch auto: a step of one image does not fit into the free memory; lower data.size, or give a number."
FILLED = 0.9  # share of a GPU's free memory that the trial steps may use at their peak
STEPS = 4  # trial steps per batch size: of different kinds, or at different widths of a supernet
Build = Callable[[Facts, Given], Learner]


@dataclass(frozen=True)
class Fit:
    """The largest `batch` over all processes, and what limits it: "memory", "images" (the number of images), or "most"
    (the upper bound).

    `measured` says whether real steps were run. `bytes` is the estimated memory of a step, or None if it was measured.
    `free` is the free memory.
    """

    batch: int
    limit: str
    measured: bool
    bytes: int | None = None
    free: int | None = None


def settled(command: str, given: Given, adapt: Callable[[Recipe], Recipe], build: Build) -> Callable[[Recipe], Recipe]:
    """A function that sets the batch of a recipe, if it is "auto", to the largest one that fits; the batch is reported.

    `adapt` changes the recipe first, and `build` builds the learner. Everything is checked before the trial. Raises the
    classes of `errors`.
    """
    plan, _ = distributed.together(lambda: opening.open_recipe(given.recipe, given.overrides, given.resume, command))
    if plan.train.batch != AUTO:
        return lambda plan: plan
    if plan.train.micro_batch is not None:
        raise UsageError("--batch auto cannot be combined with --micro-batch; omit it, or give a number with --batch.")
    quiet = replace(given, on_event=silent)
    facts = distributed.together(lambda: read(command, quiet, adapt))
    with devices.memory_errors(NOT_ONE):
        fit = fitting(facts, build(facts, quiet), given.where)
    given.on_event({"event": "batch", **asdict(fit)})
    return lambda plan: plan.but(train=plan.train.but(batch=fit.batch))


def fitting(facts: Facts, learner: Learner, device: torch.device) -> Fit:
    """The largest power of two of images per process, equal on all processes. The trial changes the learner. Raises
    MemoryExhausted if not even one image fits."""
    stream = facts.stream(device, second=learner.second, halves=learner.halves)
    with closing(stream.iterate(0)) as batches:
        few = next(batches)[1].map(lambda tensor: tensor[:SAMPLE])
    ranks, count = distributed.ranks(), facts.images.count or MOST
    most = power_of_two(min(MOST, count) // ranks)

    def own() -> tuple[int, Fit]:
        with distributed.alone(), devices.arithmetic(facts.plan.train.precision):
            trial = Trial(learner, facts.plan.train.but(compile=False), few.to(device), device, stream.epoch_length)
            return trial.fit(most)

    fits = distributed.collected(distributed.together(own))
    fit = min(fits, key=lambda found: found.batch)  # the smallest GPU decides
    limit = "memory" if fit.batch < most else "most" if count >= MOST else "images"
    return replace(fit, batch=fit.batch * ranks, limit=limit)


class Trial:
    """Trial steps of a learner with more and more images, on the device of this process."""

    def __init__(self, learner: Learner, settings, few: Batch, device: torch.device, epoch_length: float):
        self.stepper, self.few, self.device = Stepper(learner, settings, device, epoch_length), few, device
        due = {}  # the first step of each kind, such as those at which the teacher learns too
        for step in range(1, settings.steps + 1):
            due.setdefault(tuple(update.due(step) for update in self.stepper.runner.updates), step)
        drawn = range(1, STEPS + 1) if getattr(learner, "space", None) is not None else ()
        self.steps = [*drawn, *list(due.values())[:STEPS]]

    def fit(self, most: int) -> Fit:
        """The largest batch that fits, up to `most` images."""
        free = devices.free(self.device)
        if self.device.type != "cpu":
            return Fit(largest(self.holds, most), "", True, None, free)
        needed = self.estimate()
        if free is None:
            raise UsageError("--batch auto: this system does not report its free memory; give a number with --batch.")
        free //= launch.local_processes()
        found = largest(lambda images: needed.of(images) - needed.there <= USABLE * free, most)
        return Fit(found, "", False, needed.of(found), free)

    def estimate(self) -> Footprint:
        """The memory of the step that needs the most."""
        found = [footprint(self.stepper.learner, self.few, self.stepper.random(step), step) for step in self.steps]
        return max(found, key=lambda one: one.image)

    def holds(self, images: int) -> bool:
        """Whether a batch of `images` images fits, found by running the trial steps with it."""
        devices.forget(self.device)
        before, free = devices.peak_memory(self.device), devices.free(self.device)
        index = torch.arange(images, device=self.device) % len(self.few.input)
        try:
            batch = self.few.map(lambda tensor: tensor[index]).to(self.device)
            for step in self.steps:
                self.stepper(batch, step)
            self.stepper.runner.settle(wait=True)
            devices.wait(self.device)
        except NumericalError:
            pass  # there was enough memory; the run itself will report the error
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            return False
        finally:
            self.stepper.learner.zero_grad(set_to_none=True)
        return self.device.type != "cuda" or devices.peak_memory(self.device) - before <= FILLED * free


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to `most` for which `holds` is true; it must be true for smaller ones too. Raises
    MemoryExhausted if it is false even for 1."""
    found = 0
    for images in (1 << n for n in range(most.bit_length())):
        if not holds(images):
            break
        found = images
    if not found:
        raise MemoryExhausted(NOT_ONE)
    return found


def power_of_two(number: int) -> int:
    """The largest power of two up to `number`, at least 1."""
    return 1 << max(0, number.bit_length() - 1)
