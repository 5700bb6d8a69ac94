"""From a supernet to its best sub-network under a budget of MACs, by figures on images that training has not seen."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from vemcompress import recipe as recipes
from vemcompress.commands import line, opening, parts
from vemcompress.commands.facts import Facts, data_of, gather
from vemcompress.commands.inspect import counts
from vemcompress.commands.opening import Given
from vemcompress.data.images import save_png
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import ImageSet
from vemcompress.errors import NetworkError, RecipeError, UsageError
from vemcompress.networks.base import Config, Generator
from vemcompress.networks.cost import costs
from vemcompress.networks.groups import cut
from vemcompress.networks.norms import recalibrate
from vemcompress.networks.subnets import SPACE, Entries, Space, text_of
from vemcompress.pruning.search import Search, SearchSettings
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.runs.best import Picker, Score
from vemcompress.runs.candidates import Candidates
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.pictures import scatter
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json, write_atomically
from vemcompress.system.keys import Overrides, as_overrides
from vemcompress.training.pace import Limit
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.features import load_features
from vemcompress.weights.folder import Made
from vemcompress.weights.modules import Model, source_of

CALIBRATION, CALIBRATION_BATCH = 64, 8


@dataclass(frozen=True, kw_only=True)
class SearchResult(line.Reported):
    """The run, the file of the `student` that was found, its `widths` in the notation of the space, and its `fitness`
    by `metric` on `images` images. `before` and `after` have `parameters` and `macs` at `size`; `scored` is how many
    candidates were, `front` the Pareto front of widths, MACs and fitness.

    `stopped` is "max_hours" where the search is unfinished; then there is no student yet, and widths are the best so
    far.
    """

    run: str
    student: str | None
    widths: str
    metric: str
    fitness: float
    on: str
    images: int
    target: int
    convention: str
    size: int
    before: dict
    after: dict
    scored: int
    front: list[tuple[str, int, float]]
    stopped: str | None = None


def search(
    supernet: str | Path | None = None,
    *,
    target_macs: int | None = None,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    teacher: Model | None = None,
    overrides: Overrides = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = silent,
) -> SearchResult:
    """Search `supernet`, a run of `distill` with algorithm.space or a weight file, for the sub-network of the best
    fitness with at most `target_macs` MACs, and write it as the student of the new run folder `out`; or go on with the
    search `resume`.

    Of a run its recipe, teacher and data are taken, unless others are given. `overrides` are `key=value`, of which
    search.by, search.method, search.population and the like say how; they may be a dict, and `teacher` an nn.Module, as
    in `distill`. Raises the classes of `errors`; a search that raised or was stopped keeps its table, and can be
    resumed.
    """
    limit, changes = Limit.of(max_hours), as_overrides(overrides)
    given = Given(source_of(teacher), data, out, "", changes, resume, device, limit, on_event)
    with given.shared() as given:
        plan, run = distributed.together(lambda: _asked(supernet, target_macs, given))
        return search_run(plan, run, given)


def search_run(plan: Recipe, run: RunFolder, given: Given) -> SearchResult:
    """Search by [search] the supernet student.source, in a run folder that is new or goes on."""
    given.limit.begin()
    facts = distributed.together(lambda: _facts(plan, run, given))
    with devices.memory_errors("lower data.size in a new search."):
        return _run(facts, given)


def search_again(run: RunFolder, given: Given) -> SearchResult:
    """Go on with a folder of `search_run`. Raises UsageError for another recipe."""
    before, plan = recipes.read(run.recipe), recipes.read(run.recipe, given.overrides)
    if plan != before:
        raise UsageError(f"{run.path}: a search goes on as it began; omit --set, or search anew in another folder.")
    return known(run) or search_run(plan, run, given)


def known(run: RunFolder) -> SearchResult | None:
    """The result of a search that is done; None where it is not."""
    try:
        found = read_json(run.environment)["searched"]
        found["front"] = [tuple(point) for point in found["front"]]
        found |= {"run": str(run.path), "student": str(run.student)}
        return SearchResult(**found) if run.student.is_file() else None
    except (OSError, *MALFORMED):
        return None


def _asked(supernet: str | Path | None, target_macs: int | None, given: Given) -> tuple[Recipe, RunFolder]:
    """The recipe of a search that the user asked for, and its folder."""
    if given.resume is not None:
        run = RunFolder(given.resume)
        run.check_existing()
        plan = recipes.read(run.recipe, given.overrides)
        if plan.search is None:
            raise UsageError(f"{run.path}: is no search; go on with `vemcompress distill --resume {run.path}`.")
        if target_macs is not None:
            plan = recipes.changed(plan, "search", lambda s: s.but(target_macs=target_macs, share=None))
        if plan != recipes.read(run.recipe):
            raise UsageError(
                f"{run.path}: a search goes on as it began; omit the changes, or search in another folder."
            )
        return plan, run
    if supernet is None:
        raise UsageError("no supernet: give a run of `distill` with algorithm.space, or its weights.")
    made = Path(supernet) / "recipe.toml"
    if made.is_file():
        plan = recipes.read(made, given.overrides)
        if plan.stages:
            raise UsageError(f"{supernet}: has stages; give the run of the one that trains the supernet.")
    else:
        basis = ["algorithm.name=gan_compression", "algorithm.distill=0"]
        plan = recipes.defaults([*basis, *given.overrides])
    settings = plan.search or SearchSettings()
    if target_macs is not None:
        settings = settings.but(target_macs=target_macs, share=None)
    source = str(Path(supernet).resolve()) if Path(supernet).exists() else str(supernet)
    plan = plan.but(search=settings, student=AutoStudent(source=source))
    if plan.teacher.source is None and given.teacher is None and not plan.learns:
        plan = plan.but(teacher=plan.teacher.but(source=source))  # fitness by real images asks no teacher
    return opening.located(plan, given.teacher, given.data, given.on_event), opening.new_run(given.out)


def _facts(plan: Recipe, run: RunFolder, given: Given) -> Facts:
    found = replace(gather("distill", plan, given.on_event), run=run)
    if found.student is None:
        raise RecipeError(f"recipe {plan.name}: a search needs a supernet; set student.source.")
    check_fitness(plan, data_of(found.plan, found.original.takes))
    return found


def _run(facts: Facts, given: Given) -> SearchResult:
    plan, run, device, on_event = facts.plan, facts.run, given.where, given.on_event
    settings, supernet = plan.search, facts.student.generator
    search = distributed.together(lambda: planned(plan, supernet.config, facts.student.metadata.get(SPACE)))
    with distributed.alike():
        pick = _picker(facts, device, on_event)
    distributed.by_writer(run.create)
    with distributed.held_by_writer(run.locked):
        supernet.to(device)
        examples = _examples(facts, device)
        recalibrate(supernet, examples)
        whole = pick(supernet)
        search.higher = whole.higher_is_better
        identity = {
            "supernet": facts.student.sha256,
            "space": search.space.options,
            "macs": [settings.count_as, plan.data.size],
            "fitness": [whole.name, settings.features, whole.on, whole.images],
        }
        distributed.by_writer(lambda: run.write_recipe(plan.toml()))
        table = distributed.by_writer(lambda: Candidates.opened(run.path, identity, on_event))
        rows = distributed.from_writer(lambda: table.rows)
        on_event(_begins(plan, search, whole, len(rows)))
        known = {entries: row["fitness"] for row in rows if (entries := _entries(search.space, row["widths"]))}
        search.tell({entries: value for entries, value in known.items() if search.macs(entries) <= search.target})
        stopped = _generations(search, supernet, examples, pick, table, given)
        result = _result(facts, search, whole, stopped)
        if not stopped:
            distributed.by_writer(lambda: _write(facts, search, result, examples, device))
    return result


def planned(plan: Recipe, supernet: Config | None, learned: str | None = None) -> Search:
    """The search of a supernet of this Config, which has `learned` these widths, as its file says, if it does. Raises
    RecipeError where the space does not fit it, and UsageError for a budget that cannot be met."""
    settings, size = plan.search, plan.data.size
    if supernet is None:
        raise RecipeError(f"recipe {plan.name}: a network of your own class cannot be searched.")
    space = settings.space if settings.space != "none" else getattr(plan.algorithm, "space", "none")
    try:
        known = None if learned is None else Space.learned(supernet, learned)
        if known is not None and settings.space == "none":
            space = known
        else:
            space = Space.of(supernet, "auto" if space == "none" else space)
        for gene, mine, theirs in zip(supernet.genes(), space.options, (known or space).options, strict=True):
            if foreign := sorted(set(mine) - set(theirs)):
                raise ValueError(f"the supernet has not learned {gene} at {', '.join(map(str, foreign))}")
    except ValueError as error:
        raise RecipeError(f"recipe {plan.name}: the space of the search: {error}.") from error
    table = costs(supernet, size, size)

    def macs(widths: dict[str, int]) -> int:
        return table(widths).macs()[settings.count_as]

    return Search(space, macs, settings.target(macs(supernet.widths_by_group())), settings)


def check_fitness(plan: Recipe, images: ImageSet | LatentSet) -> None:
    """Raises RecipeError where candidates could not be scored on images that training has not seen, and NetworkError
    and InputError for weights that cannot be had."""
    from vemcompress.evaluation.extractors import INCEPTION, load_extractor  # late: it takes a second to import
    from vemcompress.evaluation.judge import check_by

    settings, train = plan.search, plan.train
    unseen = parts.tested(plan, images) if train.best_on == "test" else images.split_off()[1]
    if unseen is None:
        raise RecipeError(
            f"recipe {plan.name}: a search scores candidates on images that training has not seen, and none are held "
            "out; set data.held_out=40, for example, or train.best_on=test."
        )
    features = load_features(settings.features, settings.features_weights)
    teacher = None if plan.learns else plan.teacher
    with _named():
        check_by(settings.by, unseen, features=features, segmenter=train.segmenter, teacher=teacher)
        if settings.by == "fid":
            load_extractor(INCEPTION, train.inception)


@contextmanager
def _named() -> Iterator[None]:
    """Errors of what scores candidates name the search's own keys."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(str(error).replace("train.best_by", "search.by").replace("best_by", "search.by")) from error
    except NetworkError as error:
        raise NetworkError(f"{error} Or set search.by to frechet, with search.features.") from error


