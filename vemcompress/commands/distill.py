"""`distill`: train a student from a teacher, in one run or in the stages of a recipe, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import tomli_w

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.commands import afterwards, opening
from vemcompress.commands.distilling import DistillResult, distill_run
from vemcompress.commands.dry import DryRun
from vemcompress.commands.facts import read
from vemcompress.commands.given_images import Data, kept
from vemcompress.commands.line import Reported
from vemcompress.commands.opening import Given
from vemcompress.commands.pipeline import Pipeline, StageResult
from vemcompress.commands.pipeline_checks import Checks
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.prune import PruneResult, check_prunable, prune_again
from vemcompress.commands.report import reported
from vemcompress.commands.search import SearchResult, search_again
from vemcompress.commands.series import run_all
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.recipe import Recipe
from vemcompress.recipe.stages import GIVES, TABLES, Stage, meant, skipped_stages
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.keys import DistillKeys, Overrides, as_overrides
from vemcompress.training.pace import Limit
from vemcompress.weights.features import load_features
from vemcompress.weights.hub import is_hub
from vemcompress.weights.loading import Loaded
from vemcompress.weights.modules import Model, source_of


@dataclass(frozen=True)
class PipelineResult(Reported):
    """The results by stage. `skipped` says why other stages were skipped. `student` is the file of the last finished
    stage that has a student, or None before that.

    `stopped` is "until" or "max_hours" if stages are `missing` or the last one is unfinished. `report` and `next` are
    the same as in `RunResult`.
    """

    run: str
    stages: dict[str, StageResult]
    student: str | None
    skipped: dict[str, str]
    stopped: str | None = None
    missing: tuple[str, ...] = ()
    report: str | None = None
    next: tuple[str, ...] = ()


@shows_progress
def distill(
    teacher: Model | None = None,
    *,
    data: Data = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Overrides = (),
    resume: str | Path | None = None,
    until: str | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    dry_run: bool = False,
    tensorboard: bool = False,
    on_event: Event = silent,
    progress: bool = False,
    **keys: Unpack[DistillKeys],
) -> DistillResult | PipelineResult | PruneResult | SearchResult | DryRun:
    """Train a small student that imitates `teacher`, in the new run folder `out`, or continue a run.

        result = vemcompress.distill("netG.pth", data="photos/", out="runs/small", steps=2000, width=16, progress=True)

    Arguments:
        teacher: a weight file (.pth, .safetensors, .onnx), a run folder, "hf://user/repo[/file][@revision]",
            an nn.Module, or another callable from images to images, B x 3 x H x W in [-1, 1]. A module is
            copied, not changed. To resume, pass the same module or callable again; the run checks its tensors,
            or a callable's name and code. If the recipe has [gan], the teacher is trained too: from these
            weights, or from new ones if it is None.
        data: a folder of images, the root of trainA/, train/ and the like, a list of folders; or images, a
            list or a Dataset of PIL images, uint8 arrays H x W x 3, or tensors 3 x H x W (uint8, or floats in
            [-1, 1]). Images are kept in RUN/given_images.
        out: the run folder, which must be new.
        recipe: a name from `vemcompress recipes list`, or a .toml file. "omgd" by default.
        overrides: any keys of the recipe, {"train.steps": 30} or ["train.steps=30"].
        resume: a run folder to continue, instead of `out`; `teacher` and `data` are needed only if files
            have moved.
        until: the last stage to run now, for a recipe with stages.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps".
        max_hours: save and return before this many hours have passed since the call, but not before one step.
        dry_run: check everything, print the plan and time a few steps (for a recipe with stages, of the first
            stage). Nothing is written.
        tensorboard: also write event files into RUN/tensorboard, which needs `pip install
            'vemcompress[tensorboard]'`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.
        keys: keys of the recipe, by their short names. With None, the default, the recipe decides.
            steps, epochs: how long to train; give one of them.
            batch: images per step, or "auto" for the largest power of two that fits into memory.
            micro_batch: images of the batch to process at a time; fewer need less memory.
            size: side of the square training images, pixels.
            lr: learning rate. seed: of the weights and the order of the data.
            width: channels of the student's first layer (16). Instead of it, a target can be given:
            target_macs: maximum number of true MACs per image.
            target_latency: maximum time per image (ms, or "20ms"), in the runtime `on` with `threads` threads.
            target_size: maximum size of the .onnx file (bytes, or "500KB").
            multiple: with a target, the width is a multiple of this number.
            student: weights that the student starts from. student_class: their class, "module:Class".
            precision: "fp32", "tf32" or "bf16". compile: use torch.compile.
            strict: raise NumericalError if the run diverges.
            direction: which side of the data is the input, "AtoB" or "BtoA".
            teacher_class, teacher_key, teacher_padding, teacher_range: how to read the teacher; as for
                `load_generator`.

    Returns:
        DistillResult: `run` (folder), `student` (file), `steps`, `losses` by name (of the last logged step),
        `best` (the best checkpoint) and more. A recipe with stages returns a PipelineResult, and `out` has a
        run folder for each stage. Resuming a stage that prunes or searches returns a PruneResult or
        SearchResult. `dry_run` returns a DryRun.

    Raises:
        The classes of `vemcompress.errors`, checked in this order: recipe (RecipeError), teacher and data
        (InputError), output (UsageError, OutputError). NumericalError for NaN or Inf in a loss, Interrupted
        after Ctrl-C. After an error, the run keeps its last checkpoint and can be resumed.

    Processes started by torchrun train together, and all of them return the result.
    """
    overrides = as_overrides(overrides, keys, DistillKeys)
    limit = Limit.of(max_hours)
    given = Given(
        source_of(teacher), data, out, recipe, overrides, resume, device, limit, on_event, dry_run, tensorboard
    )
    with given.shared() as given, kept(given) as given:
        return distilled(given, until)


def distilled(
    given: Given, until: str | None = None
) -> DistillResult | PipelineResult | PruneResult | SearchResult | DryRun:
    """`distill` within a group of processes that has been set up."""
    kind = distributed.together(lambda: _kind(given, until))
    if kind == "stages":
        return _run_stages(given, until)
    if kind == "search":
        return search_again(RunFolder(given.resume), given)
    if kind == "prune":
        more = given.overrides, given.where, given.on_event
        return distributed.from_writer(lambda: prune_again(RunFolder(given.resume), *more))
    return distill_run(given)


def _kind(given: Given, until: str | None) -> str:
    """What to run: "run", "stages", or the name of a stage's command, "prune" or "search"."""
    folder = None if given.resume is None else RunFolder(given.resume)
    if folder is not None and is_series(folder.path, "stages"):
        return "stages"
    plan = recipes.read(given.recipe, given.overrides) if folder is None else None
    if folder is not None and folder.recipe.is_file():
        folder.check_existing()
        plan = recipes.read(folder.recipe)
    if until is not None and not (plan and plan.stages):
        raise UsageError("--until needs a recipe with stages, and this recipe has none; omit --until.")
    if plan is not None and plan.stages:
        return "stages"
    return next((do for do in TABLES if folder and plan and getattr(plan, do) is not None), "run")


