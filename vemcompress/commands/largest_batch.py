"""`train.batch = "auto"`: the largest batch that the device's memory holds, found before a run begins.

A learner is built for the trial alone. On a GPU it makes real steps, with more images as long as they fit; on a CPU,
where a step that does not fit ends the process, its memory is estimated.
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

MOST = 64  # images, over all processes: with more, a recipe's learning rate and length would no longer fit
USABLE = 0.5  # of the memory that is free on a CPU: convolutions need some for a moment, and so do other programs
NOT_ONE = "--batch auto: a step of one image does not fit into the free memory; lower data.size, or give a number."
FILLED = 0.9  # of a GPU's memory, at the peak of the steps that were made
STEPS = 4  # that are tried of each batch, of different kinds or, of a supernet, of different widths
Build = Callable[[Facts, Given], Learner]


@dataclass(frozen=True)
class Fit:
    """The largest `batch` of all processes together, and what limits it: "memory", "images", or "most", which is as
    many as are ever chosen. `bytes`: what its step takes by estimate, None where that was not estimated; `free`: what
    there is. `measured`: whether steps were made."""

    batch: int
    limit: str
    measured: bool
    bytes: int | None = None
    free: int | None = None


def settled(command: str, given: Given, adapt: Callable[[Recipe], Recipe], build: Build) -> Callable[[Recipe], Recipe]:
    """What gives a recipe its batch where it leaves that to the machine: the largest that fits, which is told. `adapt`
    changes the recipe before, and `build` makes of it what learns. All that can be known to be wrong is told before
    anything is tried. Raises the classes of `errors`."""
    plan, _ = distributed.together(lambda: opening.open_recipe(given.recipe, given.overrides, given.resume, command))
    if plan.train.batch != AUTO:
        return lambda plan: plan
    if plan.train.micro_batch is not None:
        raise UsageError("--batch auto finds what fits at once; leave out --micro-batch, or give --batch a number.")
    quiet = replace(given, on_event=silent)
    facts = distributed.together(lambda: read(command, quiet, adapt))
    with devices.memory_errors(NOT_ONE):
        fit = fitting(facts, build(facts, quiet), given.where)
    given.on_event({"event": "batch", **asdict(fit)})
    return lambda plan: plan.but(train=plan.train.but(batch=fit.batch))


def fitting(facts: Facts, learner: Learner, device: torch.device) -> Fit:
    """The largest power of two of images for each process, the same on all. The learner has changed afterwards. Raises
    MemoryExhausted where not even one image fits."""
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
    """A learner's steps with ever more images, on this process's device."""

    def __init__(self, learner: Learner, settings, few: Batch, device: torch.device, epoch_length: float):
        self.stepper, self.few, self.device = Stepper(learner, settings, device, epoch_length), few, device
        due = {}  # the first step of each kind, such as those at which the teacher learns too
        for step in range(1, settings.steps + 1):
            due.setdefault(tuple(update.due(step) for update in self.stepper.runner.updates), step)
        drawn = range(1, STEPS + 1) if getattr(learner, "space", None) is not None else ()
        self.steps = [*drawn, *list(due.values())[:STEPS]]

    def fit(self, most: int) -> Fit:
        """At most so many images."""
        free = devices.free(self.device)
        if self.device.type != "cpu":
            return Fit(largest(self.holds, most), "", True, None, free)
        needed = self.estimate()
        if free is None:
            raise UsageError("--batch auto: this system does not tell how much memory is free; give a number.")
        free //= launch.local_processes()
        found = largest(lambda images: needed.of(images) - needed.there <= USABLE * free, most)
        return Fit(found, "", False, needed.of(found), free)

    def estimate(self) -> Footprint:
        """Of the step that needs the most."""
        found = [footprint(self.stepper.learner, self.few, self.stepper.random(step), step) for step in self.steps]
        return max(found, key=lambda one: one.image)

    def holds(self, images: int) -> bool:
        """Whether so many images fit: their steps are made."""
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
            pass  # its memory was enough, and the run itself will say what is wrong
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            return False
        finally:
            self.stepper.learner.zero_grad(set_to_none=True)
        return self.device.type != "cuda" or devices.peak_memory(self.device) - before <= FILLED * free


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to `most` that holds, where those below one that holds do too. Raises MemoryExhausted
    where not even 1 does."""
    found = 0
    for images in (1 << n for n in range(most.bit_length())):
        if not holds(images):
            break
        found = images
    if not found:
        raise MemoryExhausted(NOT_ONE)
    return found


def power_of_two(number: int) -> int:
    """The largest one up to `number`, at least 1."""
    return 1 << max(0, number.bit_length() - 1)
