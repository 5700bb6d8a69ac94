"""`--dry-run`: check and plan a run, and time a few steps. Nothing is written."""

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

STEPS, MOST = 2, 20  # steps timed of each kind, at least and at most, after one that is not timed
SHORT = 3.0  # seconds for the steps beyond the minimum; by then the images that were read ahead are used up
KINDS = 4  # the most frequent kinds of steps, such as those at which the teacher is updated too
SECONDS = 60.0  # after this time no other kind is started


@dataclass(frozen=True, kw_only=True)
class DryRun(line.Reported):
    """An estimate of a run in the folder `run`, which is not made.

    `seconds_per_step` and `seconds` are estimates for one step and for all `steps`, without saving, sample images and
    scoring; `timed` steps were measured. `memory` is the peak in bytes, of the GPU's allocator or of the process. For a
    pipeline, they are about `stage`, its first one, and None if that stage does not train. `later` are the other
    stages, which depend on the results of earlier ones.
    """

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
    """Report the plan and the memory of a run, time a few steps, and estimate the total time. Raises as a run does."""
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
    """Measured seconds by kind of step, and how many steps of each kind a run has. A kind is the set of updates that
    are due at a step."""
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
    """Whether the limit is exceeded on any rank, so that all ranks stop together."""
    return distributed.largest(int(seconds > most)) > 0
