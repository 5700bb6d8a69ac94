"""Stops a step whose losses or gradients are NaN or infinite, before its optimiser moves."""

import math
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
    """

    def __init__(self, deferred: bool):
        self.deferred = deferred
        self._waiting: list[_Verdict] = []
        self._current: list[_Verdict] = []

    def check(self, update: str, step: int, names: list[str], values: Tensor, norm: Tensor) -> Tensor | None:
        """`values`: the terms, float32. Raises NumericalError, or where deferred returns 1.0 in place of it, else 0.0,
        on the device."""
        found = torch.cat((values, norm.detach().float().reshape(1)))
        if not self.deferred:
            if not math.isfinite(found.sum().item()):
                raise NumericalError(_complaint(update, step, names, found))
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
            if not math.isfinite(verdict.values.sum().item()):
                self._waiting.clear()
                raise NumericalError(_complaint(verdict.update, verdict.step, verdict.names, verdict.values))


def _complaint(update: str, step: int, names: list[str], found: Tensor) -> str:
    bad = [name for name, value in zip(names, found.tolist(), strict=False) if not math.isfinite(value)]
    what = f"loss term '{bad[0]}'" if bad else "gradient"
    return (
        f"step {step}: the {update} update's {what} is NaN or infinite; its optimiser was not moved and the last "
        "checkpoint is kept. Resume with a lower train.lr or gan.lr, or with --precision fp32, or start anew with a "
        "lower weight."
    )
