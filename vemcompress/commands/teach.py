"""From paired images, or two domains of them, to a teacher that `distill` takes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vemcompress.commands import opening
from vemcompress.commands.gan_parts import build_gan, settled
from vemcompress.data.sets import ImageSet
from vemcompress.errors import RecipeError
from vemcompress.gans import GAN
from vemcompress.networks.base import count_parameters
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import resolve_teaching
from vemcompress.runs.best import Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices, distributed
from vemcompress.training.loop import Trainer
from vemcompress.training.pace import Limit
from vemcompress.weights.files import write_atomically
from vemcompress.weights.loading import Loaded

Event = Callable[[dict], None]


@dataclass(frozen=True)
class TeachResult:
    """A run. `others` are the files of the discriminators and of further generators, by name; the rest is as in
    `distil.DistillResult`."""

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
    recipe: str | Path = "pix2pix",
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
    with distributed.group(where):
        on_event = distributed.told_by_writer(on_event)
        work, run = distributed.together(lambda: _checked(teacher, data, out, recipe, overrides, resume, on_event))
        with devices.memory_errors(opening.advice(work.plan)):
            with distributed.alike():
                pick = opening.picker(work.plan, work.held_out, work.channels, where, features=None, teacher=None)
            distributed.by_writer(run.create)
            with distributed.held_by_writer(run.locked):
                return _train(work, run, pick, where, resume is not None, limit, on_event)


@dataclass(frozen=True)
class _Teaching:
    """What was asked for, found to be possible. `columns` begin a run's pictures, whose inputs are `inputs`."""

    plan: Recipe
    loaded: Loaded | None
    gan: GAN
    images: ImageSet
    held_out: ImageSet | None
    channels: tuple[int, int]
    inputs: Tensor
    columns: dict[str, Tensor]


def _checked(teacher, data, out, recipe, overrides, resume, on_event: Event) -> tuple[_Teaching, RunFolder]:
    """All that can be known to be wrong before anything is computed or written."""
    plan, run = opening.open_recipe(recipe, overrides, resume, "teach")
    if plan.gan is None:
        raise RecipeError(f"recipe {plan.name}: has no [gan] to learn by; take pix2pix or cyclegan, or add one.")
    plan = _alone(plan, on_event)
    plan, loaded = opening.load_teacher(opening.located(plan, teacher, data, on_event))
    images = opening.training_images(plan, on_event)
    gan = build_gan(plan, loaded, images.channels())
    plan = settled(plan, gan)
    main = next(iter(gan.generators().values()))
    channels = main.channels
    on_event({"event": "data", "images": images.count, "used": list(images.found.used)})
    learn_on, held_out = images.split_off()
    plan = resolve_teaching(plan, main, learn_on.count)
    distributed.check_batch(plan.train.batch)
    views = learn_on.spread(opening.SAMPLES).views(channels, opening.SAMPLES, on_event)
    columns = opening.columns(learn_on, *views)
    work = _Teaching(plan, loaded, gan, learn_on, held_out, channels, views.inputs, columns)
    return work, run or opening.new_run(out)


def _train(
    work: _Teaching,
    run: RunFolder,
    pick: Picker | None,
    device: torch.device,
    resumed: bool,
    limit: Limit,
    on_event: Event,
) -> TeachResult:
    plan, gan, loaded = work.plan, work.gan, work.loaded
    stream = work.images.stream(work.channels, plan.train.batch, plan.train.seed, on_event, device)
    provenance = loaded.provenance() if loaded else {"source": f"{plan.gan.name}, learnt in this run"}
    trainer = Trainer(
        plan.name,
        plan.train,
        gan,
        stream,
        run,
        inputs=work.inputs,
        columns=work.columns,
        provenance=provenance,
        device=device,
        on_event=on_event,
        pick=pick,
        command="teach",
        limit=limit,
    )
    if resumed:
        distributed.together(lambda: opening.check_same_teacher(run, loaded))
    continued = trainer.restore() if resumed else False
    networks = {name: opening.described(g, plan.data.size) for name, g in gan.generators().items()}
    picture = run.samples / "data.png"

    def write_down() -> None:
        write_atomically(run.recipe, plan.toml().encode())
        teacher_is = provenance | next(iter(networks.values()))
        run.write_json(run.environment, opening.environment(device, teacher=teacher_is, networks=networks))
        opening.save_picture(picture, work.columns)

    distributed.by_writer(write_down)
    on_event(_announcement(plan, gan, networks, work.images, work.held_out, device) | {
        "step": trainer.step, "continued": continued, "picture": str(picture),
    })  # fmt: skip
    if trainer.step < plan.train.steps:
        trainer.train()
    first, *others = gan.artifacts()
    return TeachResult(
        run=str(run.path),
        teacher=str(run.artifact(first)),
        others={name: str(run.artifact(name)) for name in others},
        steps=trainer.step,
        parameters=count_parameters(next(iter(gan.generators().values()))),
        losses=trainer.losses,
        seconds_per_step=trainer.seconds_per_step,
        skipped_images=len(opening.union_of_skipped(stream.skipped, on_event)),
        best=trainer.best.state,
        stopped=trainer.stopped,
        total_steps=plan.train.steps,
    )


def _announcement(
    plan: Recipe, gan: GAN, networks: dict, images: ImageSet, held_out: ImageSet | None, device: torch.device
) -> dict:
    return {
        "event": "teaching",
        "recipe": plan.name,
        "gan": plan.gan.model_dump(mode="json", exclude_none=True),
        "networks": networks,
        "discriminators": {name: count_parameters(judge) for name, judge in gan.discriminators().items()},
        "images": images.count,
        "held_out": len(held_out.paths) if held_out else 0,
        "size": plan.data.size,
        "batch": plan.train.batch,
        "steps": plan.train.steps,
        "device": device.type,
        "ranks": distributed.ranks(),
        "precision": plan.train.precision,
    }


def _alone(plan: Recipe, on_event: Event) -> Recipe:
    """Without a student its rate says nothing, so that it is made the teacher's, which the log then tells; and no
    steps lie between those at which the teacher learns."""
    gan, train = plan.gan, plan.train
    if "lr" in train.model_fields_set and train.lr != gan.lr:
        _warn(on_event, f"train.lr {train.lr:g} is a student's; the teacher learns at gan.lr {gan.lr:g}.")
    if gan.every > 1:
        _warn(on_event, f"gan.every {gan.every} counts a student's steps; alone the teacher learns at each step.")
    changed = {"gan": gan.model_copy(update={"every": 1}), "train": train.model_copy(update={"lr": gan.lr})}
    return plan.model_copy(update=changed)


def _warn(on_event: Event, message: str) -> None:
    on_event({"event": "warning", "message": message})
