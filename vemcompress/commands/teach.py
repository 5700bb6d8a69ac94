"""From paired images, or two domains of them, to a teacher that `distill` takes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vemcompress.commands import facts as line_facts
from vemcompress.commands import line, parts
from vemcompress.commands.facts import Facts
from vemcompress.errors import RecipeError
from vemcompress.networks.base import count_parameters
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices, distributed
from vemcompress.training.pace import Limit

Event = Callable[[dict], None]


@dataclass(frozen=True)
class TeachResult:
    """A run. `others` are the files of the discriminators and of further generators, by name; the rest is as in
    `distill.DistillResult`."""

    run: str
    teacher: str
    others: dict[str, str]
    steps: int
    parameters: int
    losses: dict[str, float]
    seconds_per_step: float | None
    skipped_images: int
    best: dict | None = None
    stopped: str | None = None
    total_steps: int | None = None

    def as_dict(self) -> dict:
        return asdict(self)


def teach(
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path | Recipe = "pix2pix",
    teacher: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = lambda event: None,
) -> TeachResult:
    """Train a teacher by the recipe's [gan], in the new run folder `out`; or go on with the run `resume`.

    It starts from the weights of `teacher` where they are given. The run holds `teacher.safetensors`, the
    discriminators, and for CycleGAN the generator back. Checks, errors, resuming, `max_hours` and ranks
    are as in `distill`.
    """
    limit, where = Limit.of(max_hours), devices.choose(device)
    given = {"teacher": teacher, "data": data, "out": out, "recipe": recipe, "overrides": overrides, "resume": resume}
    with distributed.group(where):
        on_event = distributed.told_by_writer(on_event)
        facts = distributed.together(
            lambda: line_facts.read("teach", on_event=on_event, adapt=lambda plan: _alone(plan, on_event), **given)
        )
        with devices.memory_errors(facts.advice):
            return _run(facts, where, resume is not None, limit, on_event)


def known(run: RunFolder, overrides: Sequence[str] = ()) -> TeachResult | None:
    """The result of a run that is done, as `distill.known`."""

    def result(told: dict, made: dict) -> TeachResult:
        files = {path.stem: str(path) for path in sorted(run.path.glob("*.safetensors"))}
        teacher = files.pop("teacher")
        parameters = made["teacher"]["parameters"]
        return TeachResult(run=str(run.path), teacher=teacher, others=files, parameters=parameters, **told)

    return line.known(run, overrides, "teach", result)


def _run(facts: Facts, device: torch.device, resumed: bool, limit: Limit, on_event: Event) -> TeachResult:
    with distributed.alike():
        pick = parts.picker(facts, None, device)
    plan, run, gan = facts.plan, facts.run, facts.gan
    distributed.by_writer(run.create)
    with distributed.held_by_writer(run.locked):
        train = plan.train
        stream = facts.images.stream(facts.original.channels, train.batch, train.seed, on_event, device)
        networks = {name: line.described(g, plan.data.size) for name, g in gan.generators().items()}
        described = {"teacher": facts.provenance | next(iter(networks.values())), "networks": networks}
        ready = line.Ready("teach", facts, gan, stream, device, pick, facts.columns, "data.png", described)
        trainer = line.trained(
            ready, resumed, limit, on_event, announce=lambda state: _announce(facts, networks, device, on_event, state)
        )
    first, *others = gan.artifacts()
    return TeachResult(
        run=str(run.path),
        teacher=str(run.artifact(first)),
        others={name: str(run.artifact(name)) for name in others},
        parameters=count_parameters(facts.original),
        **line.outcome(trainer, on_event),
    )


def _announce(facts: Facts, networks: dict, device: torch.device, on_event: Event, state: dict) -> None:
    on_event({
        "event": "teaching",
        "gan": facts.plan.gan.model_dump(mode="json", exclude_none=True),
        "networks": networks,
        "discriminators": {name: count_parameters(judge) for name, judge in facts.gan.discriminators().items()},
        **line.told(facts, device),
        **state,
    })  # fmt: skip


def _alone(plan: Recipe, on_event: Event) -> Recipe:
    """Without a student its rate says nothing, so that it is made the teacher's, which the log then tells; and no
    steps lie between those at which the teacher learns."""
    if plan.gan is None:
        raise RecipeError(f"recipe {plan.name}: has no [gan] to learn by; take pix2pix or cyclegan, or add one.")
    gan, train = plan.gan, plan.train
    if "lr" in train.model_fields_set and train.lr != gan.lr:
        _warn(on_event, f"train.lr {train.lr:g} is a student's; the teacher learns at gan.lr {gan.lr:g}.")
    if gan.every > 1:
        _warn(on_event, f"gan.every {gan.every} counts a student's steps; alone the teacher learns at each step.")
    changed = {"gan": gan.model_copy(update={"every": 1}), "train": train.model_copy(update={"lr": gan.lr})}
    return plan.model_copy(update=changed)


def _warn(on_event: Event, message: str) -> None:
    on_event({"event": "warning", "message": message})