def _run_stages(given: Given, until: str | None) -> PipelineResult | DryRun:
    """Run the stages of a recipe in a new folder, or the remaining stages of an existing folder."""
    pipeline = distributed.together(lambda: (_new if given.resume is None else _old)(given, until))
    folder, on_event = pipeline.folder, given.on_event
    on_event({"event": "stages", "recipe": pipeline.plan.name, "stages": _told(pipeline)})
    if given.dry:
        return _tried(pipeline, given)
    results, missing = run_all(
        folder,
        known=pipeline.known,
        make=lambda name: pipeline.make(name, given),
        limit=given.limit,
        on_event=on_event,
        recipe=tomli_w.dumps(pipeline.plan.stated()),
        until=until,
    )
    gave = [name for name in results if GIVES[pipeline.stages[name].do] == "student"]
    finished = [name for name in gave if name in folder.done]
    if finished:  # the stage may have been resumed alone, or the copy may have been removed
        distributed.by_writer(lambda: pipeline.publish(finished[-1]))
    page = distributed.from_writer(lambda: reported(folder.path, on_event))
    result = _result(pipeline, results, missing)
    best_in = getattr(list(results.values())[-1], "best_in", None) if results else None
    ended = afterwards.of_student(folder.path, best_in, pipeline.own_class) if result.student else ()
    more = (afterwards.resume("distill", folder.path),) if result.stopped else ended
    return replace(result, report=page, next=more)


