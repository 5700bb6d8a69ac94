"""Stops training on a NaN or infinite loss or gradient, before the optimiser step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vemcompress.errors import NumericalError


@dataclass(frozen=True)
class _Verdict:
    """One update's loss terms and gradient norm, copied to the host once the event `ready` has passed."""

    update: str
    step: int
    names: list[str]
    values: Tensor
    ready: torch.cuda.Event | None


class Guard:
    """Checks every update's terms and gradient norm before its optimiser step.

    On a CPU the check is immediate. On a GPU it is `deferred`: reading a value there would wait for all queued work.
    The flag stays on the device, where it blocks the optimiser step, and the host reads it one step later.

    `watch` is called with the finite terms of each update once they are on the host: the update, the step, the names
    and the values. It may raise NumericalError too.
    """

    def __init__(self, deferred: bool):
        self.deferred = deferred
        self.watch: Callable[[str, int, list[str], list[float]], None] | None = None
        self._waiting: list[_Verdict] = []
        self._current: list[_Verdict] = []

    def check(self, update: str, step: int, names: list[str], values: Tensor, norm: Tensor) -> Tensor | None:
        """Check one update. `values` are the terms, float32. Raises NumericalError. If deferred, it returns a flag
        on the device instead: 1.0 for an error, else 0.0.
        """
        found = torch.cat((values, norm.detach().float().reshape(1)))
        if not self.deferred:
            self._judge(_Verdict(update, step, names, found.cpu(), None))
            return None
        ready = None
        host = found.to("cpu", non_blocking=True)
        if found.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        self._current.append(_Verdict(update, step, names, host, ready))
        return (~torch.isfinite(found.sum())).float()

    def settle(self, wait: bool = False) -> None:
        """Raises NumericalError for the checks made before the last call; with `wait`, for all checks."""
        due, self._waiting, self._current = self._waiting, self._current, []
        if wait:
            due, self._waiting = due + self._waiting, []
        for verdict in due:
            if verdict.ready is not None:
                verdict.ready.synchronize()
            try:
                self._judge(verdict)
            except NumericalError:
                self._waiting.clear()
                raise

    def _judge(self, verdict: _Verdict) -> None:
        update, step, names, values = verdict.update, verdict.step, verdict.names, verdict.values
        if not math.isfinite(values.sum().item()):
            raise NumericalError(_complaint(update, step, names, values))
        if self.watch:
            self.watch(update, step, names, values.tolist()[:-1])


def _complaint(update: str, step: int, names: list[str], found: Tensor) -> str:
    bad = [name for name, value in zip(names, found.tolist(), strict=False) if not math.isfinite(value)]
    what = f"loss term '{bad[0]}'" if bad else "gradient"
    return (
        f"step {step}: the {update} update's {what} is NaN or infinite; no weights were changed and the last "
        "checkpoint is kept. Resume with a lower train.lr or gan.lr, or with --precision fp32, or start a new run "
        "with a lower weight."
    )
