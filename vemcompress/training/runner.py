"""Applies an algorithm's updates: named terms, guard, backward, optimiser."""

import math

import torch
from torch import Tensor

from vemcompress import distributed
from vemcompress.errors import NumericalError
from vemcompress.gans.schedule import epoch_decay
from vemcompress.step import Output, Update


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
    """Optimisers of a list of updates, in order."""

    def __init__(self, updates: list[Update], device: torch.device):
        self.updates = updates
        self._held: list[Update] = []  # have their gradients, and wait for others that move together with them
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
        their optimisers moves, when a term or a gradient is NaN or infinite.
        """
        terms = update.terms(out)
        values = torch.stack([t.detach().float().reshape(()) for t in terms.values()])
        parameters = [p for p in self._parameters[update.name].values() if p.requires_grad]
        optimizer = self._optimizers[update.name]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(sum(terms.values()), inputs=parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = distributed.average(values, gradients)  # of the global batch, so that all ranks stop alike
        norm = torch.nn.utils.get_total_norm(gradients)
        if not math.isfinite(torch.cat((values, norm.detach().float().reshape(1))).sum().item()):
            self._held.clear()
            raise NumericalError(_complaint(update, dict(zip(terms, values, strict=True)), step))
        self._held.append(update)
        if not self._waits(update, step):
            self._move()
        return dict(zip(terms, values, strict=True)) | (update.monitor(out) if update.monitor else {})

    def _waits(self, update: Update, step: int) -> bool:
        """Whether the next update that is due at this step moves together with this one."""
        if update.together is None:
            return False
        names = [u.name for u in self.updates]
        following = (u for u in self.updates[names.index(update.name) + 1 :] if u.due(step))
        return getattr(next(following, None), "together", None) == update.together

    def _move(self) -> None:
        held, self._held = self._held, []
        for update in held:
            self._optimizers[update.name].step()
        for update in held:
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
            where = tensor.device if slot != "step" or tensor.device.type == "cuda" else "cpu"
            self._optimizers[name].state[tensor][slot] = value.to(where)


def _parameters(update: Update):
    for prefix, module in update.modules.items():
        for name, parameter in module.named_parameters():
            yield f"{prefix}.{name}", parameter


def _complaint(update: Update, terms: dict[str, Tensor], step: int) -> str:
    bad = [name for name, value in terms.items() if not torch.isfinite(value)]
    what = f"loss term '{bad[0]}'" if bad else "gradient"
    return (
        f"step {step}: the {update.name} update's {what} is NaN or infinite; its optimiser was not moved and the last "
        "checkpoint is kept. Resume with a lower train.lr or gan.lr, or with --precision fp32, or start anew with a "
        "lower weight."
    )
