"""One distillation run: teacher, recipe and images in, run folder with a student out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from vemcompress.algorithms import ALGORITHMS, Distillation
from vemcompress.commands import afterwards, largest_batch, line, opening, parts, sizing
from vemcompress.commands.dry import DryRun, dry_run
from vemcompress.commands.facts import Facts, read
from vemcompress.commands.opening import Given
from vemcompress.commands.report import reported
from vemcompress.errors import RecipeError
from vemcompress.gans import new_generator
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.features import FeatureNetwork
from vemcompress.recipe import Recipe
from vemcompress.runs.best import Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.shares import information_share
from vemcompress.runs.teacher_cache import CachePlan
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, Once, silent
from vemcompress.system.names import OF_TEACHER, PAIRS
from vemcompress.weights.custom import check_range
from vemcompress.weights.loading import Loaded
from vemcompress.weights.outside import tell_device


@dataclass(frozen=True, kw_only=True)
class DistillResult(line.RunResult):
    """A run, and the file of its `student`, which has `parameters`.

    `teacher_parameters` is None if only the teacher's outputs are known. `teacher_macs` (by convention, as `macs`) is
    None if they are not known. `information_share` is the add-on's share of the gradient at the student's image: the
    median over the steps that logged it, or None. `goal` says how a requested latency or file size is met: its
    `target`, `predicted` and `measured` values in `unit`.
    """

    student: str
    teacher_parameters: int | None
    teacher_macs: dict[str, int] | None = None
    information_share: float | None = None
    goal: dict | None = None


def distill_run(given: Given) -> DistillResult | DryRun:
    """`distill` with a recipe without stages: one run."""
    given.limit.begin()
    given = replace(given, on_event=Once(given.on_event))
    sized = distributed.from_writer(lambda: sizing.asked(given))
    adapt = partial(sizing.stand_in, width=sized and sized[0])
    settled = largest_batch.settled("distill", given, adapt, _on_trial)
    facts = distributed.together(lambda: read("distill", given, lambda plan: settled(adapt(plan))))
    with devices.memory_errors(facts.advice):
        result = _run(facts, given, sized[1] if sized else distributed.from_writer(lambda: line.goal_of(facts.run)))
    if isinstance(result, DryRun):
        return result
    page = distributed.from_writer(lambda: reported(facts.run.path, given.on_event))
    return replace(result, report=page, next=_next(result, facts.plan))


def known(run: RunFolder, overrides: Sequence[str] = ()) -> DistillResult | None:
    """The result of a finished run, from its files; None if it is not finished with these overrides."""

    def result(told: dict, made: dict) -> DistillResult:
        counts = {"parameters": line.parameters_of(made, "student")}
        counts |= {"macs": line.macs_of(made, "student"), "teacher_macs": line.macs_of(made, "teacher")}
        recorded = made["teacher"]["source"] == PAIRS
        counts["teacher_parameters"] = None if recorded else line.parameters_of(made, "teacher")
        about = {"information_share": information_share(run.metrics), "goal": line.goal_of(run)}
        return DistillResult(student=str(run.student), **about, **counts, **told)

    return line.known(run, overrides, "distill", result)


def _run(facts: Facts, given: Given, goal: dict | None) -> DistillResult | DryRun:
    device, on_event = given.where, given.on_event
    features = parts.features_of(facts.plan, device)
    parts.equip(facts.gan, facts.plan, device)
    facts = parts.calibrated(facts, features, device, on_event)
    made = {} if not facts.frozen else {"teacher": parts.at_work(facts.original, facts.inputs, device).cpu()}
    if made:
        check_range(facts.original, made["teacher"], on_event)
        tell_device(facts.original, device, on_event)
    with distributed.alike():
        pick = parts.picker(facts, features, device, on_event)
        judge = parts.judge_of_teachers(facts, features, device, on_event)
    told = silent if given.resume is not None else on_event  # a resumed run already has its discriminator
    plan, algorithm = facts.plan, _algorithm(facts, features, judge, told)
    with distributed.alike():
        cache = _cache(facts, algorithm, device, on_event)
    algorithm.about = {} if goal is None else {"goal": json.dumps(goal)}
    networks = {
        "teacher": facts.provenance | ({} if plan.from_pairs else line.described(facts.original, plan.data.size)),
        "student": line.described(algorithm.student, plan.data.size) | ({} if goal is None else {"goal": goal}),
    }
    if given.dry:
        return dry_run(facts, given, algorithm, _events(facts, networks))
    told = line.trained(
        "distill",
        facts,
        given,
        algorithm,
        pick,
        networks,
        _events(facts, networks),
        made=made,
        during=lambda stream: _cached(cache, facts, algorithm, stream, on_event),
    )
    counts = {name: networks[name].get("parameters") for name in networks}
    share = distributed.from_writer(lambda: information_share(facts.run.metrics))
    return DistillResult(
        student=str(facts.run.student),
        parameters=counts["student"],
        teacher_parameters=counts["teacher"],
        macs=line.macs_of(networks, "student"),
        teacher_macs=line.macs_of(networks, "teacher"),
        information_share=share,
        goal=goal,
        **told,
    )


def _next(result: DistillResult, plan: Recipe) -> tuple[str, ...]:
    if result.stopped:
        return (afterwards.resume("distill", result.run),)
    return afterwards.of_student(result.run, result.best_in, getattr(plan.student, "class_path", None))


def _on_trial(facts: Facts, given: Given) -> Distillation:
    """The learner of this run, for trial steps that are discarded."""
    features = parts.features_of(facts.plan, given.where)
    parts.equip(facts.gan, facts.plan, given.where)
    return _algorithm(parts.calibrated(facts, features, given.where, silent), features, None, silent)


def _algorithm(facts: Facts, features: FeatureNetwork | None, judge: Picker | None, on_event: Event) -> Distillation:
    plan, student = facts.plan, facts.student and _starting(facts.student, facts.plan)
    built_of = plan if facts.loaded is None else opening.with_adversary(plan, facts.loaded, on_event)
    build = partial(parts.distillation, built_of, facts.original, features, gan=facts.gan, student=student, judge=judge)
    return distributed.together(build)  # an adversary's file is read here


def _starting(given: Loaded, plan: Recipe) -> Generator:
    """The user's student in the form that is trained. With `student.fresh`, only its shape is used, with new weights.

    Untrained weights are also drawn again if the file holds them in another form, because folding a spectral norm
    changes their scale.
    """
    student = given.generator.learning()
    if not plan.student.fresh and (student is given.generator or not given.is_fresh):
        return student
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        return new_generator(student.config)


def _cache(facts: Facts, algorithm: Distillation, device: torch.device, on_event: Event) -> CachePlan | None:
    """The teacher's cache, if the recipe has one; its maximum size is reported. Raises OutputError if the disk has no
    room for it."""
    plan = facts.plan
    if not plan.train.teacher_cache:
        return None
    if plan.from_pairs:
        told = (
            "the teacher's outputs are given as files, so nothing is cached; train.teacher_cache only fixes the views"
        )
        on_event({"event": "assumed", "model": PAIRS, "assumed": told})
        return None
    if algorithm.second:
        raise RecipeError(
            f"recipe {plan.name}: train.teacher_cache stores the teacher's outputs for one batch per step, but this "
            "student needs two; omit it."
        )
    teacher = algorithm.teacher.to(device)
    teacher.bf16 = plan.train.precision == "bf16"
    about = plan.teacher.model_dump(mode="json", include={"class_path", "norm"})
    about |= plan.teacher.model_dump(mode="json", include={"padding", "range"}, exclude_none=True)
    made_by = {
        "teacher": about | {"sha256": facts.loaded.sha256},
        "precision": plan.train.precision,
        "seed": plan.train.seed,
        "data": plan.data.model_dump(mode="json", exclude={"roots", "recursive", "workers", "on_device"}),
    }
    example = teacher.ask(facts.inputs[:1].to(device), algorithm.teacher_taps)
    cache = CachePlan.of(made_by, plan.train.teacher_cache, example, facts.images.paths)
    on_event(cache.check_room(facts.run.teacher_cache))
    return cache


@contextmanager
def _cached(cache: CachePlan | None, facts: Facts, algorithm: Distillation, stream, on_event: Event) -> Iterator[None]:
    """While inside, the outputs of the frozen teacher are read from the cache, if there is one."""
    if cache is None:
        yield
        return
    with cache.opened(facts.run.teacher_cache, stream.keys, on_event) as algorithm.teacher.recall:
        yield


def _events(facts: Facts, networks: dict) -> list[dict]:
    plan, gan = facts.plan, facts.gan
    beside = list(gan.artifacts().items())[1:] if facts.learns else []
    events = [{
        "event": "plan",
        "algorithm": plan.algorithm.model_dump(exclude_none=True, exclude=set(Distillation.Settings.model_fields)),
        "features": ALGORITHMS[plan.algorithm.name].features_of(plan.algorithm)[0],
        "information": plan.information.model_dump(exclude_none=True),
        "gan": plan.gan.name if plan.learns else None,
        "gan_lr": plan.gan.lr if plan.learns else None,
        "beside": {name: count_parameters(network) for name, network in beside},
        **networks,
    }]  # fmt: skip
    begins_as_teacher = getattr(plan.student, "source", None) == OF_TEACHER  # and becomes smaller later
    known = networks["teacher"].get("parameters")  # None for a function or for pairs
    if not begins_as_teacher and known and not _is_smaller(networks["student"], networks["teacher"]):
        message = "the student is not smaller than its teacher; choose --width or --target-macs."
        events.append({"event": "warning", "message": message})
    return events


def _is_smaller(student: dict, teacher: dict) -> bool:
    """In parameters and, if both are known, in MACs."""
    if student["parameters"] >= teacher["parameters"]:
        return False
    return not (student["macs"] and teacher["macs"]) or student["macs"]["true"] < teacher["macs"]["true"]
