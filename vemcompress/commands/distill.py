"""Distillation of a teacher into a student: by one run, or by a recipe's stages."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vemcompress import recipe as recipes
from vemcompress.commands.distilling import DistillResult, distill_run
from vemcompress.commands.prune import PruneResult, prune_again
from vemcompress.commands.stages import PipelineResult, run_stages
from vemcompress.errors import UsageError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import is_series
from vemcompress.system import devices, distributed
from vemcompress.training.pace import Limit

Event = Callable[[dict], None]


def distill(
    teacher: str | Path | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    until: str | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = lambda event: None,
) -> DistillResult | PipelineResult | PruneResult:
    """Distil `teacher` into a small student, in the new run folder `out`; or go on with the run `resume`.

    Where the recipe has a [gan] the teacher learns too: from `teacher`'s weights, or from new ones. A resumed run
    takes `teacher` and `data` where its files have moved. `overrides` are `key=value` as with --set. Checks come in
    this order: recipe, teacher, data, output. With `max_hours` it saves and returns before so much time has passed
    since it was called, after one step at least. Raises the classes of `errors`; a run that raised keeps its last
    checkpoint and can be resumed. Processes that torchrun started train it together, and all get the result.

    A recipe with stages gives a PipelineResult: `out` then has a run folder for each stage, of which those after
    `until` are left for a later resume. Resuming a stage that prunes gives its PruneResult.
    """
    given = {"teacher": teacher, "data": data, "out": out, "recipe": recipe, "overrides": overrides, "resume": resume}
    given |= {"device": device, "max_hours": Limit.of(max_hours)}
    with distributed.group(devices.choose(device)):
        on_event = distributed.told_by_writer(on_event)
        kind = distributed.together(lambda: _kind(recipe, overrides, resume, until))
        if kind == "stages":
            return run_stages(**given, until=until, on_event=on_event)
        if kind == "prune":
            return distributed.from_writer(lambda: prune_again(RunFolder(resume), overrides))
        return distill_run(**given, on_event=on_event)


def _kind(recipe: str | Path, overrides: Sequence[str], resume: str | Path | None, until: str | None) -> str:
    """Whether it is a run, or "stages", or a stage that prunes."""
    folder = None if resume is None else RunFolder(resume)
    if folder is not None and is_series(folder.path, "stages"):
        return "stages"
    plan = recipes.read(recipe, overrides) if folder is None else None
    if folder is not None and folder.recipe.is_file():
        plan = recipes.read(folder.recipe)
    if until is not None and not (plan and plan.stages):
        raise UsageError("--until is of recipes with stages, and this one has none; leave it away.")
    return "run" if plan is None else "stages" if plan.stages else "prune" if folder and plan.prune else "run"
