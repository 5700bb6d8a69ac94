"""From paired images, or two domains of them, to a teacher that `distill` takes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vemcompress import devices, runs
from vemcompress.data.sets import ImageSet
from vemcompress.errors import RecipeError
from vemcompress.gans import GAN
from vemcompress.networks.base import count_parameters
from vemcompress.recipe import Recipe
from vemcompress.resolve import resolve_teaching
from vemcompress.teachers import build_gan, settled
from vemcompress.training.loop import Trainer
from vemcompress.training.pace import Limit
from vemcompress.weights.files import write_atomically

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
    discriminators, and for CycleGAN the generator back. Checks, errors, resuming and `max_hours` are as in `distill`.
    """
    limit, where = Limit.of(max_hours), devices.choose(device)
    plan, run = runs.open_recipe(recipe, overrides, resume, "teach")
    if plan.gan is None:
        raise RecipeError(f"recipe {plan.name}: has no [gan] to learn by; take pix2pix or cyclegan, or add one.")
    plan = _alone(plan, on_event)
    plan, loaded = runs.load_teacher(runs.located(plan, teacher, data, on_event))
    images = runs.training_images(plan, on_event)
    gan = build_gan(plan, loaded, images.channels())
    plan = settled(plan, gan)
    main = next(iter(gan.generators().values()))
    channels = runs.channels_of(main)
    on_event({"event": "data", "images": images.count, "used": list(images.found.used)})
    learn_on, held_out = images.split_off()
    plan = resolve_teaching(plan, main, learn_on.count)
    views = learn_on.spread(runs.SAMPLES).views(channels, runs.SAMPLES, on_event)
    columns = runs.columns(learn_on, *views)
    run = run or runs.new_run(out)
    with devices.memory_errors(runs.advice(plan)):
        pick = runs.picker(plan, held_out, channels, where, features=None, teacher=None)
        run.create()
        with run.locked():
            stream = learn_on.stream(channels, plan.train.batch, plan.train.seed, on_event, where)
            provenance = loaded.provenance() if loaded else {"source": f"{plan.gan.name}, learnt in this run"}
            trainer = Trainer(
                plan,
                gan,
                stream,
                run,
                inputs=views.inputs,
                columns=columns,
                provenance=provenance,
                device=where,
                on_event=on_event,
                pick=pick,
                command="teach",
                limit=limit,
            )
            if resume is not None:
                runs.check_same_teacher(run, loaded)
            continued = trainer.restore() if resume is not None else False
            write_atomically(run.recipe, plan.toml().encode())
            networks = {name: runs.described(g, plan.data.size) for name, g in gan.generators().items()}
            teacher_is = provenance | next(iter(networks.values()))
            run.write_json(run.environment, runs.environment(where, teacher=teacher_is, networks=networks))
            picture = runs.save_picture(run.samples / "data.png", columns)
            on_event(_announcement(plan, gan, networks, learn_on, held_out, where) | {
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
        parameters=count_parameters(main),
        losses=trainer.losses,
        seconds_per_step=trainer.seconds_per_step,
        skipped_images=len(stream.skipped),
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