def _tried(pipeline: Pipeline, given: Given) -> DryRun:
    """A dry run of the first stage, if that stage trains."""
    first, *later = (name for name in pipeline.stages if name not in pipeline.folder.skipped)
    if pipeline.stages[first].do in TABLES:
        found = DryRun(run=str(pipeline.folder.path), recipe=pipeline.plan.name, device=given.where.type)
    else:
        found = pipeline.make(first, given)
    return replace(found, run=str(pipeline.folder.path), stage=first, later=tuple(later))


def known(path: str | Path, overrides: Sequence[str] = ()) -> PipelineResult | None:
    """The result of a finished pipeline; None if it is not finished with these overrides."""
    pipeline = _old(Given(resume=path, overrides=overrides))
    names = [name for name in pipeline.stages if name not in pipeline.folder.skipped]
    results = {name: pipeline.known(name) for name in names}
    return _result(pipeline, results, ()) if all(results.values()) else None


def check_resume(path: str | Path, overrides: Sequence[str]) -> None:
    """Raises the classes of `errors` if the pipeline cannot continue with these overrides."""
    _old(Given(resume=path, overrides=overrides))


def _result(pipeline: Pipeline, results: dict[str, StageResult], missing: tuple[str, ...]) -> PipelineResult:
    unfinished = [result.stopped for result in results.values() if getattr(result, "stopped", None)]
    stopped = unfinished[0] if unfinished else None
    if missing and stopped is None:
        stopped = "until"
    student = str(pipeline.student) if pipeline.student.is_file() else None
    return PipelineResult(str(pipeline.folder.path), results, student, pipeline.folder.skipped, stopped, missing)


def _new(given: Given, until: str | None) -> Pipeline:
    out = given.out
    _check_until(recipes.read(given.recipe, given.overrides), until)
    plan, loaded = _with_teacher(stated(given))
    if loaded is not None and loaded.generator.takes.kind == "image":
        plan = plan.but(data=plan.data.for_only(loaded.generator.takes.only))
    names, skipped = [stage.name for stage in plan.stages], _skipped(plan, loaded)
    if loaded and any(stage.do == "prune" and stage.name not in skipped for stage in plan.stages):
        check_prunable(loaded)
    pipeline = Pipeline(Series(out or ".", "stages", names, skipped=skipped), plan)
    if until in skipped:
        raise UsageError(f"--until {until}: this stage is skipped, because {skipped[until]}; name another stage.")
    Checks(pipeline).check(loaded and loaded.generator)
    if out is None:
        raise UsageError("no output: give --out RUN, a new folder for the runs of the stages.")
    pipeline.folder.check_new()
    return pipeline


def stated(given: Given) -> Recipe:
    """The recipe of a new run or pipeline with absolute paths, before its open values are resolved."""
    asked = recipes.read(given.recipe, given.overrides)
    plan = opening.located(asked, given.teacher, given.data, given.on_event)
    if plan.data.fits != asked.data.fits:  # the teacher's data are of another kind, and a recipe can depend on the kind
        plan = recipes.read(given.recipe, given.overrides, kind=plan.data.fits)
        plan = opening.located(plan, given.teacher, given.data)
    return opening.located_stages(plan)


def pinned(plan: Recipe) -> Recipe:
    """The recipe with the exact revision of a teacher on the Hub, because the Hub's newest revision may change."""
    return _with_teacher(plan)[0] if is_hub(plan.teacher.source or "") else plan


def check_new(given: Given) -> None:
    """Check a new run or pipeline before anything is computed or written. Raises the classes of `errors`."""
    if recipes.read(given.recipe, given.overrides).stages:
        _new(given, None)
    else:
        algorithm = read("distill", given).plan.algorithm
        load_features(*ALGORITHMS[algorithm.name].features_of(algorithm))


def _with_teacher(plan: Recipe) -> tuple[Recipe, Loaded | None]:
    """The recipe and the user's teacher, or None if there is none. The revision of a teacher on the Hub is fixed,
    because the newest one may change between stages."""
    source = plan.teacher.source
    if source is None:
        return plan, None
    loaded = opening.load_teacher(plan)
    if loaded.revision and "@" not in source:
        plan = plan.but(teacher=plan.teacher.but(source=f"{source}@{loaded.revision}"))
    return plan, loaded


