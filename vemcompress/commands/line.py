"""The last part of the line: learner -> loop -> run -> result.

recipe -> facts -> resolved recipe (`facts`) -> parts -> learner (`parts`) -> loop -> run folder -> result: each command
that trains goes this way once, from the left to the right.
"""

import json
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vemcompress import __version__
from vemcompress.commands import opening
from vemcompress.commands.facts import Facts
from vemcompress.commands.inspect import cost_of
from vemcompress.data.images import save_png
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.runs.best import Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.pictures import image_grid
from vemcompress.system import distributed
from vemcompress.training.learner import Learner
from vemcompress.training.loop import Trainer
from vemcompress.training.pace import Limit
from vemcompress.weights.files import write_atomically
from vemcompress.weights.folder import Made

Event = Callable[[dict], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ready:
    """A learner that can be trained: by which command, on which device, with which batches and pictures. `networks` are
    described in environment.json, where `told` of them is said of the teacher."""

    command: str
    facts: Facts
    learner: Learner
    stream: Any
    device: torch.device
    pick: Picker | None
    columns: dict[str, Tensor]
    picture: str
    networks: dict[str, dict]


def trained(
    ready: Ready,
    resumed: bool,
    limit: Limit,
    on_event: Event,
    announce: Callable[[dict], None],
    during: AbstractContextManager | None = None,
) -> Trainer:
    """Train in the run's folder, which this process holds, from its newest checkpoint where it is `resumed`.

    `announce` is told what is about to begin; `during` is a context that training happens in.
    """
    facts, run, train = ready.facts, ready.facts.run, ready.facts.plan.train
    trainer = Trainer(
        facts.plan.name,
        train,
        ready.learner,
        ready.stream,
        run,
        inputs=facts.inputs,
        columns={title: column for title, column in ready.columns.items() if title != "teacher"},
        provenance=facts.provenance,
        device=ready.device,
        on_event=on_event,
        pick=ready.pick,
        command=ready.command,
        limit=limit,
    )
    if resumed:
        distributed.together(lambda: opening.check_same_teacher(run, facts.loaded))
    continued = trainer.restore() if resumed else False
    picture = run.samples / ready.picture

    def write_down() -> None:
        if trainer.step < train.steps:
            write_atomically(run.recipe, facts.plan.toml().encode())
        run.write_json(run.environment, environment(ready.device, **ready.networks))
        Made(ready.command, next(iter(ready.learner.artifacts()))).write(run.path)
        save_png(picture, image_grid(list(ready.columns.values()), list(ready.columns)))

    distributed.by_writer(write_down)
    announce({"step": trainer.step, "continued": continued, "picture": str(picture)})
    if trainer.step < train.steps:
        with during or nullcontext():
            trainer.train()
    return trainer


def told(facts: Facts, device: torch.device) -> dict:
    """What is said of every run before it begins."""
    train = facts.plan.train
    return {
        "recipe": facts.plan.name,
        "images": facts.images.count,
        "held_out": len(facts.held_out.paths) if facts.held_out else 0,
        "size": facts.plan.data.size,
        "batch": train.batch,
        "steps": train.steps,
        "device": device.type,
        "ranks": distributed.ranks(),
        "precision": train.precision,
    }


def outcome(trainer: Trainer, on_event: Event) -> dict:
    """What every run's result says of its training."""
    return {
        "steps": trainer.step,
        "losses": trainer.losses,
        "seconds_per_step": trainer.seconds_per_step,
        "skipped_images": len(_union_of_skipped(trainer.stream.skipped, on_event)),
        "best": trainer.best.state,
        "stopped": trainer.stopped,
        "total_steps": trainer.settings.steps,
    }


def known(
    run: RunFolder, overrides: Sequence[str], command: str, result: Callable[[dict, dict], Result]
) -> Result | None:
    """The `result` of a run that is done, from its files: of its `outcome` and its environment.json. None where it is
    not done, or not with these overrides."""
    if not run.recipe.is_file():
        return None
    plan, _ = opening.open_recipe(run.recipe, overrides, run.path, command)
    try:
        made, best = json.loads(run.environment.read_text()), run.best / "best.json"
        steps, losses = last_logged(run)
        told = {"steps": steps, "losses": losses, "seconds_per_step": None, "skipped_images": 0}
        told |= {"best": json.loads(best.read_text()) if best.is_file() else None, "total_steps": plan.train.steps}
        return result(told, made) if plan.train.steps and steps >= plan.train.steps else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # resuming it says what is wrong, or writes them anew


def last_logged(run: RunFolder) -> tuple[int, dict[str, float]]:
    """The last step, which is always logged, and its losses."""
    values = json.loads(run.metrics.read_text().splitlines()[-1])
    return values["step"], {name: value for name, value in values.items() if name not in ("step", "lr")}


def _union_of_skipped(skipped: dict[Path, str], on_event: Event) -> dict[Path, str]:
    """The images that any rank could not read, with the reasons; those of other ranks are told here."""
    found = {path: reason for part in distributed.collected(skipped) for path, reason in part.items()}
    for path in found.keys() - skipped.keys():
        on_event({"event": "skipped", "path": str(path), "reason": found[path]})
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
    return {
        "family": network.family,
        "parameters": count_parameters(network),
        "macs": cost_of(network, size, size).macs(),
    }
