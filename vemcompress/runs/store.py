"""Saves and restores a run: checkpoints to continue from, and the run's own copies of the networks."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from vemcompress.errors import InputError
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import Discriminator
from vemcompress.runs import checkpoint
from vemcompress.runs.best import Best, checked
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import Log, NoLog
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event
from vemcompress.system.files import LARGE, read_bytes, read_json, write_atomically
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.discriminator import discriminator_bytes
from vemcompress.weights.format import safetensors_bytes


class Store:
    """Writes and restores the state of a learner, its optimisers and its best checkpoint in a run folder.

    `learner`, `runner` and `health` are as in `training`. `recipe` is the recipe's name, `provenance` says where the
    teacher came from, `paths` are the training images.
    """

    def __init__(
        self,
        run: RunFolder,
        learner: nn.Module,
        runner,
        best: Best,
        health,
        recipe: str,
        provenance: dict,
        paths: Sequence[Path],
        on_event: Event,
    ):
        self.run, self.learner, self.runner, self.best, self.health = run, learner, runner, best, health
        self.recipe, self.provenance, self.on_event = recipe, provenance, on_event
        # One hash of the training images' names, in order.
        self.images = hashlib.sha256(
            "\n".join(path.name for path in paths).encode("utf-8", "surrogateescape")
        ).hexdigest()

    @property
    def main(self) -> nn.Module:
        """The network that the run trains."""
        return next(iter(self.learner.artifacts().values()))

    def write(self, step: int, better: bool, logs: Sequence[Log | NoLog]) -> None:
        """Write a checkpoint, then the run's own copies, and also the best copy if this one is `better`. Raises
        OutputError; earlier checkpoints are kept."""
        self.run.check_there()
        for log in logs:
            log.sync()
        artifacts = {name: self._bytes(module) for name, module in self.learner.artifacts().items()}
        state = {
            "step": step,
            "teacher_sha256": self.provenance.get("sha256"),
            "images": self.images,
            "best": self.best.state,
            "health": self.health.state,
        }
        files = {f"{name}.safetensors": data for name, data in artifacts.items()}
        for name, module in self.learner.artifacts().items():
            if _trains_otherwise(module):
                files[f"{_learning(name, module)}.safetensors"] = safetensors_bytes(module.state_dict(), {})
        files["optimizers.safetensors"] = safetensors_bytes(self.runner.state())
        files["state.json"] = json.dumps(state).encode()
        for name, (module, metadata) in self.learner.companions().items():
            files[f"{name}.safetensors"] = safetensors_bytes(_stored(module).state_dict(), metadata)
        checkpoint.save(self.run.checkpoints, step, files)
        self._publish(artifacts, better)
        self.on_event({"event": "checkpoint", "step": step, "path": str(self.run.checkpoints)})
        if better:
            self.on_event({"event": "best", **self.best.state})

    def restore(self) -> int | None:
        """Load the newest complete checkpoint and return its step, None if there is none yet. Raises InputError if it
        does not fit the run."""
        modules = {_learning(name, module): module for name, module in self.learner.artifacts().items()}
        modules |= {name: module for name, (module, _) in self.learner.companions().items()}
        needed = [*checkpoint.NEEDED, *(f"{name}.safetensors" for name in modules)]
        folder = distributed.together(lambda: checkpoint.latest(self.run.checkpoints, needed, self.on_event))
        if folder is None:
            return None
        state, artifacts = distributed.together(lambda: self._load(folder, modules))
        if state.get("images", self.images) != self.images:
            message = (
                "the images differ from those that this run began with, so it will not end like an uninterrupted run."
            )
            self.on_event({"event": "warning", "message": message})
        # The run may have been killed between the checkpoint and the run's own copies.
        best = bool(self.best.state) and self.best.state["step"] == state["step"]
        distributed.by_writer(lambda: self._publish(artifacts, best))
        return state["step"]

    def _load(self, folder: Path, modules: dict[str, nn.Module]) -> tuple[dict, dict[str, bytes]]:
        """Load a checkpoint. Returns the content of state.json, and the files of the run's own networks."""
        try:
            with devices.memory_errors("resume the run on a device with more memory."):
                for name, module in modules.items():
                    _stored(module).load_state_dict(checkpoint.tensors_from(folder / f"{name}.safetensors"))
                self.runner.load(checkpoint.tensors_from(folder / "optimizers.safetensors"))
                state = read_json(folder / "state.json")
                self.best.state = None if state.get("best") is None else checked(state["best"])
                self.health.state = state.get("health", {})
                artifacts = {
                    name: read_bytes(folder / f"{name}.safetensors", LARGE) for name in self.learner.artifacts()
                }
        except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{folder}: does not fit this run ({reason:.200}); put its recipe.toml back, or start a new run."
            ) from error
        before, now = state.get("teacher_sha256"), self.provenance.get("sha256")
        if before is not None and now is not None and before != now:
            raise InputError(
                f"{folder}: was made with another teacher (SHA-256 {before!s:.12}) than the one given ({now:.12}); "
                "give that one with --teacher, or start a new run."
            )
        return state, artifacts

    def _publish(self, artifacts: dict[str, bytes], best: bool) -> None:
        for name, data in artifacts.items():
            write_atomically(self.run.artifact(name), data)
        if best:
            main = next(iter(artifacts))
            self.best.write(main, artifacts[main])

    def _bytes(self, module: Generator | Discriminator) -> bytes:
        if isinstance(module, Discriminator):
            return discriminator_bytes(module)
        main = next(iter(self.learner.artifacts().values()))
        extra = self.learner.about | self.learner.metadata() if module is main else None
        return artifact_bytes(module, recipe=self.recipe, teacher=self.provenance, extra=extra)


def _trains_otherwise(module: nn.Module) -> bool:
    """Whether the network's file omits weights that only training needs, so that a checkpoint stores them
    separately."""
    return isinstance(module, Generator) and module.deployed() is not module


def _learning(name: str, module: nn.Module) -> str:
    """The name, in a checkpoint, of the weights that training of this network continues with."""
    return f"{name}_training" if _trains_otherwise(module) else name


def _stored(module: nn.Module) -> nn.Module:
    """The module whose state dict a file holds: for a network of the user's own class, the user's module."""
    return module.module if isinstance(module, CustomGenerator) else module
