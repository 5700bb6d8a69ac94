"""What a run keeps of what learns: checkpoints to go on from, and its own copies of the networks."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import Discriminator
from vemcompress.runs import checkpoint
from vemcompress.runs.best import Best
from vemcompress.runs.folder import Log, NoLog, RunFolder
from vemcompress.system import distributed
from vemcompress.system.events import Event
from vemcompress.system.files import write_atomically
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.discriminator import discriminator_bytes
from vemcompress.weights.format import safetensors_bytes


class Store:
    """Writes and takes up the state of a learner, its optimisers and its best checkpoint in a run's folder.

    `learner` and `runner` are as in `training`. `recipe` is the recipe's name, `provenance` says where the teacher came
    from, `paths` are the training images.
    """

    def __init__(
        self,
        run: RunFolder,
        learner: nn.Module,
        runner,
        best: Best,
        recipe: str,
        provenance: dict,
        paths: Sequence[Path],
        on_event: Event,
    ):
        self.run, self.learner, self.runner, self.best = run, learner, runner, best
        self.recipe, self.provenance, self.on_event = recipe, provenance, on_event
        # What the training images are called, in their order, as one hash.
        self.images = hashlib.sha256(
            "\n".join(path.name for path in paths).encode("utf-8", "surrogateescape")
        ).hexdigest()

    @property
    def main(self) -> nn.Module:
        """What the run is for."""
        return next(iter(self.learner.artifacts().values()))

    def write(self, step: int, better: bool, logs: Sequence[Log | NoLog]) -> None:
        """A checkpoint, then the run's own copies, `better` ones as the best too. Raises OutputError; an earlier
        checkpoint stays."""
        for log in logs:
            log.sync()
        artifacts = {name: self._bytes(module) for name, module in self.learner.artifacts().items()}
        state = {
            "step": step,
            "teacher_sha256": self.provenance.get("sha256"),
            "images": self.images,
            "best": self.best.state,
        }
        files = {f"{name}.safetensors": data for name, data in artifacts.items()}
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
        """Take up the newest whole checkpoint: its step, None where there is none yet."""
        distributed.by_writer(lambda: checkpoint.discard_unfinished(self.run.checkpoints))
        modules = self.learner.artifacts()
        modules |= {name: module for name, (module, _) in self.learner.companions().items()}
        needed = [*checkpoint.NEEDED, *(f"{name}.safetensors" for name in modules)]
        folder = distributed.together(lambda: checkpoint.latest(self.run.checkpoints, needed))
        if folder is None:
            return None
        for name, module in modules.items():
            _stored(module).load_state_dict(checkpoint.tensors_from(folder / f"{name}.safetensors"))
        self.runner.load(checkpoint.tensors_from(folder / "optimizers.safetensors"))
        state = json.loads((folder / "state.json").read_text())
        self.best.state = state.get("best")
        if state.get("images", self.images) != self.images:
            message = "the images are not those that this run began with, so it will not end as an unbroken one would."
            self.on_event({"event": "warning", "message": message})
        # A kill may have come between the checkpoint and the run's own copies.
        artifacts = {name: (folder / f"{name}.safetensors").read_bytes() for name in self.learner.artifacts()}
        best = bool(self.best.state) and self.best.state["step"] == state["step"]
        distributed.by_writer(lambda: self._publish(artifacts, best))
        return state["step"]

    def _publish(self, artifacts: dict[str, bytes], best: bool) -> None:
        for name, data in artifacts.items():
            write_atomically(self.run.artifact(name), data)
        if best:
            main = next(iter(artifacts))
            self.best.write(main, artifacts[main])

    def _bytes(self, module: Generator | Discriminator) -> bytes:
        if isinstance(module, Discriminator):
            return discriminator_bytes(module)
        return artifact_bytes(module, recipe=self.recipe, teacher=self.provenance)


def _stored(module: nn.Module) -> nn.Module:
    """What a file holds the state dict of: of a network of the user's own class that class itself."""
    return module.module if isinstance(module, CustomGenerator) else module
