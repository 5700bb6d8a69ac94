"""`evaluate` once for every seed's run."""

from dataclasses import asdict, dataclass
from pathlib import Path

from vemcompress import recipe as recipes
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.seeds.spread import Spread, spreads
from vemcompress.errors import InputError
from vemcompress.evaluation import Evaluation
from vemcompress.runs import result
from vemcompress.runs.series import SeedsFolder
from vemcompress.system import devices, distributed


@dataclass(frozen=True)
class SeedsEvaluation:
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

    def as_dict(self) -> dict:
        return asdict(self)


def evaluate_seeds(folder: str | Path, **options) -> SeedsEvaluation:
    """`evaluate` with the same `options` of every run in a folder that `distill_seeds` made.

    Raises InputError where a run is missing or not at its end, and the classes of `errors`.
    """
    seeds, found = SeedsFolder.read(folder), {}
    on_event = options.pop("on_event", lambda event: None)
    with distributed.group(devices.choose(options.get("device", "auto"))):
        on_event = distributed.told_by_writer(on_event)
        distributed.together(lambda: _check_done(seeds))
        for number, seed in enumerate(seeds.seeds, 1):
            on_event({"event": "stage", "title": f"seed {seed} ({number} of {len(seeds.seeds)})"})
            found[seed] = evaluate(seeds.run(seed).path, on_event=on_event, **options)
    several = list(found.values())
    best = [evaluation.best for evaluation in several if evaluation.best is not None]
    return SeedsEvaluation(
        str(seeds.path),
        found,
        metrics=spreads(evaluation.metrics for evaluation in several),
        best={
            "picked_by": best[0]["picked_by"],
            "on": best[0]["on"],
            "metrics": spreads(one["metrics"] for one in best),
        }
        if best
        else None,
        teacher=spreads(evaluation.teacher for evaluation in several),
        real=spreads(evaluation.real for evaluation in several),
    )


def _check_done(seeds: SeedsFolder) -> None:
    """The mean over runs of different lengths would say nothing."""
    runs = {seed: seeds.run(seed) for seed in seeds.seeds}
    steps = {seed: recipes.read(run.recipe).train.steps for seed, run in runs.items() if run.recipe.is_file()}
    last = max(steps.values(), default=0)
    finish = f"vemcompress distill --resume {seeds.path}" + (f" --steps {last}" if len(set(steps.values())) > 1 else "")
    for seed, run in runs.items():
        there = run.student.is_file() and run.recipe.is_file()
        step = result.look(run.path).step if there else 0
        if (step is not None and step < last) or not there:
            state = f"is at step {step} of {last}" if there else "has no student yet"
            raise InputError(f"{seeds.path}: seed {seed} {state}; finish all of them with `{finish}`.")
