"""The loop of every search: score one generation after the other, record it, and return the best candidate.

A `Method` defines what is searched, the fitness of a candidate, and the network of the best one.
"""

import json
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from torch import nn

from vemcompress.commands import line
from vemcompress.commands.facts import Facts
from vemcompress.commands.inspect import counts
from vemcompress.commands.opening import Given
from vemcompress.data.images import save_png
from vemcompress.networks.base import Generator
from vemcompress.pruning.population import Candidate, Population
from vemcompress.runs.candidates import Candidates
from vemcompress.runs.plots import scatter
from vemcompress.system import distributed
from vemcompress.system.files import write_atomically
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.folder import Made


@dataclass(frozen=True, kw_only=True)
class SearchResult(line.Reported):
    """The run, the file of the `student` that was found, its `widths` in the notation of the method, and its `fitness`:
    the `metric` on `images` images.

    `before` and `after` have `parameters` and `macs` at `size`. `scored` is the number of candidates scored, and
    `front` the Pareto front of widths, MACs and fitness. `target` is the budget of MACs, or None. `goal` says how a
    requested latency or file size is met: its `target`, `predicted` and `measured` values in `unit`, and the
    predictions for the `front`, which is then the front of this goal. It is None before the end.

    `stopped` is "max_hours" if the search is unfinished. Then there is no student yet, and `widths` are the best so
    far.
    """

    run: str
    student: str | None
    widths: str
    metric: str
    fitness: float
    on: str
    images: int
    target: int | None
    convention: str
    size: int
    before: dict
    after: dict
    scored: int
    front: list[tuple[str, int, float]]
    stopped: str | None = None
    goal: dict | None = None


@dataclass(frozen=True)
class Measure:
    """The name of the fitness, the kind and number of the images it is measured on, and the fitness of the `whole`
    network, if it has one."""

    name: str
    on: str
    images: int
    whole: float | None = None


class Method:
    """A search method: its `population`, and how candidates are scored. `apart` says whether each process scores a
    different candidate, or all processes score one together."""

    apart: bool = False
    population: Population

    def __init__(self, facts: Facts, given: Given):
        """Check the search. An error is raised on all processes together."""
        self.facts, self.given = facts, given

    def begin(self) -> Measure:
        """Prepare the scoring of candidates. The run's folder is locked at this point."""
        raise NotImplementedError

    def identity(self, measure: Measure) -> dict[str, Any]:
        """The conditions under which the figures of an earlier table are valid."""
        raise NotImplementedError

    def fitness(self, candidate: Candidate) -> float:
        raise NotImplementedError

    def network(self, candidate: Candidate) -> Generator:
        """The candidate with its weights."""
        raise NotImplementedError

    def others(self) -> dict[str, nn.Module]:
        """Networks that are saved in addition to the best one, by file name."""
        return {}


def run(method: Method) -> SearchResult:
    """Search in the run's folder, which may be new or resumed."""
    facts, given, population = method.facts, method.given, method.population
    folder = facts.run
    distributed.by_writer(folder.create)
    with distributed.held_by_writer(folder.locked):
        measure = method.begin()
        identity = method.identity(measure)
        distributed.by_writer(lambda: folder.write_recipe(facts.plan.toml()))
        table = distributed.by_writer(lambda: Candidates.opened(folder.path, identity, given.on_event))
        rows = distributed.from_writer(lambda: table.rows)
        given.on_event(_begins(method, measure, len(rows)))
        known = ((population.read(row), row["fitness"]) for row in rows)
        population.tell({candidate: fitness for candidate, fitness in known if candidate is not None})
        stopped = _generations(method, table)
        best, goal = population.best(), None
        if not stopped:
            best, goal = distributed.from_writer(population.decided)
        result = _result(method, measure, best, goal, stopped)
        if not stopped:
            distributed.by_writer(lambda: _write(method, result, best))
    return result


def _generations(method: Method, table: Candidates | None) -> str | None:
    """Score one generation after the other. Returns why the search was stopped early, or None."""
    population, limit, slowest = method.population, method.given.limit, 0.0
    at_once = distributed.ranks() if method.apart else 1
    while True:
        while wanted := population.wanted[:at_once]:
            if population.fitness and limit.passed_in(slowest):
                return "max_hours"
            began = perf_counter()
            found = _scored(method, wanted)
            rows = [_row(population, c) | {"fitness": found[c]} for c in wanted]
            distributed.by_writer(lambda rows=rows: table.add(rows))
            slowest = max(slowest, perf_counter() - began)
            for candidate in wanted:
                population.tell({candidate: found[candidate]})
                method.given.on_event(_told(population))
        if not population.advance():
            return None


