"""Pipelines: the stages of a recipe, each an ordinary run folder, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tomli_w
import torch

from vemcompress import recipe as recipes
from vemcompress.commands import distilling, opening, prune, teach
from vemcompress.commands.series import run_all
from vemcompress.data.sets import training_set
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.resolve import resolve, teacher_network
from vemcompress.recipe.stages import GIVES, Stage, skipped_stages
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series
from vemcompress.system import distributed
from vemcompress.training.pace import Limit
from vemcompress.weights.files import write_atomically
from vemcompress.weights.loading import Loaded, load

Event = Callable[[dict], None]
StageResult = distilling.DistillResult | teach.TeachResult | prune.PruneResult


@dataclass(frozen=True)
class PipelineResult:
    """Results by stage, and why others were `skipped`. `student` is the file of the last stage that is done and gives
    one, None before that.

    `stopped` is "until" or "max_hours" where stages are `missing`, or the last one is unfinished.
    """

    run: str
    stages: dict[str, StageResult]
    student: str | None
    skipped: dict[str, str]
    stopped: str | None = None
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        return asdict(self)


class Pipeline:
    """A folder of stages with its recipe, `changes` of this resume by stage, and what each stage is given."""

    def __init__(self, folder: Series, plan: Recipe, changes: dict[str, list[str]] | None = None):
        self.folder, self.plan, self.changes = folder, plan, changes or {}
        self.stages = {stage.name: stage for stage in plan.stages}

    @property
    def student(self) -> Path:
        return RunFolder(self.folder.path).student

    def recipe_of(self, name: str) -> Recipe:
        """A stage's own recipe, which begins with what the stages that it names have given, or the user instead."""
        stage = self.stages[name]
        plan = recipes.of_stage(self.plan, stage)
        teacher, student = self._product(stage.teacher), self._product(stage.student)
        if teacher is not None:
            plan = plan.model_copy(update={"teacher": plan.teacher.model_copy(update={"source": teacher})})
        given = getattr(self.plan.student, "source", None)
        if student is not None:
            own = AutoStudent(source=student, class_path=self._class_of(stage.student))
            plan = plan.model_copy(update={"student": own})
        elif given is not None and any(self.stages[other].do == "prune" for other in self.folder.skipped):
            plan = plan.model_copy(update={"student": AutoStudent()})  # the user's is for who takes the pruned one
        return plan

    def _product(self, name: str | None) -> str | None:
        if name is None:
            return None
        gives, run = GIVES[self.stages[name].do], self.folder.run(name)
        if name in self.folder.skipped:
            return getattr(self.plan, gives).source
        return str((run.path if gives == "teacher" else run.student).resolve())

    def _class_of(self, name: str) -> str | None:
        """The user's own class, where the student that a stage gives is of one."""
        stage = self.stages[name]
        if name in self.folder.skipped:
            return getattr(self.plan.student, "class_path", None)
        if stage.student is not None:
            return self._class_of(stage.student)
        plan = recipes.of_stage(self.plan, stage)
        return plan.teacher.class_path if stage.do == "prune" else getattr(plan.student, "class_path", None)

    def known(self, name: str) -> StageResult | None:
        """The result of a stage that is done. Raises InputError where its folder was removed."""
        if name not in self.folder.done:
            return None
        self.folder.check_there(name)
        run = self.folder.run(name)
        if self.stages[name].do == "prune":
            return prune.known(run)
        found = teach if self.stages[name].do == "teach" else distilling
        return found.known(run, self.changes.get(name, ()))

    def make(self, name: str, **options) -> StageResult:
        """Make a stage, or go on with it."""
        stage, run, plan = self.stages[name], self.folder.run(name), self.recipe_of(name)
        if stage.do == "prune":
            result = distributed.from_writer(lambda: prune.prune_run(plan, run))
        else:
            if run.recipe.is_file():
                keys = ("source", "class_path") if stage.student else ()
                moved = {key: getattr(plan.student, key) for key in keys}
                moved = [f"student.{key}={value}" for key, value in moved.items() if value is not None]
                options |= {"resume": run.path, "overrides": [*self.changes.get(name, ()), *moved]}
            else:
                options |= {"out": run.path, "recipe": plan}
            do = teach.teach if stage.do == "teach" else distilling.distill_run
            result = do(teacher=plan.teacher.source, data=plan.data.roots, **options)
        if not getattr(result, "stopped", None):
            distributed.by_writer(lambda: self.publish(name))
        return result

    def publish(self, name: str) -> None:
        """Make a stage's student the pipeline's."""
        if GIVES[self.stages[name].do] == "student":
            write_atomically(self.student, self.folder.run(name).student.read_bytes())

    def check(self, teacher: Generator | None) -> None:
        """What can be known to be wrong before the first stage runs; `teacher` is the user's. Raises the classes of
        `errors`."""
        left = [stage for stage in self.plan.stages if stage.name not in self.folder.skipped]
        for stage in left:
            self._check_teacher(stage)
        self._check_width([stage for stage in left if stage.do == "distill"])
        for stage in left:
            try:
                self._check_fit(stage, teacher)
            except (RecipeError, InputError) as error:
                raise type(error)(f"stage {stage.name}: {error}") from error

    def _check_fit(self, stage: Stage, teacher: Generator | None) -> None:
        """Whether there are images, and a stage that distils fits its teacher, also one that is still to be taught."""
        if stage.do == "prune":
            return
        plan = self.recipe_of(stage.name)
        opening.check_data(plan)
        images = training_set(plan.data, second_domain=opening.second_domain(plan), on_event=lambda event: None)
        if stage.do == "teach" or plan.gan is not None:
            return
        if stage.teacher is not None and stage.teacher not in self.folder.skipped:
            config = teacher_network(self.recipe_of(stage.teacher), images.channels())
            with torch.device("meta"):
                teacher = build_generator(config)
        if teacher is not None:
            resolve(plan, teacher, images.split_off()[0].count, teacher if stage.student else None)

    def _check_teacher(self, stage: Stage) -> None:
        plan = self.recipe_of(stage.name)
        without = stage.student is not None if stage.do == "prune" else plan.gan is not None
        if stage.do == "teach" and plan.gan is None:
            raise RecipeError(f"recipe {plan.name}: stage {stage.name}: has no [gan] to learn by; add recipe.gan.")
        if plan.teacher.source is not None or without:
            return
        if any(other.do == "teach" for other in self.plan.stages):
            raise RecipeError(
                f"recipe {plan.name}: stage {stage.name}: has no teacher; say in it by which stage, teacher = 'NAME', "
                "or give --teacher."
            )
        raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")

    def _check_width(self, stages: list[Stage]) -> None:
        keys = [key for key in ("width", "target_macs") if getattr(self.plan.student, key, None) is not None]
        if keys and stages and all(stage.student for stage in stages):
            raise RecipeError(
                f"recipe {self.plan.name}: student.{keys[0]} says nothing, because stage {stages[0].name} takes its "
                f"student from '{stages[0].student}'; leave it away, or change that stage, such as prune.share."
            )