def _old(given: Given, until: str | None = None) -> Pipeline:
    """The pipeline of a folder. Overrides apply to the stages that are not finished, or to the last one if all are."""
    path, overrides = given.resume, given.overrides
    folder = Series.read(path, "stages")
    if not folder.recipe.is_file():
        raise InputError(f"{path}: none of its stages has started; start again with --out {path}.")
    folder.check_existing()
    plan = recipes.read(folder.recipe)
    if folder.items != [stage.name for stage in plan.stages]:
        raise InputError(f"{folder.list}: names other stages than {folder.recipe}; restore the original file.")
    _check_until(plan, until)
    names = [name for name in folder.items if name not in folder.skipped]
    for name in names:
        folder.check_there(name)
        opening.check_moved(folder.run(name), given.teacher, plan.teacher.source)
    open_ = [name for name in names if name not in folder.done] or names[-1:]
    changes: dict[str, list[str]] = {name: [] for name in open_}
    for override in overrides:
        stages, _, rest = override.partition(".")
        name, _, own = rest.partition(".") if stages.strip() == "stages" else ("", "", "")
        if name in names and name not in open_:
            raise UsageError(
                f"--set {override}: stage {name} is finished, and later stages depend on it; start a new run."
            )
        for_ = [name] if name in changes else meant(plan.stages, open_, override)
        if not for_:
            raise UsageError(f"--set {override}: applies to no unfinished stage; omit it, or start a new run.")
        for open_name in for_:
            changes[open_name].append(own or override)
    plan = recipes.with_changes(plan, overrides, open_)
    plan = opening.located_stages(opening.located(plan, given.teacher, given.data, given.on_event))
    pipeline = Pipeline(folder, plan, changes)
    for name in open_:  # report an override that a stage does not accept before another stage continues
        run, stage = folder.run(name), pipeline.stages[name]
        if run.recipe.is_file() and stage.do not in TABLES:
            opening.open_recipe(run.recipe, changes[name], run.path, stage.do)
    if any(changes[name] and not folder.run(name).recipe.is_file() for name in open_):
        loaded = _with_teacher(plan)[1]
        Checks(pipeline).check(loaded and loaded.generator)
    return pipeline


def _check_until(plan: Recipe, until: str | None) -> None:
    names = [stage.name for stage in plan.stages]
    if until is not None and until not in names:
        raise UsageError(f"--until {until}: recipe {plan.name} has no such stage; its stages are {', '.join(names)}.")


def _skipped(plan: Recipe, loaded: Loaded | None) -> dict[str, str]:
    """Stages whose product the user supplies, with the reason. Raises RecipeError for a teacher of another family."""
    brought = {}
    for stage in plan.stages if loaded is not None else ():
        taken = stage.do == "teach" and stage.replaceable
        network = recipes.of_stage(plan, stage).teacher.network if taken else None
        stated = network if _states_family(stage) else None
        if stated is not None and stated.family != loaded.generator.family:
            raise RecipeError(
                f"recipe {plan.name}: stage {stage.name} trains a teacher of the family {stated.family}, but "
                f"{loaded.source} is of the family {loaded.generator.family}; give a teacher of the family "
                f"{stated.family}, or omit --teacher to train one."
            )
        brought["teach"] = "the teacher is given"
    if getattr(plan.student, "source", None):
        brought["prune"] = "the student is given"
    return skipped_stages(plan.stages, brought)


def _states_family(stage: Stage) -> bool:
    """Whether a stage names the family of its teacher. If not, a teacher of any family can replace it."""
    teacher = stage.recipe.get("teacher", {})
    return "family" in (teacher.get("network") or {}) if isinstance(teacher, dict) else False


def _told(pipeline: Pipeline) -> list[dict]:
    """The plan: for each stage, what it does and its state."""
    folder, told = pipeline.folder, []
    for stage in pipeline.plan.stages:
        begun = folder.run(stage.name).recipe.is_file()
        state = "done" if stage.name in folder.done else "resumes" if begun else "to do"
        skipped = folder.skipped.get(stage.name)
        told.append({"name": stage.name, "do": stage.do, "state": f"skipped, {skipped}" if skipped else state})
    return told
