"""The training loop (VEM paper, section 3): for every batch, run each update that is due, in the algorithm's order."""

import os
import signal
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic as now

import torch
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.data.images import save_png
from vemcompress.errors import Interrupted, NumericalError, RankLost
from vemcompress.runs.best import Best, Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import Log, NoLog, scores
from vemcompress.runs.pictures import sheet_of
from vemcompress.runs.store import Store
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event
from vemcompress.training.compiling import as_written
from vemcompress.training.health import Health, is_constant
from vemcompress.training.learner import Learner
from vemcompress.training.pace import WARM_UP, Estimate, Limit, Pace
from vemcompress.training.settings import TrainSettings
from vemcompress.training.signals import Signals
from vemcompress.training.stepper import Stepper

BLANK = 100  # until this step, a generator of latent vectors may make identical images
OFTEN = 0.5  # seconds between two progress events
MEASURED_FIRST, MEASURED_EVERY = 100, 10  # up to this step each log has every figure, later one log in ten


class Trainer:
    """One run: the trained networks, the run folder, and the current step.

    `name` is the recipe's. `stream` gives batches by step (`data.sets.ImageSet.stream`). `inputs` are a few fixed
    inputs for pictures. `columns` are the first columns of these pictures, by title. `wanted` are the images to produce
    from them, if known: a frozen teacher's images, or the ground truth. `pick` scores the first artifact to
    find the best checkpoint. `command` is the command that resumes the run. `limit` sets when to stop; `stopped` is
    then "max_hours". With several ranks, each has a Trainer with the same state, and only rank 0 writes.
    """

    def __init__(
        self,
        name: str,
        settings: TrainSettings,
        learner: Learner,
        stream,
        run: RunFolder,
        *,
        inputs: Tensor,
        columns: dict[str, Tensor],
        wanted: Tensor | None = None,
        provenance: dict,
        device: torch.device,
        on_event: Event,
        pick: Picker | None = None,
        command: str = "distill",
        limit: Limit | None = None,
    ):
        self.settings, self.learner, self.stream, self.run = settings, learner, stream, run
        self.inputs, self.columns, self.wanted = inputs, columns, wanted
        self.device, self.on_event, self.command = device, on_event, command
        self.step, self.limit = 0, limit or Limit()
        self.losses: dict[str, float] = {}
        self.main: list[str] = []  # keys of the student's terms, or of the last update's if the student was not trained
        self.seconds_per_step: float | None = None
        self.stopped: str | None = None
        self.make_step = Stepper(learner, settings, device, stream.epoch_length)
        self.runner, self.timer = self.make_step.runner, self.make_step.timer
        self.best, self.health = Best(run.best, pick), Health(settings.strict, on_event)
        self.runner.guard.watch = self.health.look
        self.store = Store(run, learner, self.runner, self.best, self.health, name, provenance, stream.paths, on_event)
        self._signals = Signals(self._give_up if distributed.ranks() > 1 else None)
        self._timed = 0, 0.0  # the last step in the timing log, and the seconds until then

    def save(self) -> None:
        """Write a checkpoint, then the run's own copies. Raises OutputError; earlier checkpoints are kept."""
        self.runner.settle(wait=True)
        better = False
        if self._regular:
            self._look_at_images()
            better = self._judge()
        logs = self._metrics, self._timing
        distributed.by_writer(lambda: self.store.write(self.step, better, logs))

    def _judge(self) -> bool:
        """Score the network if a best checkpoint is picked; True if it is the best so far."""
        scored = len(self.best.scores)
        with as_written():
            better = self.best.judge(self.store.main, self.step)
        for score in self.best.scores[scored:]:
            self._metrics.write({"step": self.step, "event": "score", **score})
            self.on_event({"event": "score", **score, "best": self.best.state})
        return better

    def restore(self) -> bool:
        """Load the newest complete checkpoint; False if there is none. Raises NumericalError if it has diverged and
        `train.strict` is set.
        """
        step = self.store.restore()
        self.step = step or 0
        self.best.scores = distributed.from_writer(lambda: scores(self.run.metrics, self.step))
        with self._told():
            self.health.check()
        return step is not None

    @property
    def _regular(self) -> bool:
        """Whether an uninterrupted run would save here too. Only these checkpoints can become the best one."""
        return self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps

    # -- the loop ------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train up to the recipe's last step or the time limit. Saves at the end, and on SIGINT, SIGTERM or SIGHUP
        (then raises Interrupted). Raises RankLost if another rank stops.
        """
        distributed.broadcast(self.learner)
        settings, self.pace, self.estimate = self.settings, self._pace(), Estimate()
        told, heard, exact = self._told(), self._signals.heard(), devices.arithmetic(settings.precision)
        with told, heard, self._logs(), exact, closing(self.stream.iterate(self.step)) as batches:
            self._tell_pace()
            while self.step < settings.steps and not self.stopped:
                with self.pace.stepping():
                    with self.timer.part("data"):
                        batch = next(batches)[1].to(self.device)
                    self._one_step(batch)
                self._finish()
                self._report()
                self._save_or_leave()

    @contextmanager
    def _told(self):
        """Adapt errors to runs with several ranks."""
        try:
            yield
        except (Interrupted, NumericalError) as error:
            error.shared = distributed.ranks() > 1  # all ranks raise it at the same step
            raise
        except RankLost as error:
            raise RankLost(f"{error} {self._kept}") from error

    @contextmanager
    def _logs(self):
        """Opened only when signals are already handled: whoever sees the log may send one."""
        paths = self.run.metrics, self.run.timing
        logs = distributed.by_writer(lambda: [Log(path, self.step) for path in paths])
        self._metrics, self._timing = logs or (NoLog(), NoLog())
        try:
            yield
        finally:
            self._metrics.close()
            self._timing.close()

    def _pace(self) -> Pace:
        train, updates = self.settings, self.runner.updates
        return Pace(
            self.step,
            train.steps,
            kind=lambda step: tuple(update.due(step) for update in updates),
            images=train.batch,
            others={"save": train.checkpoint_every, "sample": train.sample_every, "finish": self.learner.finishes},
        )

    def _save_or_leave(self) -> None:
        """Save if it is due, or if this is the last step before stopping. The sample sheet is written after it, because
        it shows the score. Raises Interrupted after a signal."""
        stop = distributed.largest(self._signals.number)  # ranks may receive it at different steps
        saved = self._regular or stop > 0
        if saved:
            with self.pace.beside("save"):
                self.save()
        if self.pace.due("sample", self.step):
            self.runner.settle(wait=True)
            with self.pace.beside("sample"):
                distributed.by_writer(self.sample)
        total = self.settings.steps
        if stop:
            told = f"stopped by {signal.Signals(stop).name} at step {self.step} of {total}"
            raise Interrupted(f"{told}, and saved; {self._go_on}")
        if self.limit.leaves(self.pace) and self.step < total:
            if not saved:
                self.save()
            self.stopped = "max_hours"

    @property
    def _kept(self) -> str:
        return f"The last checkpoint is kept; {self._go_on}"

    def _give_up(self) -> None:
        """Runs in a second thread if the main thread waits in a collective operation and cannot be interrupted."""
        told = f"error: rank {distributed.rank()}: stopped while waiting for another rank. {self._kept}"
        print(told, file=sys.stderr, flush=True)
        os._exit(RankLost.exit_code)

    @property
    def _go_on(self) -> str:
        return f"continue with `vemcompress {self.command} --resume {self.run.path}`."

    def _one_step(self, batch: Batch) -> None:
        """Run all updates on one batch. `step` is advanced after the last optimiser step."""
        settings, step = self.settings, self.step + 1
        ends = step in (1, settings.steps)
        logged = ends or step % settings.log_every == 0
        often = ends or step <= MEASURED_FIRST or step % (MEASURED_EVERY * settings.log_every) == 0
        self.learner.measures = logged and often
        losses = self.make_step(batch, step)
        self.step = step
        if losses and logged:
            self._log_losses(losses)

    def _finish(self) -> None:
        """Run the learner's periodic work, such as scoring a teacher, which takes as long as many steps."""
        if self.pace.due("finish", self.step):
            self.runner.settle(wait=True)
            with self.pace.beside("finish"), as_written():
                event = self.learner.finish(self.step)
            self.on_event({"step": self.step, **event})

    def _log_losses(self, losses: dict[str, Tensor]) -> None:
        self.runner.settle(wait=True)
        # The terms are averaged over the ranks already, so averaging them again does not change them. Monitored values
        # are not.
        found = distributed.average(torch.stack(list(losses.values())))
        values = dict(zip(losses, found.tolist(), strict=True))
        self._metrics.write({"step": self.step, "lr": self.settings.lr * self.make_step.factor, **values})
        self.losses = values
        due = [update.name for update in self.runner.updates if update.due(self.step)]
        self.main = self.runner.terms["student" if "student" in due else due[-1]]
        for update in self.runner.updates:
            if update.watch and (warning := update.watch(values)):
                self.on_event({"event": "warning", "message": f"step {self.step}: {warning}"})

    def _look_at_images(self) -> None:
        """Check that the first artifact makes different images for different inputs. New generators of latent
        vectors are not checked yet.
        """
        if self.inputs.dim() == 2 and self.step < BLANK:
            return
        name, network = next(iter(self.learner.artifacts().items()))
        self.learner.eval()
        with as_written():
            inputs, wanted = self.inputs.to(self.device), self.wanted
            constant = distributed.from_writer(lambda: is_constant(network, inputs, wanted))
        self.learner.train()
        self.health.look_at(name, constant, self.step)

    # -- events --------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        settings, pace = self.settings, self.pace
        if pace.done == WARM_UP:
            self.timer.collect()
            self._timed = self.step, 0.0
        self.seconds_per_step = pace.mean
        logged = self.step % settings.log_every == 0 or self.step == settings.steps
        if logged and pace.done > WARM_UP:
            parts, (step, spent) = self.timer.collect(), self._timed
            parts = {"seconds": pace.spent - spent, **parts}
            self._timing.write({"step": self.step} | {k: v / (self.step - step) for k, v in parts.items()})
            self._timed = self.step, pace.spent
        if logged or pace.done == 1:
            self.on_event({
                "event": "step", "step": self.step, "total": settings.steps, "losses": self.losses,
                "main": self.main, **self._speed,
            })  # fmt: skip
            self._told_at = now()
        elif now() - self._told_at >= OFTEN:
            self._tell_pace()
        if self.estimate.is_news(pace, logged):
            told = {"seconds": pace.remaining, "memory": devices.peak_memory(self.device)}
            self.on_event({"event": "estimate", **self._speed, **told})

    def _tell_pace(self) -> None:
        """Report progress between logged steps."""
        total, self._told_at = self.settings.steps, now()
        self.on_event({"event": "pace", "step": self.step, "total": total, **self._speed})

    @property
    def _speed(self) -> dict:
        pace = self.pace
        speed = {"seconds_per_step": pace.recent, "images_per_second": pace.images_per_second}
        return speed | {"remaining": pace.remaining}

    def sample(self) -> None:
        """Write samples/step-N.png: one row per fixed image, from input to student, under the step and the score."""
        self._write_sheet()
        self.on_event({"event": "sample", "step": self.step, "path": str(self._sheet)})

    def restore_sheet(self) -> None:
        """Write the restored step's sample sheet if it is due and missing: the run was killed after it had saved. No
        event is sent, because the logs may still have lines of later steps."""

        def write_if_missing() -> None:
            if not os.path.isfile(self._sheet):  # noqa: PTH113 (Path.is_file raises PermissionError)
                self._write_sheet()

        settings = self.settings
        if self.step and (self.step % settings.sample_every == 0 or self.step == settings.steps):
            with devices.arithmetic(settings.precision):
                distributed.by_writer(write_if_missing)

    @property
    def _sheet(self) -> Path:
        return self.run.samples / f"step-{self.step:06d}.png"

    @torch.no_grad()
    def _write_sheet(self) -> None:
        self.run.check_there()
        self.learner.eval()
        with as_written():
            columns = self.columns | self.learner.pictures(self.inputs.to(self.device))
        self.learner.train()
        header = f"step {self.step:,} of {self.settings.steps:,}\n{self.best.summary(self.step)}"
        save_png(self._sheet, *sheet_of(columns, self.inputs, header))
