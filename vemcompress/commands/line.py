"""The last part of the line: learner -> loop -> run -> result.

recipe -> facts -> resolved recipe (`facts`) -> parts -> learner (`parts`) -> loop -> run folder -> result: each command
that trains goes this way once, from the left to the right.
"""

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vemcompress import __version__
from vemcompress.commands import opening
from vemcompress.commands.facts import Facts
from vemcompress.commands.inspect import counts
from vemcompress.commands.opening import Given
from vemcompress.commands.quality import quality
from vemcompress.data.batch import Batch
from vemcompress.data.images import save_png
from vemcompress.data.latent_set import LatentSet
from vemcompress.networks.base import Generator
from vemcompress.runs.best import Picker, checked
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import damage, last, scores
from vemcompress.runs.pictures import sheet_of
from vemcompress.runs.tensorboard import followed
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, Once
from vemcompress.system.files import MALFORMED, is_count, read_json
from vemcompress.training.footprint import SAMPLE, footprint
from vemcompress.training.learner import Learner
from vemcompress.training.loop import Trainer
from vemcompress.training.stepper import Stepper, check_parts
from vemcompress.weights.folder import Made

Result = TypeVar("Result")


class Reported:
    """A result of a command, a dataclass."""

    def as_dict(self) -> dict:
        """For --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RunResult(Reported):
    """What is told of every run that trained. `seconds_per_step`, without saving, is None where no step was needed;
    losses are those logged last, and `main` names those whose sum is the student's (or the taught teacher's) loss.

    `best` is what best/best.json says of the best checkpoint, None where none was picked; a finished run then has a
    `quality`, {"on", "images", "metrics"}, of a few images, which are "held_out" or "training" ones. `diverged` says
    what went wrong though no number was NaN, by kind: "loss" and "output", as `training.health` found it. `stopped` is
    "max_hours" where the time was over after `steps` of `total_steps`, None for a run that is finished.

    `macs` are those of the run's network by convention for an image of `size`, None where they are not known. `last` is
    the newest score by which the best is picked, as `best`. `report` is the page that shows the run, and `next` are
    commands for what can be done with it.
    """

    run: str
    steps: int
    parameters: int
    losses: dict[str, float]
    seconds_per_step: float | None
    skipped_images: int
    main: Sequence[str] = ()
    best: dict | None = None
    quality: dict | None = None
    diverged: dict[str, dict] = field(default_factory=dict)
    stopped: str | None = None
    total_steps: int | None = None
    macs: dict[str, int] | None = None
    size: int | None = None
    last: dict | None = None
    report: str | None = None
    next: tuple[str, ...] = ()

    @property
    def best_in(self) -> str | None:
        """The run, where an earlier checkpoint than the last is the best."""
        return self.run if self.best is not None and self.best["step"] != self.steps else None


def trained(
    command: str,
    facts: Facts,
    given: Given,
    learner: Learner,
    pick: Picker | None,
    networks: dict[str, dict],
    events: Sequence[dict],
    *,
    made: dict[str, Tensor] | None = None,
    during: Callable[[Any], AbstractContextManager] = nullcontext,
) -> dict:
    """Train in the run's folder, from its newest checkpoint where it is resumed; what every run's result says of that.

    `networks` are described in environment.json. `events` are told before it begins, the first with what is said of
    every run. `made` are columns for the run's first picture, which a frozen teacher made. `during` gives a context
    that training happens in, for the stream of batches.
    """
    plan, run, on_event, device = facts.plan, facts.run, given.on_event, given.where
    train, resumed = plan.train, given.resume is not None
    board = distributed.is_writer() and (given.tensorboard or (resumed and run.tensorboard.is_dir()))
    check_parts(learner, train)
    distributed.by_writer(run.create)
    with distributed.held_by_writer(run.locked), followed(run, on_event, board) as told_of_steps:
        if command == "distill" and not resumed:  # from here on the run can be resumed
            distributed.by_writer(lambda: run.write_recipe(plan.toml()))
        stream = facts.stream(device, on_event, second=learner.second, halves=learner.halves)
        trainer = Trainer(
            plan.name,
            train,
            learner,
            stream,
            run,
            inputs=facts.inputs,
            columns=facts.columns,
            wanted=(made or {}).get("teacher", facts.columns.get("ground truth")),
            provenance=facts.provenance,
            device=device,
            on_event=told_of_steps,
            pick=pick,
            command=command,
            limit=given.limit,
        )
        if resumed:
            distributed.together(lambda: opening.check_same_teacher(run, facts.loaded, on_event))
            for found in distributed.from_writer(lambda: [damage(log) for log in (run.metrics, run.timing)]):
                if found:
                    on_event({"event": "warning", "message": found})
        continued = trainer.restore() if resumed else False
        heard = Once.of(on_event)  # what the run is warned of from here on is written at its end
        heard.warnings[:0] = _warned_before(run) if resumed else []
        surroundings = environment(device, **networks) | {"diverged": trainer.health.found, "warnings": heard.warnings}
        picture = run.samples / ("teacher.png" if facts.frozen else "data.png")

        def write_down() -> None:
            if trainer.step < train.steps:
                run.write_recipe(plan.toml())
            run.write_json(run.environment, surroundings)
            Made(command, next(iter(learner.artifacts()))).write(run.path)
            if columns := facts.columns | (made or {}):
                save_png(picture, *sheet_of(columns, facts.inputs, "before training"))

        distributed.by_writer(write_down)
        about = told(facts, device) | {"step": trainer.step, "continued": continued, "picture": str(picture)}
        about |= {"scores": list(trainer.best.scores), "best": trainer.best.state}
        for event in (events[0] | about, *events[1:]):
            on_event(event)
        if board:
            on_event({"event": "tensorboard", "path": str(run.path)})
        if trainer.step < train.steps:
            if learner.splits:
                tell_memory(facts, trainer.make_step, on_event)
            with during(stream):
                trainer.train()
        outcome = {"quality": None, "diverged": trainer.health.found}
        if trainer.best.state is None and not trainer.stopped:
            network = next(iter(learner.artifacts().values()))
            outcome["quality"] = distributed.from_writer(lambda: quality(facts, network, device))
        distributed.by_writer(lambda: run.write_json(run.environment, surroundings | outcome))
    return _outcome(trainer, on_event) | outcome | {"size": plan.data.size}


def _warned_before(run: RunFolder) -> list[str]:
    """What environment.json says that the run was warned of before it was resumed."""
    try:
        return [str(told) for told in read_json(run.environment)["warnings"]]
    except (OSError, *MALFORMED):
        return []


def tell_memory(facts: Facts, make_step: Stepper, on_event: Event) -> None:
    """Say what a step will take, and what makes it less."""
    learner, train, device, takes = make_step.learner, make_step.settings, make_step.device, facts.original.takes
    real = torch.zeros(SAMPLE, facts.original.out_channels, takes.image, takes.image)
    found = footprint(learner, Batch(facts.inputs[:SAMPLE], real=real).to(device), make_step.random(1))
    here = train.batch // distributed.ranks()
    parts, fewest = train.micro_batch is not None and train.micro_batch < here, min(learner.grouped, here)
    wanted, least = found.of(train.micro_batch if parts else here, parts), found.of(fewest, fewest < here)
    images = {"batch": here, "micro_batch": train.micro_batch if parts else None, "least_batch": fewest}
    on_event({"event": "memory", "bytes": wanted, "least": least, **images})
    if (free := devices.free(device)) is not None and wanted - found.there > free:
        advice = f"set --micro-batch {fewest}" if fewest < (train.micro_batch if parts else here) else "lower --batch"
        told = f"a step takes about {wanted / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; {advice}."
        on_event({"event": "warning", "message": told})


def told(facts: Facts, device: torch.device) -> dict:
    """What is said of every run before it begins."""
    train = facts.plan.train
    return {
        "recipe": facts.plan.name,
        "images": facts.images.readable(facts.unreadable),
        "held_out": facts.held_out.readable(facts.unreadable) if facts.held_out else 0,
        "latent": facts.images.takes.size if isinstance(facts.images, LatentSet) else None,
        "size": facts.plan.data.size,
        "batch": train.batch,
        "steps": train.steps,
        "device": device.type,
        "ranks": distributed.ranks(),
        "precision": train.precision,
    }


def _outcome(trainer: Trainer, on_event: Event) -> dict:
    return {
        "run": str(trainer.run.path),
        "steps": trainer.step,
        "losses": trainer.losses,
        "main": trainer.main,
        "seconds_per_step": trainer.seconds_per_step,
        "skipped_images": len(_union_of_skipped(trainer.stream.skipped, Once.of(on_event))),
        "best": trainer.best.state,
        "stopped": trainer.stopped,
        "total_steps": trainer.settings.steps,
        "last": trainer.best.scores[-1] if trainer.best.scores else None,
    }


def known(
    run: RunFolder, overrides: Sequence[str], command: str, result: Callable[[dict, dict], Result]
) -> Result | None:
    """The `result` of a run that is done, made of what is told of every run and of its environment.json; None where it
    is not done, or not with these overrides, or has diverged and must not (`train.strict`)."""
    if not run.recipe.is_file():
        return None
    plan, _ = opening.open_recipe(run.recipe, overrides, run.path, command)
    try:
        made, best = read_json(run.environment), run.best / "best.json"
        steps, losses = last_logged(run)
        told = {"run": str(run.path), "steps": steps, "losses": losses, "seconds_per_step": None, "skipped_images": 0}
        told |= {"best": checked(read_json(best)) if best.is_file() else None, "total_steps": plan.train.steps}
        told |= {"last": (scores(run.metrics, steps) or [None])[-1], "size": plan.data.size}
        quality, diverged = made.get("quality"), made.get("diverged", {})  # the first release said neither
        told |= {
            "quality": quality
            and {"on": quality["on"], "images": quality["images"], "metrics": {**quality["metrics"]}},
            "diverged": {kind: {**found, "message": str(found["message"])} for kind, found in diverged.items()},
        }
        done = plan.train.steps and steps >= plan.train.steps and not (plan.train.strict and diverged)
        return result(told, made) if done else None
    except (OSError, *MALFORMED):
        return None  # resuming it says what is wrong, or writes them anew


def parameters_of(made: dict, name: str) -> int:
    """How many a network has by environment.json. Raises KeyError and TypeError where that does not tell."""
    found = made[name]["parameters"]
    if not is_count(found) or not found:
        raise TypeError(f"{name} has {found!r:.40} parameters")
    return found


def macs_of(made: dict, name: str) -> dict[str, int] | None:
    """MACs of a network by environment.json; None where that does not tell."""
    found = made[name].get("macs")
    known = isinstance(found, dict) and "true" in found and all(map(is_count, found.values()))
    return found if known else None


def goal_of(run: RunFolder) -> dict | None:
    """How a run's student meets its goal on a device, by environment.json; None where that tells none."""
    try:
        found = read_json(run.environment)["student"]["goal"]
        numbers = [found[key] for key in ("target", "predicted", "measured", "error")]
        known = {*map(type, numbers)} <= {int, float} and found["unit"] in ("ms", "bytes") and "goal" in found
        return dict(found) if known else None
    except (OSError, *MALFORMED):
        return None


def last_logged(run: RunFolder) -> tuple[int, dict[str, float]]:
    """The last step, which is always logged, and its losses; 0 and none where the log tells none."""
    step, values = last(run.metrics)
    return step, {name: value for name, value in values.items() if name != "lr"}


def _union_of_skipped(skipped: dict[Path, str], on_event: Once) -> dict[str, str]:
    """The images that any rank could not read, wherever in the run, with the reasons; those of other ranks are told
    here."""
    mine = on_event.skipped | {str(path): reason for path, reason in skipped.items()}
    found = {path: reason for part in distributed.collected(mine) for path, reason in part.items()}
    for path in found:
        on_event({"event": "skipped", "path": path, "reason": found[path]})
    return found


def environment(device: torch.device, **networks: dict) -> dict:
    """What a run's environment.json says."""
    packages = ("torch", "torchvision", "numpy", "safetensors", "pillow", "onnx", "onnxruntime")
    return {
        "vemcompress": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ranks": distributed.ranks(),
        "threads": torch.get_num_threads(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **networks,
    }


def described(network: Generator, size: int) -> dict:
    """Family, parameters and MACs at `size`, for people."""
    return {"family": network.family, **counts(network, size, size)}
