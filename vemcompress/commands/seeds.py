"""One recipe under several seeds: an ordinary run for each in one folder, and mean and spread over them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from vemcompress import recipe as recipes
from vemcompress.commands import afterwards, opening
from vemcompress.commands.distill import PipelineResult, check_resume, distilled
from vemcompress.commands.distill import known as known_pipeline
from vemcompress.commands.distilling import DistillResult, known
from vemcompress.commands.evaluate import EvaluateOptions, evaluate
from vemcompress.commands.given_images import Data, kept
from vemcompress.commands.line import Reported
from vemcompress.commands.opening import Given
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.report import reported
from vemcompress.commands.series import run_all
from vemcompress.errors import InputError, Interrupted, NumericalError, RankLost, UsageError
from vemcompress.evaluation import Evaluation
from vemcompress.runs.best import look
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.keys import DistillKeys, Overrides, as_overrides
from vemcompress.training.pace import Limit
from vemcompress.weights.modules import Model, source_of


@dataclass(frozen=True)
class Spread:
    """Of `n` values: their mean, and their sample standard deviation (n - 1), None where there is but one."""

    mean: float
    std: float | None
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    values = list(values)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def spreads(tables: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """Key by key; a key that some tables lack has a smaller n."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: spread(table[name] for table in tables if name in table) for name in names}


@dataclass(frozen=True)
class SeedsResult(Reported):
    """Runs by seed, pipelines where the recipe has stages, and over those that are finished the spread of the last
    step's `losses` and of the `best` checkpoints.

    `best` is {"metric", "on", "value"}, None where none was picked. Runs that were done before have no
    `seconds_per_step`, and skipped no image now. `stopped` is "max_hours" where the time was over: then at most one of
    the runs is unfinished, and the seeds that are `missing` have not begun, or not gone on. `report` and `next` are as
    of one run.
    """

    run: str
    seeds: dict[int, DistillResult | PipelineResult]
    losses: dict[str, Spread]
    best: dict | None
    stopped: str | None = None
    missing: tuple[int, ...] = ()
    report: str | None = None
    next: tuple[str, ...] = ()


@shows_progress
def distill_seeds(
    seeds: Sequence[int] | None = None,
    teacher: Model | None = None,
    *,
    data: Data = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Overrides = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    tensorboard: bool = False,
    on_event: Event = silent,
    progress: bool = False,
    **keys: Unpack[DistillKeys],
) -> SeedsResult:
    """`distill` with several seeds, each in its own run folder `out`/seed-N; or continue such a folder.

        result = vemcompress.distill_seeds([1, 2, 3], "netG.pth", data="photos/", out="runs/seeds")

    The first run is made from the recipe, the others from the first one's recipe.toml, so that they differ in
    the seed alone. What can be checked is checked before the first run trains. Resuming skips runs that are
    done, resumes those that have begun, and makes those that are missing.

    Arguments:
        seeds: the values of train.seed. None with `resume`.
        max_hours: for all runs together.
        The others are those of `distill`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        SeedsResult: `seeds` (a result for each seed), `losses` and `best` with mean and standard deviation
        (`Spread`), `stopped` and `missing` where the time was over.

    Raises:
        The classes of `vemcompress.errors`; runs that are done stay.
    """
    overrides = as_overrides(overrides, keys, DistillKeys)
    limit, source = Limit.of(max_hours), source_of(teacher)
    given = Given(source, data, out, recipe, overrides, resume, device, limit, on_event, tensorboard=tensorboard)
    if any(override.partition("=")[0].strip() == "train.seed" for override in overrides):
        raise UsageError("train.seed is each run's own among several seeds; leave out --seed and --set train.seed.")
    if resume is not None and seeds is not None:
        raise UsageError("--resume takes the seeds from its folder; leave out --seeds.")
    with given.shared() as given, kept(given) as given:
        folder, first = distributed.together(
            lambda: _old(resume, overrides, teacher) if resume is not None else _new(seeds, out, recipe, overrides)
        )
        given = replace(given, recipe=first)

        def make(seed: int) -> DistillResult | PipelineResult:
            nonlocal given
            run = folder.run(seed)
            if run.recipe.is_file():
                result = distilled(replace(given, resume=run.path))
            else:
                own = [*given.overrides, f"train.seed={seed}"]
                result = distilled(replace(given, out=run.path, overrides=own, resume=None))
            if resume is None:  # what the first has settled: its teacher's revision, its weights
                given = replace(given, teacher=None, data=(), recipe=run.recipe, overrides=())
            return result

        results, missing = run_all(
            folder,
            known=lambda seed: known_of(folder.run(seed), overrides) if seed in folder.done else None,
            make=make,
            limit=given.limit,
            on_event=given.on_event,
            told=(Interrupted, NumericalError, RankLost),
        )
        page = distributed.from_writer(lambda: reported(folder.path, given.on_event))
    finished = [last_of(result) for result in results.values() if not result.stopped]
    stopped = "max_hours" if missing or len(finished) < len(results) else None
    losses = spreads(run.losses for run in finished)
    more = (afterwards.resume("distill", folder.path) if stopped else afterwards.evaluate(folder.path),)
    return SeedsResult(str(folder.path), results, losses, _best(finished), stopped, missing, page, more)


