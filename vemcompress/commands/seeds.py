"""`distill --seeds`: one recipe with several seeds, one run folder each, with mean and spread over the runs."""

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
    """The mean of `n` values, and their sample standard deviation (n - 1), or None if there is only one."""

    mean: float
    std: float | None
    n: int


def spread(values: Iterable[float]) -> Spread:
    """The `Spread` of at least one value."""
    values = list(values)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def spreads(tables: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """The `Spread` of each key. A key that some tables lack has a smaller n."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: spread(table[name] for table in tables if name in table) for name in names}


@dataclass(frozen=True)
class SeedsResult(Reported):
    """Runs by seed (pipelines if the recipe has stages), and the spread over the finished runs: of the last step's
    `losses`, and of the score of the `best` checkpoints.

    `best` is {"metric", "on", "value"}, or None if none was picked. Runs that were finished before this call have no
    `seconds_per_step` and no skipped images. `stopped` is "max_hours" if the time limit was reached. Then at most one
    of the runs is unfinished, and the `missing` ones were not started or resumed. `report` and `next` are the same as
    in `RunResult`.
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
    """Run `distill` with several seeds, each in its own run folder `out`/seed-N, or continue such a folder.

        result = vemcompress.distill_seeds([1, 2, 3], "netG.pth", data="photos/", out="runs/seeds")

    The first run uses the recipe, the others use the recipe.toml of the first one, so that they differ only in
    the seed. Everything is checked before the first run trains. Resuming skips finished runs, continues those
    that were started, and starts the missing ones.

    Arguments:
        seeds: the values of train.seed. None with `resume`.
        max_hours: for all runs together.
        The others are those of `distill`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        SeedsResult: `seeds` (a result for each seed), `losses` and `best` with mean and standard deviation
        (`Spread`), `stopped` and `missing` if the time limit was reached.

    Raises:
        The classes of `vemcompress.errors`. Finished runs are kept.
    """
    overrides = as_overrides(overrides, keys, DistillKeys)
    limit, source = Limit.of(max_hours), source_of(teacher)
    given = Given(source, data, out, recipe, overrides, resume, device, limit, on_event, tensorboard=tensorboard)
    if any(override.partition("=")[0].strip() == "train.seed" for override in overrides):
        raise UsageError("--seeds already sets train.seed of each run; omit --seed and --set train.seed.")
    if resume is not None and seeds is not None:
        raise UsageError("--resume reads the seeds from its folder; omit --seeds.")
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
            if resume is None:  # use what the first run has fixed, such as the teacher's revision and loss weights
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
    """The folder, and the recipe for missing runs. `teacher` is the teacher's file, if it has moved."""
    folder = Series.read(path, "seeds")
    folder.check_existing()
    begun = folder.begun()
    if not begun:
        raise InputError(f"{path}: none of its runs has started; start again with --seeds and --out {path}.")
    for run in begun:  # report an override that a run does not accept before another run continues
        if is_series(run.path, "stages"):
            check_resume(run.path, overrides)
        else:
            plan, _ = opening.open_recipe(run.recipe, overrides, run.path)
            opening.check_moved(run, teacher, plan.teacher.source)
    return folder, begun[0].recipe


def known_of(run: RunFolder, overrides: Sequence[str]) -> DistillResult | PipelineResult | None:
    return known_pipeline(run.path, overrides) if is_series(run.path, "stages") else known(run, overrides)


def last_of(result: DistillResult | PipelineResult) -> DistillResult:
    """The result itself, or for a pipeline, the result of its last stage."""
    return list(result.stages.values())[-1] if isinstance(result, PipelineResult) else result


def _best(runs: list[DistillResult]) -> dict | None:
    picked = [run.best for run in runs if run.best is not None]
    if not picked:
        return None
    return {"metric": picked[0]["metric"], "on": picked[0]["on"], "value": spread(best["value"] for best in picked)}


@dataclass(frozen=True)
class SeedsEvaluation(Reported):
    """Evaluations by seed, and the spread of every metric over them.

    `metrics` are those of the last networks. `best` are those of the best checkpoints, {"picked_by", "on", "metrics"},
    or None. `teacher` and `real` are as in `Evaluation`. Each run is compared with its own teacher.
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
        InputError if a run is missing or not finished, and the other classes of `vemcompress.errors`.
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
    """Raises InputError unless all runs are finished: a mean over runs of different lengths has no meaning."""
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
    """The run, or for a pipeline, the run of its last stage; None if a stage is not finished."""
    if not is_series(run.path, "stages"):
        return run
    folder = Series.read(run.path, "stages")
    return None if {*folder.items} - {*folder.done, *folder.skipped} else folder.last_done()
