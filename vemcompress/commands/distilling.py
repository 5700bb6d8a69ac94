"""One run of distillation: from a teacher, a recipe and images to a run folder with a student in it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vemcompress.algorithms import ALGORITHMS, Distillation
from vemcompress.commands import facts as line_facts
from vemcompress.commands import line, parts
from vemcompress.commands.facts import Facts
from vemcompress.networks.base import count_parameters
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.teacher_cache import CachePlan
from vemcompress.system import devices, distributed
from vemcompress.training.pace import Limit
from vemcompress.weights.files import write_atomically

Event = Callable[[dict], None]


@dataclass(frozen=True)
class DistillResult:
    """A run. `seconds_per_step`, without saving, is None where no step was needed; losses are those logged last.

    `best` is what best/best.json says of the best checkpoint, None where none was picked. `stopped` is "max_hours"
    where the time was over after `steps` of `total_steps`, None for a run that is finished.
    """

    run: str
    student: str
    steps: int
    parameters: int
    teacher_parameters: int
    losses: dict[str, float]
    seconds_per_step: float | None
    skipped_images: int
    best: dict | None = None
    stopped: str | None = None
    total_steps: int | None = None

    def as_dict(self) -> dict:
        return asdict(self)


def distill_run(
    teacher: str | Path | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path | Recipe = "omgd",
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = lambda event: None,
) -> DistillResult:
    """One run, as `distill.distill` of a recipe without stages."""
    limit, where = Limit.of(max_hours), devices.choose(device)
    given = {"teacher": teacher, "data": data, "out": out, "recipe": recipe, "overrides": overrides, "resume": resume}
    with distributed.group(where):
        on_event = distributed.told_by_writer(on_event)
        facts = distributed.together(lambda: line_facts.read("distill", on_event=on_event, **given))
        with devices.memory_errors(facts.advice):
            return _run(facts, where, resume is not None, limit, on_event)


def known(run: RunFolder, overrides: Sequence[str] = ()) -> DistillResult | None:
    """The result of a run that is done, from its files; None where it is not, or not with these overrides."""

    def result(told: dict, made: dict) -> DistillResult:
        counts = {"parameters": made["student"]["parameters"], "teacher_parameters": made["teacher"]["parameters"]}
        return DistillResult(run=str(run.path), student=str(run.student), **counts, **told)

    return line.known(run, overrides, "distill", result)


def _run(facts: Facts, device: torch.device, resumed: bool, limit: Limit, on_event: Event) -> DistillResult:
    features = parts.features_of(facts.plan, device)
    facts = parts.calibrated(facts, features, device, on_event)
    columns = dict(facts.columns)
    if facts.gan is None:
        columns["teacher"] = parts.at_work(facts.original, facts.inputs, device).cpu()
    with distributed.alike():
        pick = parts.picker(facts, features, device)
        judge = parts.judge_of_teachers(facts, features, device)
    plan, run, student = facts.plan, facts.run, facts.student and facts.student.generator
    algorithm = parts.distillation(plan, facts.original, features, gan=facts.gan, student=student, judge=judge)
    with distributed.alike():
        cache = _cache(facts, algorithm, device, on_event)
    distributed.by_writer(run.create)
    with distributed.held_by_writer(run.locked):
        if not resumed:  # from here on the run can be resumed
            distributed.by_writer(lambda: write_atomically(run.recipe, plan.toml().encode()))
        train, channels = plan.train, facts.original.channels
        stream = facts.images.stream(channels, train.batch, train.seed, on_event, device, train.teacher_cache)
        networks = {
            "teacher": facts.provenance | line.described(facts.original, plan.data.size),
            "student": line.described(algorithm.student, plan.data.size),
        }
        picture = "data.png" if facts.gan else "teacher.png"
        ready = line.Ready("distill", facts, algorithm, stream, device, pick, columns, picture, networks)
        trainer = line.trained(
            ready,
            resumed,
            limit,
            on_event,
            announce=lambda state: _announce(facts, networks, device, on_event, state),
            during=_cached(cache, facts, algorithm, stream, on_event),
        )
        return DistillResult(
            run=str(run.path),
            student=str(run.student),
            parameters=networks["student"]["parameters"],
            teacher_parameters=networks["teacher"]["parameters"],
            **line.outcome(trainer, on_event),
        )


def _cache(facts: Facts, algorithm: Distillation, device: torch.device, on_event: Event) -> CachePlan | None:
    """Say how large the teacher's cache can become, where there is one. Raises OutputError for a full disk."""
    plan = facts.plan
    if not plan.train.teacher_cache:
        return None
    teacher = algorithm.teacher.to(device)
    teacher.bf16 = plan.train.precision == "bf16"
    made_by = {
        "teacher": plan.teacher.model_dump(mode="json", include={"class_path", "norm"})
        | {"sha256": facts.loaded.sha256},
        "precision": plan.train.precision,
        "seed": plan.train.seed,
        "data": plan.data.model_dump(mode="json", exclude={"roots", "workers", "on_device"}),
    }
    example = teacher.ask(facts.inputs[:1].to(device), algorithm.teacher_taps)
    cache = CachePlan.of(made_by, plan.train.teacher_cache, example, facts.images.paths)
    on_event(cache.check_room(facts.run.teacher_cache))
    return cache


@contextmanager
def _cached(cache: CachePlan | None, facts: Facts, algorithm: Distillation, stream, on_event: Event) -> Iterator[None]:
    """While inside, the frozen teacher's outputs come from disk, where the recipe wants that."""
    if cache is None:
        yield
        return
    with cache.opened(facts.run.teacher_cache, stream.keys, on_event) as algorithm.teacher.recall:
        yield


def _announce(facts: Facts, networks: dict, device: torch.device, on_event: Event, state: dict) -> None:
    plan, gan = facts.plan, facts.gan
    teacher, student = networks["teacher"], networks["student"]
    beside = list(gan.artifacts().items())[1:] if gan else []
    on_event({
        "event": "plan",
        "algorithm": plan.algorithm.model_dump(exclude_none=True, exclude=set(Distillation.Settings.model_fields)),
        "features": ALGORITHMS[plan.algorithm.name].features_of(plan.algorithm)[0],
        "information": plan.information.model_dump(exclude_none=True),
        "gan": plan.gan.name if plan.gan else None,
        "gan_lr": plan.gan.lr if plan.gan else None,
        "beside": {name: count_parameters(network) for name, network in beside},
        "teacher": teacher,
        "student": student,
        **line.told(facts, device),
        **state,
    })  # fmt: skip
    if student["parameters"] >= teacher["parameters"]:
        message = "the student is not smaller than its teacher; choose --width or --target-macs."
        on_event({"event": "warning", "message": message})