def _new(seeds: Sequence[int] | None, out, recipe, overrides: Sequence[str]) -> tuple[Series, str | Path]:
    if out is None:
        raise UsageError("no output: give --out RUNS, a new folder for the runs.")
    folder = Series(out, "seeds", seeds or ())
    recipes.read(recipe, overrides)
    folder.check_new()
    return folder, recipe


def _old(path: str | Path, overrides: Sequence[str], teacher: str | Path | None) -> tuple[Series, Path]:
    """The folder, and the recipe for runs that are missing; `teacher` is the file where it has moved."""
    folder = Series.read(path, "seeds")
    folder.check_existing()
    begun = folder.begun()
    if not begun:
        raise InputError(f"{path}: none of its runs has begun; start them anew, with --seeds and --out {path}.")
    for run in begun:  # overrides that one of them cannot take are known before another goes on
        if is_series(run.path, "stages"):
            check_resume(run.path, overrides)
        else:
            plan, _ = opening.open_recipe(run.recipe, overrides, run.path)
            opening.check_moved(run, teacher, plan.teacher.source)
    return folder, begun[0].recipe


def known_of(run: RunFolder, overrides: Sequence[str]) -> DistillResult | PipelineResult | None:
    return known_pipeline(run.path, overrides) if is_series(run.path, "stages") else known(run, overrides)


def last_of(result: DistillResult | PipelineResult) -> DistillResult:
    """A pipeline's last run."""
    return list(result.stages.values())[-1] if isinstance(result, PipelineResult) else result


def _best(runs: list[DistillResult]) -> dict | None:
    picked = [run.best for run in runs if run.best is not None]
    if not picked:
        return None
    return {"metric": picked[0]["metric"], "on": picked[0]["on"], "value": spread(best["value"] for best in picked)}


@dataclass(frozen=True)
class SeedsEvaluation(Reported):
    """Evaluations by seed, and over them the spread of every metric.

    `metrics` are those of the last networks, `best` those of the best checkpoints, {"picked_by", "on", "metrics"}
    or None; `teacher` and `real` as in `Evaluation`: each run is scored beside its own teacher.
    """

    run: str
    seeds: dict[int, Evaluation]
    metrics: dict[str, Spread]
    best: dict | None
    teacher: dict[str, Spread]
    real: dict[str, Spread]


@shows_progress
def evaluate_seeds(
    folder: str | Path, *, progress: bool = False, **options: Unpack[EvaluateOptions]
) -> SeedsEvaluation:
    """`evaluate` each run in a folder that `distill_seeds` made, with the same options.

        print(vemcompress.evaluate_seeds("runs/seeds", data="photos/").metrics["ssim_teacher"].mean)

    Arguments:
        folder: the folder of the runs.
        progress: show progress, as the command line does.
        options: the other keyword arguments of `evaluate`.

    Returns:
        SeedsEvaluation: `seeds` (an Evaluation for each seed), and of `metrics`, `best`, `teacher` and `real`
        the mean and the sample standard deviation.

    Raises:
        InputError where a run is missing or not finished, and the other classes of `vemcompress.errors`.
    """
    seeds, found = Series.read(folder, "seeds"), {}
    on_event = options.pop("on_event", silent)
    with distributed.group(devices.choose(options.get("device", "auto"))):
        on_event = distributed.told_by_writer(on_event)
        distributed.together(lambda: check_done(seeds))
        for number, seed in enumerate(seeds.items, 1):
            on_event({"event": "stage", "title": f"seed {seed} ({number} of {len(seeds.items)})"})
            found[seed] = evaluate(seeds.run(seed).path, on_event=on_event, **options)
    several = list(found.values())
    best = [evaluation.best for evaluation in several if evaluation.best is not None]
    picked = {key: best[0][key] for key in ("picked_by", "on")} if best else {}
    return SeedsEvaluation(
        str(seeds.path),
        found,
        metrics=spreads(evaluation.metrics for evaluation in several),
        best=picked | {"metrics": spreads(one["metrics"] for one in best)} if best else None,
        teacher=spreads(evaluation.teacher for evaluation in several),
        real=spreads(evaluation.real for evaluation in several),
    )


def check_done(seeds: Series) -> None:
    """The mean over runs of different lengths would say nothing."""
    runs = {seed: _last_run(seeds.run(seed)) for seed in seeds.items}
    steps = {seed: recipes.read(run.recipe).train.steps for seed, run in runs.items() if run and run.recipe.is_file()}
    last = max(steps.values(), default=0)
    finish = f"vemcompress distill --resume {seeds.path}" + (f" --steps {last}" if len(set(steps.values())) > 1 else "")
    for seed, run in runs.items():
        there = run is not None and run.student.is_file() and run.recipe.is_file()
        step = look(run.path).step if there else 0
        if (step is not None and step < last) or not there:
            state = f"is at step {step} of {last}" if there else "has no student yet"
            raise InputError(f"{seeds.path}: seed {seed} {state}; finish all of them with `{finish}`.")


def _last_run(run: RunFolder) -> RunFolder | None:
    """Of a pipeline its last stage's run, None where a stage is left."""
    if not is_series(run.path, "stages"):
        return run
    folder = Series.read(run.path, "stages")
    return None if {*folder.items} - {*folder.done, *folder.skipped} else folder.last_done()
