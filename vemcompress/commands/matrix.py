"""`distill --matrix`: every recipe with every add-on and every seed, in one folder, resumed together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, Unpack

import tomli_w

from vemcompress import recipe as recipes
from vemcompress.commands import opening
from vemcompress.commands.distill import PipelineResult, check_new, check_resume, distilled, pinned, stated
from vemcompress.commands.distilling import DistillResult
from vemcompress.commands.given_images import Data, kept
from vemcompress.commands.line import Reported
from vemcompress.commands.matrix_file import Entry, MatrixFile, read_matrix
from vemcompress.commands.opening import Given
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.report import reported
from vemcompress.commands.seeds import known_of, last_of
from vemcompress.commands.series import run_all
from vemcompress.errors import InputError, Interrupted, OutputError, RankLost, UsageError, VemError
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json
from vemcompress.system.keys import DistillKeys, Overrides, as_overrides
from vemcompress.system.names import AUTO
from vemcompress.training.pace import Limit
from vemcompress.weights.modules import Model, source_of

_STOPS = (Interrupted, OutputError, RankLost)  # errors that stop all runs; after any other error the next run starts


@dataclass(frozen=True)
class Failure:
    """Why a run of a matrix failed, and the exit code of this run alone."""

    reason: str
    exit_code: int
    stopped: str = "failed"


@dataclass(frozen=True)
class MatrixRow:
    """A run; `name` is the name of its folder. `macs` are the true MACs at the run's own size, `best` is the content of
    best.json, and `loss` is the student's loss at the last step. Values that are not known yet are None."""

    name: str
    recipe: str
    algorithm: str
    information: str
    seed: int
    parameters: int | None = None
    macs: int | None = None
    best: dict | None = None
    loss: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class MatrixResult(Reported):
    """Results by run, and why others `failed`. `rows` has all runs, also those that have not started.

    `stopped` is "max_hours" if the time limit was reached. Then at most one of the runs is unfinished, and the
    `missing` ones were not started or resumed. `next` is the command that compares the runs, None if none is finished.
    """

    run: str
    runs: dict[str, DistillResult | PipelineResult]
    failed: dict[str, Failure]
    rows: tuple[MatrixRow, ...]
    stopped: str | None = None
    missing: tuple[str, ...] = ()
    next: str | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the first failure, or 0."""
        return next((failure.exit_code for failure in self.failed.values()), 0)


@shows_progress
def distill_matrix(
    file: str | Path | None = None,
    teacher: Model | None = None,
    *,
    data: Data = (),
    out: str | Path | None = None,
    overrides: Overrides = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    tensorboard: bool = False,
    on_event: Event = silent,
    progress: bool = False,
    **keys: Unpack[DistillKeys],
) -> MatrixResult:
    """Run `distill` for every recipe, add-on and seed in a .toml file, in `out`/NAME, or continue such a folder.

        result = vemcompress.distill_matrix("rivals.toml", "netG.pth", data="photos/", out="runs/rivals")

    Every recipe and add-on is checked before the first run trains. A run that fails is reported in the result
    and does not stop the others, but a full disk and Ctrl-C do. Resuming skips finished runs, continues those
    that were started or failed, and starts the missing ones.

    Arguments:
        file: the matrix, such as docs/rivals.toml. None with `resume`.
        teacher, data: for all runs for which the file names none.
        max_hours: for all runs together.
        The others are those of `distill`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        MatrixResult: `runs` by name, `failed` with reasons, `rows` (a table of all runs), `next` (the command
        that compares them).

    Raises:
        The classes of `vemcompress.errors`. Finished runs are kept.
    """
    overrides = as_overrides(overrides, keys, DistillKeys)
    if any(override.partition("=")[0].strip() in ("train.seed", "information.name") for override in overrides):
        raise UsageError("the matrix lists the seeds and add-ons; omit --seed, train.seed and information.name.")
    if (file is None) == (resume is None):
        raise UsageError("give the file of a new matrix, or --resume DIR for an existing one.")
    limit, source = Limit.of(max_hours), source_of(teacher)
    given = Given(source, data, out, Recipe(), overrides, resume, device, limit, on_event, tensorboard=tensorboard)
    with given.shared() as given, kept(given) as given:
        folder, plans = distributed.from_writer(
            lambda: _new(read_matrix(file), given) if file is not None else _old(given)
        )

        def make(name: str) -> DistillResult | PipelineResult | Failure:
            try:
                return distilled(_of_run(folder, name, plans[name], given))
            except _STOPS:
                raise
            except VemError as error:
                if distributed.ranks() > 1 and not error.shared:
                    raise
                reason = str(error).replace(f"--resume {folder.run(name).path}", f"--resume {folder.path}")
                given.on_event({"event": "warning", "message": f"run {name} failed: {reason}"})
                return Failure(reason, error.exit_code)

        results, missing = run_all(
            folder,
            known=lambda name: known_of(folder.run(name), overrides) if name in folder.done else None,
            make=make,
            limit=limit,
            on_event=given.on_event,
        )
        distributed.by_writer(lambda: reported(folder.path, given.on_event))
    failed = {name: result for name, result in results.items() if isinstance(result, Failure)}
    runs = {name: result for name, result in results.items() if name not in failed}
    stopped = "max_hours" if missing or any(result.stopped for result in runs.values()) else None
    rows = tuple(_row(folder, name, plans[name], runs.get(name)) for name in folder.items)
    several = " --seeds" if len({row.seed for row in rows}) > 1 else ""
    then = f"vemcompress compare {quote(str(folder.path))}{several}" if folder.done else None
    return MatrixResult(str(folder.path), runs, failed, rows, stopped, missing, then)


def _new(file: MatrixFile, given: Given) -> tuple[Series, dict[str, Recipe]]:
    """The new folder, and the recipe of every run with its teacher and data."""
    if given.out is None:
        raise UsageError("no output: give --out DIR, a new folder for the runs.")
    asked = {entry.name: _asked(entry, given) for entry in file.entries()}
    plans = {name: _explained(file, name, lambda own=own: pinned(stated(own))) for name, own in asked.items()}
    if any(plan.train.batch == AUTO for plan in plans.values()):
        raise UsageError("train.batch = 'auto': all runs of a matrix need the same batch; give a number.")
    folder = Series(given.out, "matrix", list(asked))
    folder.check_new()
    others = {name.rpartition("-seed")[0]: name for name in asked}  # the checks do not depend on the seed
    for name in others.values():
        _explained(file, name, lambda own=asked[name]: check_new(own))
    folder.recipes = {name: tomli_w.dumps(plan.stated()) for name, plan in plans.items()}
    return folder, plans


def _explained(file: MatrixFile, name: str, action: Callable[[], Any]) -> Any:
    """The action's result. An error names the run and the line of the file."""
    try:
        return action()
    except VemError as error:
        raise type(error)(file.explained(error, name)) from error


