"""Checks of what a device computes, without making it wait for the answer."""

from collections.abc import Callable

import torch
from torch import Tensor

# What is wrong with results of which these are not finite.
Error = Callable[[Tensor], Exception]


class Checks:
    """Whether results are finite, looked at a batch later on CUDA, when the next one keeps the device busy.

    Elsewhere at once. So an error comes up to one batch late, and never later than `finish`.
    """

    def __init__(self, device: torch.device | str):
        self._device = torch.device(device)
        self._late = self._device.type == "cuda"
        self._new: list[tuple[Tensor, Error]] = []
        self._old: list[tuple[Tensor, Error]] = []
        self._done: torch.cuda.Event | None = None

    def add(self, results: Tensor, error: Error) -> None:
        """B x ...; `error` makes the exception from B booleans, of which one at least is False."""
        finite = torch.isfinite(results).flatten(1).all(1)
        if not self._late:
            _look(finite, error)
        else:
            self._new.append((finite.to("cpu", non_blocking=True), error))

    def turn(self) -> None:
        """A batch is queued: look at the one before it. Raises what `add` was given."""
        if not self._late:
            return
        if self._done is not None:
            self._done.synchronize()  # not the whole device, which is at work on the new batch
        self._old, old = self._new, self._old
        self._new = []
        self._done = torch.cuda.Event()
        self._done.record(torch.cuda.current_stream(self._device))
        for finite, error in old:
            _look(finite, error)

    def finish(self) -> None:
        """Look at all that is left."""
        self.turn()
        self.turn()


def _look(finite: Tensor, error: Error) -> None:
    if not finite.all():
        raise error(finite)
