"""Applies an algorithm's updates: named terms, guard, backward, optimiser."""

import torch
from torch import Tensor

from vemcompress.errors import NumericalError
from vemcompress.system import distributed
from vemcompress.training.guard import Guard
from vemcompress.training.timing import Timer
from vemcompress.training.update import Output, Update


def decay(step: int, total: int, constant: float) -> float:
    """The learning rate's factor at a step from 1 to `total`: 1 for the `constant` share, then linear to zero.

    The published rule by epoch, 1 - max(0, e + 1 - n_constant) / (n_decay + 1) for epochs e from 0, taken by step.
    """
    flat = round(total * constant)
    return 1.0 - max(0, step - flat) / (total - flat + 1)


def _by_epoch(step: int, total: int, constant: float, epoch_length: float) -> float:
    epochs = max(1, round(total / epoch_length))
    flat = round(epochs * constant)
    epoch = int((step - 1) / epoch_length + 1e-9)  # 35 steps of 7/3 are 15 epochs, and as floats a little less
    return epoch_decay(min(epoch, epochs - 1), flat, epochs - flat)


class Runner:
    """Optimisers of a list of updates, in order.

    `timer` sums the optimisers' time. `deferred`: whether a loss that is not finite is told one step late, as on a GPU
    by default, where reading it at once would stall; see `guard`.
    """

    def __init__(
        self, updates: list[Update], device: torch.device, timer: Timer | None = None, *, deferred: bool | None = None
    ):
        self.updates, self.timer = updates, timer or Timer(device)
        self.guard = Guard(device.type == "cuda" if deferred is None else deferred)
        self._held: list[tuple[Update, Tensor]] = []  # have their gradients, and wait for others that move with them
        self._parameters = {u.name: dict(_parameters(u)) for u in updates}
        fused = device.type in ("cpu", "cuda")
        self._optimizers = {
            u.name: torch.optim.Adam(
                self._parameters[u.name].values(), lr=u.optimizer.lr, betas=u.optimizer.betas, fused=fused
            )
            for u in updates
        }

    def schedule(self, step: int, total: int, constant: float, epoch_length: float | None = None) -> float:
        """Set the rates for a step; returns the factor of those that decay: at each step, or once an epoch of
        `epoch_length` steps."""
        factor = (
            decay(step, total, constant) if epoch_length is None else _by_epoch(step, total, constant, epoch_length)
        )
        for update in self.updates:
            for group in self._optimizers[update.name].param_groups:
                group["lr"] = update.optimizer.lr * (factor if update.optimizer.decays else 1.0)
        return factor

    def apply(self, update: Update, out: Output, step: int) -> dict[str, Tensor]:
        """One optimiser step. Returns the terms, and what the update monitors, as scalars on the device, detached.

        Of updates `together`, the last that is due at this step moves them all. Raises NumericalError, before any of
        their optimisers moves, when a term or a gradient is NaN or infinite; where that is `deferred`, they do not
        move either, and `settle` raises it.
        """
        terms = update.terms(out)
        values = torch.stack([t.detach().float().reshape(()) for t in terms.values()])
        parameters = [p for p in self._parameters[update.name].values() if p.requires_grad]
        self._optimizers[update.name].zero_grad(set_to_none=True)
        torch.autograd.backward(sum(terms.values()), inputs=parameters, retain_graph=update.retains)
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = distributed.average(values, gradients)  # of the global batch, so that all ranks stop alike
        norm = torch.nn.utils.get_total_norm(gradients)
        try:
            bad = self.guard.check(update.name, step, list(terms), values, norm)
        except NumericalError:
            self._held.clear()
            raise
        self._held.append((update, bad))
        if not self._waits(update, step):
            with self.timer.part("optimizer"):
                self._move()
        return dict(zip(terms, values, strict=True)) | (update.monitor(out) if update.monitor else {})

    def settle(self, wait: bool = False) -> None:
        """To be called once a step. Raises NumericalError for a step before this one, with `wait` for this one too."""
        self.guard.settle(wait)

    def _waits(self, update: Update, step: int) -> bool:
        """Whether the next update that is due at this step moves together with this one."""
        if update.together is None:
            return False
        names = [u.name for u in self.updates]
        following = (u for u in self.updates[names.index(update.name) + 1 :] if u.due(step))
        return getattr(next(following, None), "together", None) == update.together

    def _move(self) -> None:
        held, self._held = self._held, []
        flags = [bad for _, bad in held if bad is not None]
        for update, _ in held:
            optimizer = self._optimizers[update.name]
            if flags:  # the fused Adam leaves everything as it is where this is 1, without asking the host
                optimizer.found_inf = torch.stack(flags).amax(0)
            optimizer.step()
        for update, _ in held:  # also after an optimiser that was held: a power iteration of weights as they were
            if update.after:
                update.after()

    def state(self) -> dict[str, Tensor]:
        """All optimisers' state as flat tensors: `update/parameter/key`."""
        return {
            f"{name}/{parameter}/{key}": value
            for name, optimizer in self._optimizers.items()
            for parameter, tensor in self._parameters[name].items()
            for key, value in optimizer.state[tensor].items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a state from `state`."""
        for key, value in state.items():
            name, parameter, slot = key.split("/")
            tensor = self._parameters[name][parameter]
            if slot == "step":
                value = value.to(tensor.device if tensor.device.type == "cuda" else "cpu")
            else:  # the fused Adam walks through memory, so that it must lie as the parameter's does
                value = torch.empty_like(tensor).copy_(value)
            self._optimizers[name].state[tensor][slot] = value


def _parameters(update: Update):
    for prefix, module in update.modules.items():
        for name, parameter in module.named_parameters():
            yield f"{prefix}.{name}", parameter


def epoch_decay(epoch: int, constant: int, decay: int) -> float:
    """The factor in an epoch counted from 0: 1 for `constant` epochs, then linear towards zero over `decay` epochs.

    CycleGAN's and OMGD's rule, 1 - max(0, epoch + 1 - constant) / (decay + 1), set once an epoch; it ends one notch
    above zero. `training.runner.decay` is the same rule by steps.
    """
    return 1.0 - max(0, epoch + 1 - constant) / (decay + 1)