def _picker(facts: Facts, device: torch.device, on_event: Event) -> Picker:
    settings = facts.plan.search
    features = load_features(settings.features, settings.features_weights)
    with _named():
        return parts.picker(facts, features and features.to(device), device, on_event, by=settings.by)


def _examples(facts: Facts, device: torch.device) -> list[Tensor]:
    """Batches of training inputs that BatchNorms are calibrated on, none for a network without."""
    if facts.student.generator.config.norm != "batch":
        return []
    inputs = facts.images.spread(CALIBRATION).views(facts.original.channels, CALIBRATION).inputs
    return list(inputs.to(device).split(CALIBRATION_BATCH))


def _entries(space: Space, text: str) -> Entries | None:
    try:
        return space.parse(text)
    except ValueError:
        return None


@torch.no_grad()
def _generations(
    search: Search, supernet: Generator, examples: list[Tensor], pick: Picker, table: Candidates | None, given: Given
) -> str | None:
    """Score generation after generation; why it was stopped before the end, None where it was not. BatchNorms get their
    statistics from `examples`."""
    slowest = 0.0
    while True:
        for entries in search.wanted:
            if search.fitness and given.limit.passed_in(slowest):
                return "max_hours"
            began = perf_counter()
            candidate = cut(supernet, search.space.widths(entries))
            recalibrate(candidate, examples)
            fitness = pick(candidate).value
            search.tell({entries: fitness})
            row = {"widths": text_of(entries), "macs": search.macs(entries), "fitness": fitness}
            distributed.by_writer(lambda row=row: table.add([row]))
            slowest = max(slowest, perf_counter() - began)
            given.on_event(_scored(search))
        if not search.advance():
            return None


