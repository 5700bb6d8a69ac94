"""`search`: find the best sub-network of a supernet within a budget, or prune both generators of a CycleGAN by
evolution. Candidates are scored on images that training has not seen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vemcompress import recipe as recipes
from vemcompress.commands import opening, search_cyclegan, search_supernet, searching
from vemcompress.commands.facts import Facts, gather
from vemcompress.commands.opening import Given
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.search_cyclegan import OfCycleGAN
from vemcompress.commands.search_supernet import OfSupernet
from vemcompress.commands.searching import SearchResult
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import ImageSet
from vemcompress.errors import RecipeError, UsageError
from vemcompress.export.goals.kinds import Wanted
from vemcompress.networks import Config, build_generator
from vemcompress.pruning.co_evolution import DIRECTIONS
from vemcompress.pruning.population import PopulationSettings
from vemcompress.pruning.search import SearchSettings
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json
from vemcompress.system.keys import Overrides, as_overrides
from vemcompress.training.pace import Limit
from vemcompress.weights.modules import Model, source_of


@shows_progress
def search(
    supernet: str | Path | None = None,
    *,
    target_macs: int | None = None,
    target_latency: float | str | None = None,
    target_size: int | str | None = None,
    on: str | None = None,
    threads: int | None = None,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    teacher: Model | None = None,
    overrides: Overrides = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> SearchResult:
    """Search a supernet for its best sub-network within a budget, in the new run folder `out`.

        result = vemcompress.search("runs/supernet", target_macs=2_600_000_000, data="photos/", out="runs/found")

    Arguments:
        supernet: a run of `distill` with algorithm.space, or a weight file. With search.method=co_evolution, a
            run of `teach` with CycleGAN; both generators are searched, and the result also has student_b, the
            generator of the other direction.
        One of these gives the budget:
            target_macs: maximum number of true MACs.
            target_latency: maximum time per image (ms, or "20ms"), in the runtime `on` ("onnxruntime", "torch"
                or "openvino") with `threads` threads (all cores).
            target_size: maximum size of the .onnx file (bytes, or "500KB").
        data, teacher: replace those of the run.
        out: the run folder, which must be new.
        overrides: {"search.population": 50, ...}; search.by is the fitness, such as "fid".
        resume: a search to continue, instead of `supernet` and `out`.
        device, max_hours: as for `distill`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        SearchResult: `student` (file), `widths`, `fitness` by `metric`, `before` and `after` (each
        `parameters` and `macs`), `front` (widths, MACs and fitness of the Pareto front).

    Raises:
        The classes of `vemcompress.errors`. After an error or a stop, the search keeps its table and can be
        resumed.
    """
    limit, changes = Limit.of(max_hours), as_overrides(overrides)
    given = Given(source_of(teacher), data, out, "", changes, resume, device, limit, on_event)
    budget = _budget(target_macs, Wanted.said(target_latency, target_size, on, threads))
    with given.shared() as given:
        plan, run = distributed.together(lambda: _asked(supernet, budget, given))
        return search_run(plan, run, given)


def search_run(plan: Recipe, run: RunFolder, given: Given) -> SearchResult:
    """Search with the settings of [search], in a new or a resumed run folder: the supernet of student.source, or the
    teacher."""
    given.limit.begin()
    facts = distributed.together(lambda: _facts(plan, run, given))
    with devices.memory_errors("lower data.size in a new search."):
        method = OfSupernet if facts.plan.search.supernet else OfCycleGAN
        return searching.run(method(facts, given))


def search_again(run: RunFolder, given: Given) -> SearchResult:
    """Resume a folder of `search_run`. Raises UsageError for another recipe."""
    before, plan = recipes.read(run.recipe), recipes.read(run.recipe, given.overrides)
    if plan != before:
        raise UsageError(
            f"{run.path}: settings cannot change when a search is resumed; omit --set, or start a new search."
        )
    return known(run) or search_run(plan, run, given)


def known(run: RunFolder) -> SearchResult | None:
    """The result of a finished search; None if it is not finished."""
    try:
        found = read_json(run.environment)["searched"]
        found["front"] = [tuple(point) for point in found["front"]]
        found |= {"run": str(run.path), "student": str(run.student)}
        return SearchResult(**found) if run.student.is_file() else None
    except (OSError, *MALFORMED):
        return None


def _budget(macs: int | None, wanted: Wanted) -> dict[str, Any]:
    """The budget as keys of [search]. Raises UsageError if several budgets are given."""
    found = {"target_macs": macs, "target_latency": wanted.latency, "target_size": wanted.size}
    given = [key for key, value in found.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other; give one.")
    return found | {"on": wanted.on, "threads": wanted.threads, "share": None} if given else {}


def _with_budget(settings: PopulationSettings, budget: dict[str, Any]) -> PopulationSettings:
    """The settings with the budget. Raises UsageError for a kind of budget that the method does not have."""
    fields = type(settings).model_fields
    if odd := next((key for key, value in budget.items() if value is not None and key not in fields), None):
        raise UsageError(f"search.method {settings.method}: has no {odd}; give target_macs.")
    return settings.but(**{key: value for key, value in budget.items() if key in fields})


def _asked(supernet: str | Path | None, budget: dict[str, Any], given: Given) -> tuple[Recipe, RunFolder]:
    """The recipe of a search that the user asked for, and its folder."""
    if given.resume is not None:
        run = RunFolder(given.resume)
        run.check_existing()
        plan = recipes.read(run.recipe, given.overrides)
        if plan.search is None:
            raise UsageError(f"{run.path}: is not a search; continue with `vemcompress distill --resume {run.path}`.")
        plan = recipes.changed(plan, "search", lambda settings: _with_budget(settings, budget))
        if plan != recipes.read(run.recipe):
            raise UsageError(
                f"{run.path}: settings cannot change when a search is resumed; omit them, or start a new search."
            )
        return plan, run
    if supernet is None:
        raise UsageError("no supernet: give a run of `distill` with algorithm.space, or its weight file.")
    made = Path(supernet) / "recipe.toml"
    if made.is_file():
        plan = recipes.read(made, given.overrides)
        if plan.stages:
            raise UsageError(f"{supernet}: has stages; give the run of the stage that trains the supernet.")
    else:
        basis = ["algorithm.name=gan_compression", "algorithm.distill=0"]
        plan = recipes.defaults([*basis, *given.overrides])
    settings = plan.search or SearchSettings()
    settings = _with_budget(settings, budget)
    trained = getattr(plan.algorithm, "space", "none")
    if made.is_file() and settings.supernet and trained == settings.space == "none":
        raise UsageError(
            f"{supernet}: is not a supernet, because it was trained without algorithm.space; train one with the recipe "
            "gan_compression."
        )
    source = str(Path(supernet).resolve()) if Path(supernet).exists() else str(supernet)
    plan = plan.but(search=settings, student=AutoStudent(source=source))
    untaught = plan.teacher.source is None and given.teacher is None and not plan.learns
    if untaught or not settings.supernet:  # a fitness based on real images needs no teacher
        plan = plan.but(teacher=plan.teacher.but(source=source))
    return opening.located(plan, given.teacher, given.data, given.on_event), opening.new_run(given.out)


def check_plan(
    plan: Recipe, images: ImageSet | LatentSet, network: Config | None, learned: str | None = None
) -> Config | None:
    """Check a search before it starts: the `network` to search, if its shape is known, and for a supernet, the widths
    that it has `learned`. Returns the shape of a candidate, if known. Raises the classes of `errors`."""
    if plan.search.supernet:
        found = None if network is None else shape(plan, network, learned)
        search_supernet.check_fitness(plan, images)
        return found
    found = shape(plan, network)
    search_cyclegan.unseen(plan, images)
    search_cyclegan.check_teacher(search_cyclegan.with_teacher(plan))
    return found


def shape(plan: Recipe, network: Config | None, learned: str | None = None) -> Config:
    """The shape of a search's first candidate. Raises RecipeError or UsageError for a network that cannot be searched,
    such as one of the user's own class, which has no Config."""
    if network is None:
        raise RecipeError(f"recipe {plan.name}: a network of your own class cannot be searched; prune it instead.")
    if plan.search.supernet:
        population = search_supernet.planned(plan, network, learned)
    else:
        search_cyclegan.check_gan(plan)
        with torch.device("meta"):
            population = search_cyclegan.planned(plan, dict.fromkeys(DIRECTIONS, build_generator(network)))
    return network.with_widths(population.shape(population.population[0]))


def _facts(plan: Recipe, run: RunFolder, given: Given) -> Facts:
    if not plan.search.supernet:
        plan = search_cyclegan.with_teacher(plan)
    elif getattr(plan.student, "source", None) is None:
        raise RecipeError(f"recipe {plan.name}: a search needs a supernet; set student.source to its run or file.")
    return replace(gather("distill", plan, given.on_event), run=run)