def _asked(entry: Entry, given: Given) -> Given:
    """The arguments of `distill` for this run alone."""
    return replace(
        given,
        teacher=given.teacher if entry.teacher is None else entry.teacher or None,
        data=() if entry.has_data else given.data,
        out=Path(given.out) / entry.name,
        recipe=entry.recipe,
        overrides=[*entry.overrides, *given.overrides],
        on_event=silent,
    )


def _old(given: Given) -> tuple[Series, dict[str, Recipe]]:
    """The folder, and the recipe of every run. Overrides that a run does not accept are refused before any
    continues."""
    folder = Series.read(given.resume, "matrix")
    folder.check_existing()
    plans = {}
    for name in folder.items:
        run, source = folder.run(name), folder.recipe_of(name)
        if is_series(run.path, "stages") and run.recipe.is_file():
            check_resume(run.path, given.overrides)
        elif run.recipe.is_file():
            opening.open_recipe(run.recipe, given.overrides, run.path)
        if not source.is_file() and not run.recipe.is_file():
            raise InputError(f"{source}: is missing, and its run has not started; restore it, or start a new matrix.")
        plans[name] = recipes.read(*((source, given.overrides) if source.is_file() else (run.recipe,)))
    teachers = {plan.teacher.source for plan in plans.values()} - {None}
    if given.teacher is not None and len(teachers) > 1:
        raise UsageError(
            f"--teacher: these runs have {len(teachers)} different teachers; omit it, and restore their files."
        )
    return folder, plans


def _of_run(folder: Series, name: str, plan: Recipe, given: Given) -> Given:
    """The arguments of one run: from its complete recipe, or from its own folder. Files may have been moved."""
    run, again = folder.run(name), given.resume is not None
    moved = {"teacher": given.teacher if again and plan.teacher.source else None, "data": given.data if again else ()}
    if run.recipe.is_file():
        return replace(given, resume=run.path, **moved)
    own = given.overrides if again else ()
    return replace(given, recipe=folder.recipe_of(name), out=run.path, overrides=own, resume=None, **moved)


def _row(folder: Series, name: str, plan: Recipe, result: DistillResult | PipelineResult | None) -> MatrixRow:
    row = MatrixRow(name, plan.name, plan.algorithm.name, plan.information.name, plan.train.seed)
    last = result and last_of(result)
    if not isinstance(last, DistillResult):
        return row
    try:
        macs = read_json(RunFolder(last.run).environment)["student"]["macs"]["true"]
    except (OSError, *MALFORMED):
        macs = None
    loss = sum(last.losses[term] for term in last.main) if last.main else None
    found = {"parameters": last.parameters, "macs": macs, "best": last.best, "loss": loss, "steps": last.steps}
    return replace(row, **found)
