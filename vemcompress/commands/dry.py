"""`--dry-run`: everything of a run but the run. It is checked and planned, a few steps are timed, and nothing is
written."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter as now

from vemcompress.commands import line
from vemcompress.commands.facts import Facts
from vemcompress.commands.opening import Given
from vemcompress.system import devices, distributed
from vemcompress.training.learner import Learner
from vemcompress.training.stepper import Stepper

STEPS, MOST = 2, 20  # timed of each kind, after one that is not: more than the least where they are short
SHORT = 3.0  # seconds for those beyond the least, by which the images that were read ahead are used up
KINDS = 4  # of steps, such as those at which the teacher learns too; the most frequent ones
SECONDS = 60.0  # after which no other kind is begun


@dataclass(frozen=True, kw_only=True)
class DryRun(line.Reported):
    """What a run in the folder `run` would be, which it does not make. `seconds_per_step` is the mean over its `steps`
    by what `timed` of them took, `seconds` all of them: without saving, sample pictures and scoring. `memory`: bytes
    at the peak, of the GPU's allocator or of the process. Of a pipeline these are of `stage`, its first, and None where
    that trains nothing; `later` are its other stages, which need what earlier ones give."""

    run: str
    recipe: str
    device: str
    steps: int | None = None
    batch: int | None = None
    size: int | None = None
    timed: int = 0
    seconds_per_step: float | None = None
    seconds: float | None = None
    memory: int | None = None
    stage: str | None = None
    later: tuple[str, ...] = ()


def dry_run(facts: Facts, given: Given, learner: Learner, events: Sequence[dict]) -> DryRun:
    """Tell the plan and the memory of a run, make a few steps, and say how long it would take. Raises as a run does."""
    plan, device, on_event = facts.plan, given.where, given.on_event
    train = plan.train
    stream = facts.stream(device, on_event, second=learner.second, halves=learner.halves)
    stepper = Stepper(learner, train, device, stream.epoch_length)
    told = line.told(facts, device) | {"step": 0, "continued": False, "picture": None}
    for event in (events[0] | told, *events[1:]):
        on_event(event)
    if learner.splits:
        line.tell_memory(facts, stepper, on_event)
    distributed.broadcast(learner)
    with devices.arithmetic(train.precision):
        seconds, counts = _timed(stepper, stream)
    known = fmean(taken for times in seconds.values() for taken in times)
    total = sum(count * fmean(seconds.get(kind, [known])) for kind, count in counts.items())
    return DryRun(
        run=str(facts.run.path),
        recipe=plan.name,
        device=device.type,
        steps=train.steps,
        batch=train.batch,
        size=plan.data.size,
        timed=sum(map(len, seconds.values())),
        seconds_per_step=total / train.steps,
        seconds=total,
        memory=devices.peak_memory(device),
    )


def _timed(stepper: Stepper, stream) -> tuple[dict[tuple, list[float]], Counter]:
    """Seconds of steps by kind, that is by the updates that are due, and how many steps of each kind a run has."""
    updates, device = stepper.runner.updates, stepper.device

    def kind_of(step: int) -> tuple[bool, ...]:
        return tuple(update.due(step) for update in updates)

    steps = range(1, stepper.settings.steps + 1)
    counts = Counter(map(kind_of, steps))
    found: dict[tuple, list[float]] = {}
    began = now()
    with closing(stream.iterate(0)) as batches:
        for kind, _ in counts.most_common(KINDS):
            if found and _over(now() - began, SECONDS):
                break
            step, times = next(step for step in steps if kind_of(step) == kind), []
            while len(times) <= STEPS or (len(times) <= MOST and not _over(sum(times), SHORT)):
                devices.wait(device)
                start = now()
                stepper(next(batches)[1].to(device), step)
                devices.wait(device)
                times.append(now() - start)
            found[kind] = times[1:]
    stepper.runner.settle(wait=True)
    return found, counts


def _over(seconds: float, most: float) -> bool:
    """The same on all ranks, which leave together."""
    return distributed.largest(int(seconds > most)) > 0
