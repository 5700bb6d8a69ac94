"""The rows of a comparison: the cost and the quality of a network, and whether it is on a Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vemcompress import recipe as recipes
from vemcompress.commands.compared import Group, Member
from vemcompress.commands.evaluate import teacher_of
from vemcompress.commands.inspect import check_size, counts, sides_of
from vemcompress.commands.seeds import Spread, spread, spreads
from vemcompress.evaluation import Evaluation
from vemcompress.export.latency import bench_in_turns
from vemcompress.runs.best import look
from vemcompress.system.events import Event
from vemcompress.weights.loading import Loaded, load


@dataclass(frozen=True)
class Row:
    """A run, several runs of one recipe with different seeds, or the teacher, which has neither seeds nor steps.

    `macs` are those of one image at the comparison's size. `p50_ms` is the latency in PyTorch on the CPU, or None if it
    was not measured. `front` lists the Pareto fronts that the row is on: "macs", "latency", both or none.
    """

    name: str
    runs: tuple[str, ...]
    recipe: str
    algorithm: str
    information: str
    seeds: tuple[int, ...]
    macs: Spread
    parameters: Spread
    p50_ms: float | None
    metrics: dict[str, Spread]
    steps: int | None
    front: tuple[str, ...] = ()


class Networks:
    """Networks by shape. Networks of equal shape cost the same, so the latency of each shape is measured once."""

    def __init__(self, size: int, convention: str):
        self.size, self.convention = size, convention
        self.shapes: dict[str, Loaded] = {}
        self.of: dict[str, list[str]] = {}  # shapes by the row's name

    def counted(self, row: str, networks: Sequence[Loaded]) -> dict[str, Spread]:
        """MACs and parameters over the networks of a row."""
        found = []
        for loaded in networks:
            config, sides = loaded.generator.config, sides_of(loaded, self.size)
            check_size(loaded, *sides)
            shape = loaded.source if config is None else f"{loaded.generator.family} {config.model_dump_json()}"
            self.shapes.setdefault(shape, loaded)
            self.of.setdefault(row, []).append(shape)
            found.append(counts(loaded.generator, *sides))
        macs = spread(one["macs"][self.convention] for one in found)
        return {"macs": macs, "parameters": spread(one["parameters"] for one in found)}

    def timed(
        self, rows: Sequence[Row], teacher: Row | None, threads: int, on_event: Event
    ) -> tuple[list[Row], Row | None]:
        """The rows with their latency."""
        networks = {shape: loaded.generator for shape, loaded in self.shapes.items()}
        found = bench_in_turns(networks, size=self.size, threads=threads, on_event=on_event)

        def with_latency(row: Row) -> Row:
            return replace(row, p50_ms=spread(found[shape]["p50_ms"] for shape in self.of[row.name]).mean)

        return [with_latency(row) for row in rows], teacher and with_latency(teacher)


def row_of(group: Group, several: Sequence[Evaluation], columns: Sequence[str], networks: Networks) -> Row:
    plans = [recipes.read(member.run.recipe) for member in group.members]
    loaded = [
        load(member.run.path, class_path=getattr(plan.student, "class_path", None))
        for member, plan in zip(group.members, plans, strict=True)
    ]
    learnt_alone = several[0].role == "teacher"  # a run of `teach`
    return Row(
        name=group.name,
        runs=tuple(str(member.folder) for member in group.members),
        recipe=group.recipe.name,
        algorithm=plans[0].gan.name if learnt_alone else plans[0].algorithm.name,
        information="none" if learnt_alone else plans[0].information.name,
        seeds=tuple(member.recipe.train.seed for member in group.members),
        p50_ms=None,
        metrics=spreads({name: one.metrics[name] for name in columns if name in one.metrics} for one in several),
        steps=several[0].step,
        **networks.counted(group.name, loaded),
    )


def teacher_row(
    member: Member,
    found: Sequence[Sequence[Evaluation]],
    columns: Sequence[str],
    networks: Networks,
    on_event: Event,
) -> Row | None:
    """The teacher's row, or None if the runs were compared with different teachers or the file no longer exists."""
    flat = [one for several in found for one in several]
    files = {one.conditions["teacher"] and one.conditions["teacher"]["sha256"] for one in flat}
    plan = recipes.read(member.run.recipe)
    loaded = None
    if len(files) == 1 and files != {None}:
        loaded = teacher_of(
            member.run.path, plan, look(member.run.path).name, norm=plan.teacher.norm, on_event=on_event
        )
    if loaded is None or loaded.sha256 not in files:
        return None
    metrics = {name: one.teacher[name] for one in flat for name in columns if name in one.teacher}
    return Row(
        name="teacher",
        runs=(loaded.source,),
        recipe="",
        algorithm="",
        information="",
        seeds=(),
        p50_ms=None,
        metrics=spreads([metrics]),
        steps=None,
        **networks.counted("teacher", [loaded]),
    )


def pareto(costs: Sequence[float | None], values: Sequence[float | None], higher: bool) -> list[bool]:
    """For each point, whether it is on the Pareto front.

    A point is not on the front if another one is at least as good in both figures and better in one of them, or if one
    of its figures is missing (None).
    """
    sign = -1 if higher else 1
    points = [
        None if cost is None or value is None else (cost, sign * value)
        for cost, value in zip(costs, values, strict=True)
    ]
    known = {point for point in points if point is not None}
    beaten = {one for one in known for other in known if other != one and other[0] <= one[0] and other[1] <= one[1]}
    return [point is not None and point not in beaten for point in points]


def with_fronts(rows: Sequence[Row], by: str, higher: bool) -> list[Row]:
    values = [row.metrics[by].mean if by in row.metrics else None for row in rows]
    costs = {"macs": [row.macs.mean for row in rows], "latency": [row.p50_ms for row in rows]}
    on = {cost: pareto(of, values, higher) for cost, of in costs.items()}
    return [replace(row, front=tuple(cost for cost in on if on[cost][place])) for place, row in enumerate(rows)]


def order(row: Row, by: str, higher: bool) -> tuple[bool, float]:
    """The sort key of a row: the best first, rows without the metric last."""
    if by not in row.metrics:
        return True, 0.0
    return False, -row.metrics[by].mean if higher else row.metrics[by].mean
