"""Stops a step whose losses or gradients are NaN or infinite, before its optimiser moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vemcompress.errors import NumericalError


@dataclass(frozen=True)
class _Verdict:
    """One update's terms on the host, once `ready` has passed: their values, then the gradient's norm."""

    update: str
    step: int
    names: list[str]
    values: Tensor
    ready: torch.cuda.Event | None


class Guard:
    """Judges every update's terms and gradient norm before its optimiser moves.

    At once on a CPU. `deferred` on a GPU: reading a value there waits for all work that was given to it, so the flag
    stays on the device, where it holds the optimiser, and the host reads it a step later.

    `watch` is told the finite terms of each update once they are on the host: the update, the step, names and values.
    It may raise NumericalError too.
    """

    def __init__(self, deferred: bool):
        self.deferred = deferred
        self.watch: Callable[[str, int, list[str], list[float]], None] | None = None
        self._waiting: list[_Verdict] = []
        self._current: list[_Verdict] = []

    def check(self, update: str, step: int, names: list[str], values: Tensor, norm: Tensor) -> Tensor | None:
        """`values`: the terms, float32. Raises NumericalError, or where deferred returns 1.0 in place of it, else 0.0,
        on the device."""
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
        """Raises NumericalError for what was checked before the last call, with `wait` for everything."""
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
        f"step {step}: the {update} update's {what} is NaN or infinite; its optimiser was not moved and the last "
        "checkpoint is kept. Resume with a lower train.lr or gan.lr, or with --precision fp32, or start anew with a "
        "lower weight."
    )
