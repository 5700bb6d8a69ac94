"""The training loop (paper, section 3): for every batch, each update that is due, in the algorithm's order."""

import hashlib
import json
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from vemcompress.algorithms.base import Algorithm
from vemcompress.data.images import save_png
from vemcompress.data.stream import ImageStream
from vemcompress.errors import Interrupted
from vemcompress.recipe import Recipe
from vemcompress.report import image_grid
from vemcompress.timing import Timer
from vemcompress.training import checkpoint
from vemcompress.training.run import Log, RunFolder
from vemcompress.training.runner import Runner
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.files import write_atomically
from vemcompress.weights.tensors import safetensors_bytes

ESTIMATE_AFTER, WARM_UP = 20, 3

Event = Callable[[dict], None]


class Trainer:
    """One run: everything that learns, where it is written, and how far it is."""

    def __init__(
        self,
        recipe: Recipe,
        algorithm: Algorithm,
        stream: ImageStream,
        run: RunFolder,
        *,
        samples: Tensor,
        provenance: dict,
        device: torch.device,
        on_event: Event,
    ):
        self.recipe, self.algorithm, self.stream, self.run = recipe, algorithm, stream, run
        self.samples, self.provenance, self.device, self.on_event = samples, provenance, device, on_event
        self.step = 0
        self.losses: dict[str, float] = {}
        self.seconds_per_step: float | None = None
        algorithm.to(device).train()
        algorithm.timer = self.timer = Timer(device)
        algorithm.bf16 = recipe.train.precision == "bf16"
        self.runner = Runner(algorithm.updates(), device)
        self._stop: str | None = None
        self._teacher_samples: Tensor | None = None
        self._timed = 0  # the last step that the timing log covers

    # -- state ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, then the run's student. Raises OutputError; an earlier checkpoint stays."""
        for log in (self._metrics, self._timing):
            log.sync()
        student = artifact_bytes(self.algorithm.student, recipe=self.recipe.name, teacher=self.provenance)
        state = {"step": self.step, "teacher_sha256": self.provenance.get("sha256"), "images": self._images()}
        files = {
            "student.safetensors": student,
            "optimizers.safetensors": safetensors_bytes(self.runner.state()),
            "state.json": json.dumps(state).encode(),
        }
        for name, (module, metadata) in self.algorithm.companions().items():
            files[f"{name}.safetensors"] = safetensors_bytes(module.state_dict(), metadata)
        checkpoint.save(self.run.checkpoints, self.step, files)
        write_atomically(self.run.student, student)
        self.on_event({"event": "checkpoint", "step": self.step, "path": str(self.run.checkpoints)})

    def restore(self) -> bool:
        """Take up the newest whole checkpoint; False where there is none yet."""
        checkpoint.discard_unfinished(self.run.checkpoints)
        folder = checkpoint.latest(self.run.checkpoints)
        if folder is None:
            return False
        self.algorithm.student.load_state_dict(checkpoint.tensors_from(folder / "student.safetensors"))
        for name, (module, _) in self.algorithm.companions().items():
            module.load_state_dict(checkpoint.tensors_from(folder / f"{name}.safetensors"))
        self.runner.load(checkpoint.tensors_from(folder / "optimizers.safetensors"))
        state = json.loads((folder / "state.json").read_text())
        self.step = state["step"]
        if state.get("images", self._images()) != self._images():
            message = "the images are not those that this run began with, so it will not end as an unbroken one would."
            self.on_event({"event": "warning", "message": message})
        # A kill may have come between the checkpoint and the run's own copy of the student.
        write_atomically(self.run.student, (folder / "student.safetensors").read_bytes())
        return True

    def _images(self) -> str:
        """What the training images are called, in their order, as one hash."""
        return hashlib.sha256("\n".join(path.name for path in self.stream.paths).encode()).hexdigest()

    # -- the loop ------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Go on to the recipe's last step. Saves at the end, and on SIGINT or SIGTERM (then raises Interrupted)."""
        settings = self.recipe.train
        self._metrics, self._timing = Log(self.run.metrics, self.step), Log(self.run.timing, self.step)
        first, self._clock = self.step, None
        try:
            with self._signals():
                batches = self.stream.iterate(self.step)
                try:
                    while self.step < settings.steps:
                        with self.timer.part("data"):
                            _, batch = next(batches)
                            batch = batch.to(self.device, non_blocking=True)
                        self._one_step(batch)
                        self._report(first)
                        if self.step % settings.checkpoint_every == 0 or self.step == settings.steps or self._stop:
                            self.save()
                        if self._stop and self.step < settings.steps:
                            raise Interrupted(
                                f"stopped by {self._stop} at step {self.step} of {settings.steps}, saved; go on with "
                                f"`vemcompress distill --resume {self.run.path}`."
                            )
                finally:
                    batches.close()
        finally:
            self._metrics.close()
            self._timing.close()

    def _one_step(self, batch: Tensor) -> None:
        """All updates on one batch. The step counts once every optimiser has moved."""
        settings, step = self.recipe.train, self.step + 1
        factor = self.runner.schedule(step, settings.steps, settings.constant)
        out = self.algorithm(batch, self._random(step))
        losses: dict[str, Tensor] = {}
        for update in self.runner.updates:
            if update.due(step):
                with self.timer.part(update.name):
                    losses |= self.runner.apply(update, out, step)
        self.step = step
        if step == 1 or step % settings.log_every == 0 or step == settings.steps:
            values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
            self._metrics.write({"step": step, "lr": settings.lr * factor, **values})
            self.losses = values
            for update in self.runner.updates:
                if update.watch and (warning := update.watch(values)):
                    self.on_event({"event": "warning", "message": f"step {step}: {warning}"})

    def _random(self, step: int) -> torch.Generator:
        """The step's own noise: a function of the seed and the step alone, so that resuming needs no state."""
        seed = np.random.SeedSequence([self.recipe.train.seed, step]).generate_state(1, np.uint64)[0]
        return torch.Generator(self.device).manual_seed(int(seed >> 1))

    # -- talk ----------------------------------------------------------------------------------------------------

    def _report(self, first: int) -> None:
        settings, done = self.recipe.train, self.step - first
        if done == WARM_UP:
            self.timer.collect()
            self._clock = (perf_counter(), self.step)
        rate = None
        if self._clock and self.step > self._clock[1]:
            rate = (perf_counter() - self._clock[0]) / (self.step - self._clock[1])
        self.seconds_per_step = rate
        remaining = rate * (settings.steps - self.step) if rate else None
        logged = self.step % settings.log_every == 0 or self.step == settings.steps
        if logged and done > WARM_UP:
            parts, since = self.timer.collect(), self.step - max(self._clock[1], self._timed)
            self._timing.write({"step": self.step, "seconds": rate} | {k: v / since for k, v in parts.items()})
            self._timed = self.step
        if logged or done == 1:
            self.on_event({
                "event": "step", "step": self.step, "total": settings.steps, "losses": self.losses,
                "seconds_per_step": rate, "remaining": remaining,
            })  # fmt: skip
        if done == ESTIMATE_AFTER and remaining is not None and self.step < settings.steps:
            memory = self._memory()
            self.on_event({"event": "estimate", "seconds": remaining, "seconds_per_step": rate, "memory": memory})
        if self.step % settings.sample_every == 0 or self.step == settings.steps:
            self.sample()

    def _memory(self) -> int:
        """Peak bytes: of the GPU's allocator, or of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @torch.no_grad()
    def sample(self) -> None:
        """Write samples/step-N.png: input | teacher | student, a row for each fixed image."""
        self.algorithm.eval()
        inputs = self.samples.to(self.device)
        if self._teacher_samples is None:
            self._teacher_samples = torch.cat([self.algorithm.teacher(x[None]) for x in inputs])
        students = torch.cat([self.algorithm.student(x[None]) for x in inputs])
        self.algorithm.train()
        path = self.run.samples / f"step-{self.step:06d}.png"
        save_png(path, image_grid([inputs, self._teacher_samples, students], ["input", "teacher", "student"]))
        self.on_event({"event": "sample", "step": self.step, "path": str(path)})

    @contextmanager
    def _signals(self):
        """Let SIGINT and SIGTERM end the run after the step in hand; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number, frame):
            if self._stop:
                raise KeyboardInterrupt
            self._stop = signal.Signals(number).name

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
