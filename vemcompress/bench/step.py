"""`bench_step`: measures one training step, its parts, its distance from the device's peak, and the reference step."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from vemcompress.algorithms import Distillation
from vemcompress.bench import peak
from vemcompress.bench.runs import FastRun, PlainRun
from vemcompress.bench.subject import Subject, subject
from vemcompress.commands.largest_batch import fitting
from vemcompress.commands.line import Reported
from vemcompress.errors import UsageError
from vemcompress.information.base import Information
from vemcompress.system import devices
from vemcompress.system.events import Event, silent

WARM_UP = 2


@dataclass
class StepBench(Reported):
    """The result of `bench_step`. Times are medians over many steps in milliseconds. If some updates are not due at
    each step, they are medians of the mean over a cycle.

    - `parts`: times by part; `other` is the time that no part covers.
    - `memory`: peak in bytes, of the GPU's allocator or of the process; on a CPU it includes the weights of the
      reference step's networks.
    - `flops`: operations of a step in convolutions and matrix products; a multiplication and an addition are two.
    - `floor_ms`: the time of these operations at the device's measured peak. `peak_share`: `floor_ms` / `step_ms`.
    - `information_share`: the add-on's share of the step.
    - `reference_ms`: the plain float32 step with the same add-on. `reference_none_ms`: the one without an add-on.
    - `ratio`, `ratio_none`: our time divided by these two.
    """

    recipe: str
    device: str
    threads: int
    precision: str
    compiled: bool
    phase: str | None
    batch: int
    size: int
    information: str
    random: list[str]
    steps: int
    step_ms: float
    images_per_second: float
    parts: dict[str, float]
    memory: int
    flops: float
    peak_flops: float
    peak_bytes: float
    floor_ms: float
    peak_share: float
    information_share: float
    reference_ms: float | None = None
    reference_none_ms: float | None = None
    ratio: float | None = None
    ratio_none: float | None = None


def bench_step(
    recipe: str | Path = "omgd",
    *,
    teacher: str | Path | None = None,
    data: str | Path | Sequence[str | Path] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    random_weights: bool = False,
    against: str | None = None,
    reference_precision: str = "fp32",
    steps: int | None = None,
    phase: str = "student",
    stage: str | None = None,
    threads: int | None = None,
    on_event: Event = silent,
) -> StepBench:
    """Measure the training step of a recipe. With `against` "reference", the plain step runs alternately in the same
    run.

    `steps`: measured steps after warm-up, by default 5 on a CPU and 50 on a GPU. `phase`: "student" or "teacher", for
    recipes in which they alternate. `stage`: the measured stage of a recipe with stages, by default the first that
    distils. `threads`: CPU threads, set for the rest of this process. Without `data`, images are generated. Raises the
    errors of `distill`.
    """
    if against not in (None, "reference"):
        raise UsageError(f"--against {against}: is not known; give reference, or omit it.")
    if phase not in ("student", "teacher"):
        raise UsageError(f"--phase {phase}: must be student or teacher.")
    if reference_precision not in ("fp32", "tf32"):
        raise UsageError(f"--reference-precision {reference_precision}: must be fp32 or tf32.")
    where = devices.choose(device)
    if threads is not None:
        torch.set_num_threads(threads)
    rounds = steps or (50 if where.type == "cuda" else 5)
    with TemporaryDirectory() as folder, devices.memory_errors("lower --batch or --size."):
        given = {"teacher": teacher, "data": data, "random_weights": random_weights, "stage": stage}
        made = subject(recipe, overrides, folder=Path(folder), **given)
        if made.auto:
            fit = fitting(made.facts, made.algorithm, where)
            on_event({"event": "batch", **asdict(fit)})
            made = subject(recipe, overrides, folder=Path(folder), batch=fit.batch, **given)
        cycle = made.cycle(phase)
        twins = _plain_twins(made, phase) if against else {}
        with FastRun(made.algorithm, made.plan.train, made.stream(where), where) as ours:
            flops = ours.flops(cycle)
            for _ in range(WARM_UP):
                ours.run(cycle)
            memory, batch = devices.peak_memory(where), ours.batch()
            about = batch, where, reference_precision, made.plan.train.seed
            plain = {name: PlainRun(twin, *about) for name, twin in twins.items()}
            times = _in_turns({"ours": ours, **plain}, cycle, rounds, on_event)
        return _result(made, where, phase, rounds * len(cycle), times, _medians(ours.parts), flops, memory)


def _in_turns(runs: dict, cycle: list[int], rounds: int, on_event: Event) -> dict[str, float]:
    """Median milliseconds of a step by run. The runs alternate, so that other programs slow all of them alike."""
    for name, run in runs.items():
        for _ in range(WARM_UP if name != "ours" else 0):
            run.run(cycle)
    runs["ours"].parts.clear()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name, run in runs.items():
            times[name].append(1000 * run.run(cycle))
        on_event({"event": "bench", "done": i + 1, "total": rounds})
    return {name: median(found) for name, found in times.items()}


def _result(
    made: Subject, device: torch.device, phase: str, steps: int, times: dict, parts: dict, flops: float, memory: int
) -> StepBench:
    plan, ms = made.plan, times["ours"]
    with devices.arithmetic(plan.train.precision):
        found = peak.measure(device, plan.train.precision)
    reference, none = times.get("reference"), times.get("reference_none", times.get("reference"))
    return StepBench(
        recipe=plan.name,
        device=devices.name_of(device),
        threads=torch.get_num_threads(),
        precision=plan.train.precision,
        compiled=plan.train.compile,
        phase=phase if made.alternates else None,
        batch=plan.train.batch,
        size=plan.data.size,
        information=plan.information.name,
        random=made.random,
        steps=steps,
        step_ms=ms,
        images_per_second=1000 * plan.train.batch / ms,
        parts=parts,
        memory=memory,
        flops=flops,
        peak_flops=found.flops,
        peak_bytes=found.bytes,
        floor_ms=1000 * flops / found.flops,
        peak_share=1000 * flops / found.flops / ms,
        information_share=sum(parts.get(name, 0.0) for name in ("langevin", "energy", "information")) / ms,
        reference_ms=reference,
        reference_none_ms=none,
        ratio=reference and ms / reference,
        ratio_none=none and ms / none,
    )


def _plain_twins(made: Subject, phase: str) -> dict[str, Distillation]:
    """Copies in the initial state for the plain step: with the same add-on and, if it takes part, without one."""
    twins = {"reference": deepcopy(made.algorithm)}
    if type(made.algorithm.information) is not Information and not (made.alternates and phase == "teacher"):
        twins["reference_none"] = deepcopy(made.algorithm)
        twins["reference_none"].information = Information()
    return twins


def _medians(cycles: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for cycle in cycles for name in cycle)
    return {name: median(cycle.get(name, 0.0) for cycle in cycles) for name in names}