def run_stages(
    teacher: str | Path | None,
    *,
    data: str | Path | Sequence[str | Path],
    out: str | Path | None,
    recipe: str | Path,
    overrides: Sequence[str],
    resume: str | Path | None,
    until: str | None,
    device: str,
    max_hours: Limit,
    on_event: Event,
) -> PipelineResult:
    """The stages of a recipe in the new folder `out`, or those of the folder `resume` that are left."""

    def opened() -> Pipeline:
        if resume is None:
            return _new(teacher, data, out, recipe, overrides, until, on_event)
        return _old(resume, teacher, data, overrides, until, on_event)

    pipeline = distributed.together(opened)
    folder, given = pipeline.folder, {"device": device, "max_hours": max_hours, "on_event": on_event}
    on_event({"event": "stages", "recipe": pipeline.plan.name, "stages": _told(pipeline)})
    results, missing = run_all(
        folder,
        known=pipeline.known,
        make=lambda name: pipeline.make(name, **given),
        limit=max_hours,
        on_event=on_event,
        recipe=tomli_w.dumps(pipeline.plan.stated()),
        until=until,
    )
    gave = [name for name in results if GIVES[pipeline.stages[name].do] == "student"]
    finished = [name for name in gave if name in folder.done]
    if finished and not pipeline.student.is_file():  # it was removed
        distributed.by_writer(lambda: pipeline.publish(finished[-1]))
    return _result(pipeline, results, missing)


def known(path: str | Path, overrides: Sequence[str] = ()) -> PipelineResult | None:
    """The result of a pipeline that is done; None where it is not, or not with these overrides."""
    pipeline = _old(path, None, (), overrides, None, lambda event: None)
    names = [name for name in pipeline.stages if name not in pipeline.folder.skipped]
    results = {name: pipeline.known(name) for name in names}
    return _result(pipeline, results, ()) if all(results.values()) else None


def check_resume(path: str | Path, overrides: Sequence[str]) -> None:
    """Raises the classes of `errors` where a pipeline cannot go on so."""
    _old(path, None, (), overrides, None, lambda event: None)


def _result(pipeline: Pipeline, results: dict[str, StageResult], missing: tuple[str, ...]) -> PipelineResult:
    unfinished = [result.stopped for result in results.values() if getattr(result, "stopped", None)]
    stopped = unfinished[0] if unfinished else None
    if missing and stopped is None:
        stopped = "until"
    student = str(pipeline.student) if pipeline.student.is_file() else None
    return PipelineResult(str(pipeline.folder.path), results, student, pipeline.folder.skipped, stopped, missing)


