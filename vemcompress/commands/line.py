"""The last part of the line: learner -> loop -> run -> result.

Each command that trains follows these steps once, in this order: recipe -> facts -> resolved recipe (`facts`) -> parts
-> learner (`parts`) -> loop -> run folder -> result.
"""

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
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
from vemcompress.errors import OutputError, VemError
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
    """The result that every training run has.

    `seconds_per_step` excludes saving, and is None if no step was needed. `losses` are those logged last; `main` names
    the losses whose sum is the loss of the student (or of the teacher, for `teach`).

    `best` describes the best checkpoint, as best/best.json. It is None if none was picked; a finished run then has a
    `quality`, {"on", "images", "metrics"}, measured on a few "held_out" or "training" images. `diverged` describes
    signs of divergence by kind, "loss" and "output", as found by `training.health`. `stopped` is "max_hours" if the
    time limit was reached after `steps` of `total_steps`, and None for a finished run.

    `macs` are those of the run's network by convention, for an image of `size`, or None if they are not known. `last`
    is the newest score of the metric that picks the best checkpoint, in the form of `best`. `report` is the path of the
    HTML report, and `next` lists suggested next commands.
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
        """The run folder, if the best checkpoint is not the last one."""
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
    """Train in the run's folder, or continue from its newest checkpoint; returns the common fields of a run's result.

    `networks` are the descriptions for environment.json. `events` are sent before training; the common fields are added
    to the first one. `made` are columns of the first sample sheet, made by a frozen teacher. `during` opens a context
    for the training, given the stream of batches.
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
        heard = Once.of(on_event)  # later warnings are written to environment.json at the end
        before = _warned_before(run) if resumed else []
        heard.warnings[:] = list(dict.fromkeys([*before, *heard.warnings]))[:100]
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
        if continued:
            trainer.restore_sheet()
        if trainer.step < train.steps:
            if learner.splits:
                tell_memory(facts, trainer.make_step, on_event)
            try:
                with during(stream):
                    trainer.train()
            except VemError:  # keep the warnings so far
                if distributed.is_writer():
                    with suppress(OutputError):
                        run.write_json(run.environment, surroundings)
                raise
        outcome = {"quality": None, "diverged": trainer.health.found}
        if trainer.best.state is None and not trainer.stopped:
            network = next(iter(learner.artifacts().values()))
            outcome["quality"] = distributed.from_writer(lambda: quality(facts, network, device))
        distributed.by_writer(lambda: run.write_json(run.environment, surroundings | outcome))
    return _outcome(trainer, on_event) | outcome | {"size": plan.data.size}


def _warned_before(run: RunFolder) -> list[str]:
    """The warnings of earlier parts of a resumed run, from environment.json."""
    try:
        return [str(told) for told in read_json(run.environment)["warnings"]]
    except (OSError, *MALFORMED):
        return []


def tell_memory(facts: Facts, make_step: Stepper, on_event: Event) -> None:
    """Report the estimated memory of a step, and warn with advice if it exceeds the free memory."""
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
        told = f"a step needs about {wanted / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free; {advice}."
        on_event({"event": "warning", "message": told})


def told(facts: Facts, device: torch.device) -> dict:
    """The common fields of the first event of every run."""
    train = facts.plan.train
    return {
        "recipe": facts.plan.name,
        "images": facts.images.readable(facts.unreadable),
        "held_out": facts.held_out.readable(facts.unreadable, inputs_only=True) if facts.held_out else 0,
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
    """The `result` of a finished run, built from its log and its environment.json.

    None if the run is not finished with these overrides, or has diverged although `train.strict` is set.
    """
    if not run.recipe.is_file():
        return None
    plan, _ = opening.open_recipe(run.recipe, overrides, run.path, command)
    try:
        made, best = read_json(run.environment), run.best / "best.json"
        steps, losses = last_logged(run)
        told = {"run": str(run.path), "steps": steps, "losses": losses, "seconds_per_step": None, "skipped_images": 0}
        told |= {"best": checked(read_json(best)) if best.is_file() else None, "total_steps": plan.train.steps}
        told |= {"last": (scores(run.metrics, steps) or [None])[-1], "size": plan.data.size}
        quality, diverged = made.get("quality"), made.get("diverged", {})  # the first release wrote neither
        told |= {
            "quality": quality
            and {"on": quality["on"], "images": quality["images"], "metrics": {**quality["metrics"]}},
            "diverged": {kind: {**found, "message": str(found["message"])} for kind, found in diverged.items()},
        }
        done = plan.train.steps and steps >= plan.train.steps and not (plan.train.strict and diverged)
        return result(told, made) if done else None
    except (OSError, *MALFORMED):
        return None  # resuming the run reports the problem, or writes the files again


def parameters_of(made: dict, name: str) -> int:
    """The number of parameters of a network, from environment.json. Raises KeyError or TypeError if it is not there."""
    found = made[name]["parameters"]
    if not is_count(found) or not found:
        raise TypeError(f"{name} has {found!r:.40} parameters")
    return found


def macs_of(made: dict, name: str) -> dict[str, int] | None:
    """The MACs of a network, from environment.json, or None."""
    found = made[name].get("macs")
    known = isinstance(found, dict) and "true" in found and all(map(is_count, found.values()))
    return found if known else None


def goal_of(run: RunFolder) -> dict | None:
    """How the student meets its target latency or file size, from environment.json, or None."""
    try:
        found = read_json(run.environment)["student"]["goal"]
        numbers = [found[key] for key in ("target", "predicted", "measured", "error")]
        known = {*map(type, numbers)} <= {int, float} and found["unit"] in ("ms", "bytes") and "goal" in found
        return dict(found) if known else None
    except (OSError, *MALFORMED):
        return None


def last_logged(run: RunFolder) -> tuple[int, dict[str, float]]:
    """The last step, which is always logged, and its losses; 0 and {} if the log is empty."""
    step, values = last(run.metrics)
    return step, {name: value for name, value in values.items() if name != "lr"}


def _union_of_skipped(skipped: dict[Path, str], on_event: Once) -> dict[str, str]:
    """The images that any rank could not read, with the reasons. Those of other ranks are reported here."""
    mine = on_event.skipped | {str(path): reason for path, reason in skipped.items()}
    found = {path: reason for part in distributed.collected(mine) for path, reason in part.items()}
    for path in found:
        on_event({"event": "skipped", "path": path, "reason": found[path]})
    return found


def environment(device: torch.device, **networks: dict) -> dict:
    """The content of a run's environment.json."""
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
    """Family, parameters and MACs at `size`, for reports and environment.json."""
    return {"family": network.family, **counts(network, size, size)}
