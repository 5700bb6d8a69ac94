"""`distill` once for every seed, one after the other; going on with what was interrupted."""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vemcompress import recipe as recipes
from vemcompress.commands import opening
from vemcompress.commands.distill import DistillResult, distill
from vemcompress.commands.seeds.spread import Spread, spread, spreads
from vemcompress.errors import InputError, Interrupted, NumericalError, RankLost, UsageError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import SeedsFolder
from vemcompress.system import devices, distributed
from vemcompress.training.pace import Limit

Event = Callable[[dict], None]


@dataclass(frozen=True)
class SeedsResult:
    """Runs by seed, and over those that are finished the spread of the last step's `losses` and of the `best`
    checkpoints.

    `best` is {"metric", "on", "value"}, None where none was picked. Runs that were done before have no
    `seconds_per_step`, and skipped no image now. `stopped` is "max_hours" where the time was over: then at most one of
    the runs is unfinished, and the seeds that are `missing` have not begun, or not gone on.
    """

    run: str
    seeds: dict[int, DistillResult]
    losses: dict[str, Spread]
    best: dict | None
    stopped: str | None = None
    missing: tuple[int, ...] = ()

    def as_dict(self) -> dict:
        return asdict(self)


def distill_seeds(
    seeds: Sequence[int] | None = None,
    teacher: str | Path | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = lambda event: None,
) -> SeedsResult:
    """`distil.distill` with train.seed set to each of `seeds`, in `out`/seed-N; or go on with such a folder `resume`.

    The first run is made from the recipe, the others from the first one's recipe.toml, so that they differ in the
    seed alone. Whatever can be checked is, before the first run trains. Resuming skips the runs that are done (with
    these `overrides`), resumes those that have begun and makes those that are missing. `max_hours` is for all of them
    together. Raises the classes of `errors`; runs that are done stay.
    """
    limit = Limit.of(max_hours)
    if any(override.partition("=")[0].strip() == "train.seed" for override in overrides):
        raise UsageError("train.seed is each run's own among several seeds; leave --seed and --set train.seed away.")
    if resume is not None and seeds is not None:
        raise UsageError("--resume takes the seeds from its folder; leave --seeds away.")
    results, missing = {}, []
    with distributed.group(devices.choose(device)):
        on_event = distributed.told_by_writer(on_event)
        folder, recipe = distributed.together(
            lambda: _old(resume, overrides) if resume is not None else _new(seeds, out, recipe, overrides)
        )
        with distributed.held_by_writer(folder.started):
            for number, seed in enumerate(folder.seeds, 1):
                given = teacher, data, recipe, overrides
                result = _known_or_made(folder, number, seed, given, device, limit, on_event)
                if result is None:
                    missing.append(seed)
                    continue
                results[seed] = result
                if resume is None:  # what the first has settled: its teacher's revision, its weights
                    teacher, data, recipe, overrides = None, (), folder.run(seed).recipe, ()
    return _result(folder, results, tuple(missing))


def _result(folder: SeedsFolder, results: dict[int, DistillResult], missing: tuple[int, ...]) -> SeedsResult:
    finished = {seed: result for seed, result in results.items() if not result.stopped}
    stopped = "max_hours" if missing or len(finished) < len(results) else None
    losses = spreads(result.losses for result in finished.values())
    return SeedsResult(str(folder.path), results, losses, _best(finished), stopped, missing)


def _known_or_made(
    folder: SeedsFolder, number: int, seed: int, given: tuple, device: str, limit: Limit, on_event: Event
) -> DistillResult | None:
    """The `number`th seed's result, None where the time is over; `given` are the teacher, data, recipe and overrides
    of a run that is made."""
    known = distributed.together(lambda: _known(folder, seed, given[-1]))
    if not known and limit.over:
        return None
    title = f"seed {seed} ({number} of {len(folder.seeds)})"
    on_event({"event": "stage", "title": f"{title}, done before" if known else title})
    return known or _one(folder, seed, *given, device, limit, on_event)


def _new(seeds: Sequence[int] | None, out, recipe, overrides: Sequence[str]) -> tuple[SeedsFolder, str | Path]:
    if out is None:
        raise UsageError("no output: give --out RUNS, a new folder for the runs.")
    folder = SeedsFolder(out, seeds or ())
    recipes.read(recipe, overrides)
    folder.check_new()
    return folder, recipe


def _old(path: str | Path, overrides: Sequence[str]) -> tuple[SeedsFolder, Path]:
    """The folder, and the recipe for runs that are missing."""
    folder = SeedsFolder.read(path)
    begun = folder.begun()
    if not begun:
        raise InputError(f"{path}: none of its runs has begun; start them anew, with --seeds and --out {path}.")
    for run in begun:  # overrides that one of them cannot take are known before another goes on
        opening.open_recipe(run.recipe, overrides, run.path)
    return folder, begun[0].recipe


def _one(
    folder: SeedsFolder, seed: int, teacher, data, recipe, overrides, device: str, limit: Limit, on_event: Event
) -> DistillResult:
    """Make or resume the run of a seed. An error that comes of training says which seed's it is."""
    run = folder.run(seed)
    if run.recipe.is_file():
        options = {"resume": run.path, "overrides": overrides}
    else:
        options = {"out": run.path, "recipe": recipe, "overrides": [*overrides, f"train.seed={seed}"]}
    try:
        result = distill(teacher, data=data, device=device, max_hours=limit, on_event=on_event, **options)
    except (Interrupted, NumericalError, RankLost) as error:
        told = type(error)(f"seed {seed}: " + str(error).replace(f"--resume {run.path}", f"--resume {folder.path}"))
        told.shared = error.shared
        raise told from error
    if not result.stopped:
        folder.mark_done(seed)
    gc.collect()  # cycles would keep this run's networks on the GPU beside the next one's
    return result if result.losses else replace(result, losses=_last_losses(run)[1])


def _known(folder: SeedsFolder, seed: int, overrides: Sequence[str]) -> DistillResult | None:
    """The result of a run that is done, from its files; None where it is not, or not with these overrides."""
    run = folder.run(seed)
    if seed not in folder.done or not run.recipe.is_file():
        return None
    plan, _ = opening.open_recipe(run.recipe, overrides, run.path)
    try:
        networks, best = json.loads(run.environment.read_text()), run.best / "best.json"
        steps, losses = _last_losses(run)
        result = DistillResult(
            run=str(run.path),
            student=str(run.student),
            steps=steps,
            parameters=networks["student"]["parameters"],
            teacher_parameters=networks["teacher"]["parameters"],
            losses=losses,
            seconds_per_step=None,
            skipped_images=0,
            best=json.loads(best.read_text()) if best.is_file() else None,
            total_steps=plan.train.steps,
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # resuming it says what is wrong, or writes them anew
    return result if plan.train.steps and steps >= plan.train.steps else None


def _last_losses(run: RunFolder) -> tuple[int, dict[str, float]]:
    """The last step, which is always logged, and its losses."""
    values = json.loads(run.metrics.read_text().splitlines()[-1])
    return values["step"], {name: value for name, value in values.items() if name not in ("step", "lr")}


def _best(results: dict[int, DistillResult]) -> dict | None:
    picked = [result.best for result in results.values() if result.best is not None]
    if not picked:
        return None
    return {"metric": picked[0]["metric"], "on": picked[0]["on"], "value": spread(best["value"] for best in picked)}