def _new(teacher, data, out, recipe, overrides: Sequence[str], until: str | None, on_event: Event) -> Pipeline:
    plan = recipes.read(recipe, overrides)
    _check_until(plan, until)
    plan = opening.located_stages(opening.located(plan, teacher, data, on_event))
    plan, loaded = _with_teacher(plan)
    names, skipped = [stage.name for stage in plan.stages], _skipped(plan, loaded)
    pipeline = Pipeline(Series(out or ".", "stages", names, skipped=skipped), plan)
    if until in skipped:
        raise UsageError(f"--until {until}: that stage is skipped, because {skipped[until]}; name another.")
    pipeline.check(loaded and loaded.generator)
    if out is None:
        raise UsageError("no output: give --out RUN, a new folder for the stages' runs.")
    pipeline.folder.check_new()
    return pipeline


def _with_teacher(plan: Recipe) -> tuple[Recipe, Loaded | None]:
    """The user's teacher, None where there is none; a Hub revision is pinned, as the Hub may move on between stages."""
    source = plan.teacher.source
    if source is None:
        return plan, None
    loaded = load(source, class_path=plan.teacher.class_path, norm=plan.teacher.norm)
    if loaded.revision and "@" not in source:
        pinned = plan.teacher.model_copy(update={"source": f"{source}@{loaded.revision}"})
        plan = plan.model_copy(update={"teacher": pinned})
    return plan, loaded


def _old(path, teacher, data, overrides: Sequence[str], until: str | None, on_event: Event) -> Pipeline:
    """The pipeline of a folder. Overrides are of the stages that are not done, or else of the last one."""
    folder = Series.read(path, "stages")
    if not folder.recipe.is_file():
        raise InputError(f"{path}: none of its stages has begun; start them anew, with --out {path}.")
    plan = recipes.read(folder.recipe)
    if folder.items != [stage.name for stage in plan.stages]:
        raise InputError(f"{folder.list}: names other stages than {folder.recipe}; put the file back that was there.")
    _check_until(plan, until)
    names = [name for name in folder.items if name not in folder.skipped]
    for name in names:
        folder.check_there(name)
    open_ = [name for name in names if name not in folder.done] or names[-1:]
    changes: dict[str, list[str]] = {name: [] for name in open_}
    for override in overrides:
        stages, _, rest = override.partition(".")
        name, _, own = rest.partition(".") if stages.strip() == "stages" else ("", "", "")
        if name in names and name not in open_:
            raise UsageError(f"--set {override}: stage {name} is done, and later ones begin with it; start a new run.")
        for open_name in [name] if name in changes else open_:
            changes[open_name].append(own or override)
    plan = recipes.with_changes(plan, overrides, open_)
    plan = opening.located_stages(opening.located(plan, teacher, data, on_event))
    pipeline = Pipeline(folder, plan, changes)
    for name in open_:  # overrides that a stage cannot take are known before another goes on
        run, stage = folder.run(name), pipeline.stages[name]
        if run.recipe.is_file() and stage.do != "prune":
            opening.open_recipe(run.recipe, changes[name], run.path, stage.do)
    return pipeline


def _check_until(plan: Recipe, until: str | None) -> None:
    names = [stage.name for stage in plan.stages]
    if until is not None and until not in names:
        raise UsageError(f"--until {until}: recipe {plan.name} has no such stage; its stages are {', '.join(names)}.")


def _skipped(plan: Recipe, loaded: Loaded | None) -> dict[str, str]:
    """Stages whose product the user brings, and why. Raises RecipeError for a teacher of another family."""
    brought = {}
    for stage in plan.stages if loaded is not None else ():
        network = recipes.of_stage(plan, stage).teacher.network if stage.do == "teach" else None
        if network is not None and network.family != loaded.generator.family:
            raise RecipeError(
                f"recipe {plan.name}: stage {stage.name} gives a {network.family}, and {loaded.source} is a "
                f"{loaded.generator.family}; give one of that family, or leave --teacher away so that it is taught."
            )
        brought["teach"] = "the teacher is given"
    if getattr(plan.student, "source", None):
        brought["prune"] = "the student is given"
    return skipped_stages(plan.stages, brought)


def _told(pipeline: Pipeline) -> list[dict]:
    """The plan: of each stage, what it does and whether it will be done."""
    folder, told = pipeline.folder, []
    for stage in pipeline.plan.stages:
        begun = folder.run(stage.name).recipe.is_file()
        state = "done" if stage.name in folder.done else "goes on" if begun else "to do"
        skipped = folder.skipped.get(stage.name)
        told.append({"name": stage.name, "do": stage.do, "state": f"skipped, {skipped}" if skipped else state})
    return told
