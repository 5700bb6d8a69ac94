"""The training loop (paper, section 3): for every batch, each update that is due, in the algorithm's order."""

import os
import signal
import sys
from contextlib import closing, contextmanager
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

BLANK = 100  # steps until which a generator of latent vectors may make all images alike
OFTEN = 0.5  # seconds until a person is told again how far a run is
MEASURED_FIRST, MEASURED_EVERY = 100, 10  # steps whose logs have every figure, and then of so many logs one


class Trainer:
    """One run: everything that learns, where it is written, and how far it is.

    `name` is the recipe's. `stream` gives batches by step (`data.sets.ImageSet.stream`). `inputs` are a few fixed ones
    for pictures, whose first `columns` are given by title, and `wanted` what shall become of them, where it is known:
    a frozen teacher's images, or the ground truth. `pick` scores the first artifact, to know the best.
    `command` resumes the run. `limit` says when to leave; `stopped` is then "max_hours". Among several ranks each has a
    Trainer with the same state, and rank 0's alone writes.
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
        self.main: list[str] = []  # of these, the student's terms, or the last update's where it did not learn
        self.seconds_per_step: float | None = None
        self.stopped: str | None = None
        self.make_step = Stepper(learner, settings, device, stream.epoch_length)
        self.runner, self.timer = self.make_step.runner, self.make_step.timer
        self.best, self.health = Best(run.best, pick), Health(settings.strict, on_event)
        self.runner.guard.watch = self.health.look
        self.store = Store(run, learner, self.runner, self.best, self.health, name, provenance, stream.paths, on_event)
        self._signals = Signals(self._give_up if distributed.ranks() > 1 else None)
        self._timed = 0, 0.0  # the last step that the timing log covers, and the seconds until there

    def save(self) -> None:
        """Write a checkpoint, then the run's own copies. Raises OutputError; an earlier checkpoint stays."""
        self.runner.settle(wait=True)
        better = False
        if self._regular:
            self._look_at_images()
            better = self._judge()
        logs = self._metrics, self._timing
        distributed.by_writer(lambda: self.store.write(self.step, better, logs))

    def _judge(self) -> bool:
        """Score the network, where the best checkpoint is picked; True where none was better before."""
        scored = len(self.best.scores)
        with as_written():
            better = self.best.judge(self.store.main, self.step)
        for score in self.best.scores[scored:]:
            self._metrics.write({"step": self.step, "event": "score", **score})
            self.on_event({"event": "score", **score, "best": self.best.state})
        return better

    def restore(self) -> bool:
        """Take up the newest whole checkpoint; False where there is none yet. Raises NumericalError where it has
        diverged and `train.strict` is set."""
        step = self.store.restore()
        self.step = step or 0
        self.best.scores = distributed.from_writer(lambda: scores(self.run.metrics, self.step))
        with self._told():
            self.health.check()
        return step is not None

    @property
    def _regular(self) -> bool:
        """Whether an unbroken run would save here too: the best is picked among these checkpoints alone."""
        return self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps

    # -- the loop ------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Go on to the recipe's last step, or as far as the limit lets. Saves at the end, and on SIGINT, SIGTERM or
        SIGHUP (then raises Interrupted). Raises RankLost where another rank stops."""
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
        """Errors as several ranks tell them."""
        try:
            yield
        except (Interrupted, NumericalError) as error:
            error.shared = distributed.ranks() > 1  # all ranks come to it at the same step
            raise
        except RankLost as error:
            raise RankLost(f"{error} {self._kept}") from error

    @contextmanager
    def _logs(self):
        """Opened once a signal would save: whoever sees the log there may send one."""
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
        """Save where it is due, or where this is the last step before leaving, and then make the sample sheet, which
        tells the score. Raises Interrupted after a signal."""
        stop = distributed.largest(self._signals.number)  # ranks may hear of it at different steps
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
            raise Interrupted(f"{told}, saved; {self._go_on}")
        if self.limit.leaves(self.pace) and self.step < total:
            if not saved:
                self.save()
            self.stopped = "max_hours"

    @property
    def _kept(self) -> str:
        return f"The last checkpoint is kept; {self._go_on}"

    def _give_up(self) -> None:
        """Called beside the main thread, which waits in a collective and cannot be woken."""
        told = f"error: rank {distributed.rank()}: stopped while it waited for another rank. {self._kept}"
        print(told, file=sys.stderr, flush=True)
        os._exit(RankLost.exit_code)

    @property
    def _go_on(self) -> str:
        return f"go on with `vemcompress {self.command} --resume {self.run.path}`."

    def _one_step(self, batch: Batch) -> None:
        """All updates on one batch. The step counts once every optimiser has moved."""
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
        """What the learner does after some steps: judging a teacher takes as long as many of them."""
        if self.pace.due("finish", self.step):
            self.runner.settle(wait=True)
            with self.pace.beside("finish"), as_written():
                event = self.learner.finish(self.step)
            self.on_event({"step": self.step, **event})

    def _log_losses(self, losses: dict[str, Tensor]) -> None:
        self.runner.settle(wait=True)
        # The terms are means over the ranks already, which averaging leaves; what is monitored is not.
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
        """Whether what the run is for still makes different images of different inputs. A new generator of latent
        vectors does not yet."""
        if self.inputs.dim() == 2 and self.step < BLANK:
            return
        name, network = next(iter(self.learner.artifacts().items()))
        self.learner.eval()
        with as_written():
            inputs, wanted = self.inputs.to(self.device), self.wanted
            constant = distributed.from_writer(lambda: is_constant(network, inputs, wanted))
        self.learner.train()
        self.health.look_at(name, constant, self.step)

    # -- talk ----------------------------------------------------------------------------------------------------

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
        """How far the run is, between the steps that are logged."""
        total, self._told_at = self.settings.steps, now()
        self.on_event({"event": "pace", "step": self.step, "total": total, **self._speed})

    @property
    def _speed(self) -> dict:
        pace = self.pace
        speed = {"seconds_per_step": pace.recent, "images_per_second": pace.images_per_second}
        return speed | {"remaining": pace.remaining}

    @torch.no_grad()
    def sample(self) -> None:
        """Write samples/step-N.png: a row for each fixed image, from input to student, under the step and the score."""
        self.run.check_there()
        self.learner.eval()
        with as_written():
            columns = self.columns | self.learner.pictures(self.inputs.to(self.device))
        self.learner.train()
        path = self.run.samples / f"step-{self.step:06d}.png"
        header = f"step {self.step:,} of {self.settings.steps:,}\n{self.best.told(self.step)}"
        save_png(path, *sheet_of(columns, self.inputs, header))
        self.on_event({"event": "sample", "step": self.step, "path": str(path)})