def _row(population: Population, candidate: Candidate) -> dict[str, Any]:
    """A candidate's row of the table: its widths and its cost."""
    more = {population.goal: population.cost(candidate)} if population.goal else {}
    return population.row(candidate) | {"macs": population.macs(candidate)} | more


def _scored(method: Method, candidates: list[Candidate]) -> dict[Candidate, float]:
    if not method.apart:
        return {candidate: method.fitness(candidate) for candidate in candidates}
    mine = candidates[distributed.rank() : distributed.rank() + 1]

    def own() -> list[float]:
        with distributed.alone():
            return [method.fitness(candidate) for candidate in mine]

    values = distributed.collected(distributed.together(own))
    return dict(zip(candidates, (value for part in values for value in part), strict=True))


def _begins(method: Method, measure: Measure, known: int) -> dict:
    plan, population = method.facts.plan, method.population
    return {
        "event": "search",
        "recipe": plan.name,
        "space": population.said,
        "target": population.target,
        "budget": None if population.target is None else population.shown(population.target),
        "convention": plan.search.count_as,
        "generations": population.total,
        "metric": measure.name,
        "on": measure.on,
        "images": measure.images,
        "whole": measure.whole,
        "known": known,
    }


def _told(population: Population) -> dict:
    best = population.best()
    return {
        "event": "candidate",
        "generation": population.generation + 1,
        "generations": population.total,
        "scored": len(population.fitness),
        "widths": population.row(best)["widths"],
        "fitness": population.fitness[best],
        "macs": population.macs(best),
        "cost": population.shown(population.cost(best)) if population.goal else None,
    }


def _result(method: Method, measure: Measure, best: Candidate, goal: dict | None, stopped: str | None) -> SearchResult:
    facts, population = method.facts, method.population
    plan, size, front = facts.plan, facts.plan.data.size, population.front()
    return SearchResult(
        run=str(facts.run.path),
        student=None if stopped else str(facts.run.student),
        widths=population.row(best)["widths"],
        metric=measure.name,
        fitness=population.fitness[best],
        on=measure.on,
        images=measure.images,
        target=None if population.goal else population.target,
        convention=plan.search.count_as,
        size=size,
        before=counts(facts.student.generator, size, size),
        after=counts(method.network(best), size, size),
        scored=len(population.fitness),
        front=[(population.row(c)["widths"], population.macs(c), population.fitness[c]) for c in front],
        stopped=stopped,
        goal=goal and goal | {"front": [population.cost(candidate) for candidate in front]},
    )


def _write(method: Method, result: SearchResult, best: Candidate) -> None:
    """Write the student that was found, the plot of the candidates, and the record of the search."""
    facts, population, device = method.facts, method.population, method.given.where
    folder, plan = facts.run, facts.plan
    name, scale = _axis(result)

    def point(candidate: Candidate) -> tuple[float, float]:
        return population.cost(candidate) / scale, population.fitness[candidate]

    axes = f"{name}, {result.size} px", result.metric
    plot = scatter([*map(point, population.peers())], [*map(point, population.front())], axes, point(best))
    save_png(folder.path / "candidates.png", plot)
    how = {"widths": result.widths, "supernet": facts.student.sha256, result.metric: result.fitness}
    extra = {"searched": json.dumps(how)} | ({} if result.goal is None else {"goal": json.dumps(result.goal)})
    about = {"recipe": plan.name, "teacher": facts.provenance, "extra": extra}
    for name, network in (method.others() | {"student": method.network(best)}).items():
        write_atomically(folder.artifact(name), artifact_bytes(network.cpu(), **about))
    networks = {"teacher": facts.provenance, "supernet": facts.student.provenance(), "student": result.after}
    folder.write_json(folder.environment, line.environment(device, **networks, searched=result.as_dict()))
    Made("search", "student").write(folder.path)


def _axis(result: SearchResult) -> tuple[str, float]:
    """The plot's axis for the cost: its name, and the number by which the cost is divided."""
    if result.goal is not None:
        return ("predicted ms", 1.0) if result.goal["unit"] == "ms" else ("predicted KB", 1e3)
    most = result.target or result.before["macs"][result.convention]
    unit, scale = ("billions", 1e9) if most >= 5e8 else ("millions", 1e6)
    return f"{unit} of MACs ({result.convention})", scale