def _begins(plan: Recipe, search: Search, whole: Score, known: int) -> dict:
    return {
        "event": "search",
        "recipe": plan.name,
        "space": search.space.size,
        "target": search.target,
        "convention": plan.search.count_as,
        "generations": search.total,
        "metric": whole.name,
        "on": whole.on,
        "images": whole.images,
        "supernet": whole.value,
        "known": known,
    }


def _scored(search: Search) -> dict:
    best = search.best()
    return {
        "event": "candidate",
        "generation": search.generation + 1,
        "generations": search.total,
        "scored": len(search.fitness),
        "widths": text_of(best),
        "fitness": search.fitness[best],
        "macs": search.macs(best),
    }


def _result(facts: Facts, search: Search, whole: Score, stopped: str | None) -> SearchResult:
    plan, size, best = facts.plan, facts.plan.data.size, search.best()
    network = facts.student.generator
    small = network.config.with_widths(search.space.widths(best)).cost(size, size)
    return SearchResult(
        run=str(facts.run.path),
        student=None if stopped else str(facts.run.student),
        widths=text_of(best),
        metric=whole.name,
        fitness=search.fitness[best],
        on=whole.on,
        images=whole.images,
        target=search.target,
        convention=plan.search.count_as,
        size=size,
        before=counts(network, size, size),
        after={"parameters": small.parameters, "macs": small.macs()},
        scored=len(search.fitness),
        front=[(text_of(e), search.macs(e), search.fitness[e]) for e in search.front()],
        stopped=stopped,
    )


def _write(facts: Facts, search: Search, result: SearchResult, examples: list[Tensor], device: torch.device) -> None:
    """The student that was found, the picture of all candidates, and what the search was."""
    run, plan = facts.run, facts.plan
    best = cut(facts.student.generator, search.space.widths(search.best()))
    recalibrate(best, examples)
    best.cpu()

    unit, scale = ("billions", 1e9) if search.target >= 5e8 else ("millions", 1e6)

    def point(entries: Entries) -> tuple[float, float]:
        return search.macs(entries) / scale, search.fitness[entries]

    axes = f"{unit} of MACs ({result.convention}, {result.size} px)", result.metric
    plot = scatter([*map(point, search.fitness)], [*map(point, search.front())], axes, point(search.best()))
    save_png(run.path / "candidates.png", plot)
    how = {"widths": result.widths, "supernet": facts.student.sha256, result.metric: result.fitness}
    extra = {"searched": json.dumps(how)}
    write_atomically(run.student, artifact_bytes(best, recipe=plan.name, teacher=facts.provenance, extra=extra))
    networks = {"teacher": facts.provenance, "supernet": facts.student.provenance(), "student": result.after}
    run.write_json(run.environment, line.environment(device, **networks, searched=result.as_dict()))
    Made("search", "student").write(run.path)
