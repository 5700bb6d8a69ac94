"""Optimiser steps of the updates: loss, check for NaN, backward pass, optimiser."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from vemcompress.errors import NumericalError
from vemcompress.system import distributed
from vemcompress.training.guard import Guard
from vemcompress.training.schedules import by_epoch, by_step
from vemcompress.training.timing import Timer
from vemcompress.training.update import Optimizer, Output, Update


class Runner:
    """Runs a list of updates, in order, and holds their optimisers.

    `timer` measures the optimisers' time. `deferred`: whether a non-finite loss is reported one step late. This is the
    default on a GPU, where reading it at once would block the host; see `guard`.
    """

    def __init__(
        self, updates: list[Update], device: torch.device, timer: Timer | None = None, *, deferred: bool | None = None
    ):
        self.updates, self.timer = updates, timer or Timer(device)
        self.guard = Guard(device.type == "cuda" if deferred is None else deferred)
        self.terms: dict[str, list[str]] = {}  # names of each update's loss terms, known after its first step
        self._held: list[tuple[Update, Tensor]] = []  # updates with gradients that wait for others to move together
        _check(updates)
        self._learned = {update.name: _all_parameters(update) for update in updates}
        self._states: dict[int, _State] = {}  # by the id of the Optimizer
        fused = device.type in ("cpu", "cuda")
        for update in updates:
            if id(update.optimizer) not in self._states:
                sharing = [pair for u in updates if u.optimizer is update.optimizer for pair in _parameters(u)]
                self._states[id(update.optimizer)] = _State(update.name, update.optimizer, sharing, fused)
            for name, optimizer in update.own.items():
                pairs = list(_named(name, update.modules[name]))
                self._states[id(optimizer)] = _State(f"{update.name}.{name}", optimizer, pairs, fused)

    def schedule(self, step: int, total: int, constant: float, epoch_length: float | None = None) -> float:
        """Set the learning rates for a step, counted from 1, and return the factor of those that decay. They decay
        at each step, or once per epoch of `epoch_length` steps.
        """
        if epoch_length is None:
            factor = by_step(step, total, constant)
        else:
            factor = by_epoch(step, total, constant, epoch_length)
        for state in self._states.values():
            own = state.settings.schedule
            for group in state.optimizer.param_groups:
                group["lr"] = state.settings.lr * (factor if own is None else own(step, total))
        return factor

    def apply(self, update: Update, out: Output, step: int) -> dict[str, Tensor]:
        """One optimiser step on a batch that was computed whole; see `apply_in_parts`."""
        return self.apply_in_parts(update, [partial(nullcontext, out)], step)

    def apply_in_parts(
        self, update: Update, parts: Sequence[Callable[[], AbstractContextManager[Output]]], step: int
    ) -> dict[str, Tensor]:
        """One optimiser step with the mean loss of equal parts of a batch; each part is computed when it is used.
        Returns the loss terms and the monitored values, as detached scalars on the device.

        Updates with the same label `together` move when the last of them that is due has its gradients. Raises
        NumericalError, before any of their optimisers moves, if a term or a gradient is NaN or infinite. If `deferred`,
        they do not move either, and `settle` raises the error.
        """
        parameters = [p for p in self._learned[update.name] if p.requires_grad]
        for optimizer in self._optimizers(update):
            optimizer.zero_grad(set_to_none=True)
        found = []
        for part in parts:
            with self.timer.part(update.name) if len(parts) > 1 else nullcontext(), part() as out:
                found.append(self._learn(update, out, parameters, len(parts)))
        terms = list(found[0][0])
        self.terms[update.name] = terms
        values = _mean([torch.stack(list(values.values())) for values, _ in found])
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = distributed.average(values, gradients)  # over the global batch, so that all ranks stop together
        norm = torch.nn.utils.get_total_norm(gradients)
        try:
            bad = self.guard.check(update.name, step, terms, values, norm)
        except NumericalError:
            self._held.clear()
            raise
        if update.optimizer.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, update.optimizer.clip, norm)
        self._held.append((update, bad))
        if not self._waits(update, step):
            with self.timer.part("optimizer"):
                self._move()
        monitored = {name: _mean([more[name] for _, more in found]) for name in found[0][1]}
        return dict(zip(terms, values, strict=True)) | monitored

    def _learn(self, update: Update, out: Output, parameters: list[Tensor], count: int) -> tuple[dict, dict]:
        """Add the gradients of one of `count` parts. Returns its terms and its monitored values, detached."""
        terms = update.terms(out)
        loss = sum(terms.values())
        torch.autograd.backward(loss if count == 1 else loss / count, inputs=parameters, retain_graph=update.retains)
        values = {name: term.detach().float().reshape(()) for name, term in terms.items()}
        return values, update.monitor(out) if update.monitor else {}

    def settle(self, wait: bool = False) -> None:
        """Call once per step. Raises NumericalError for an earlier step; with `wait`, for this step too."""
        self.guard.settle(wait)

    def _waits(self, update: Update, step: int) -> bool:
        """Whether the next update due at this step moves together with this one."""
        if update.together is None:
            return False
        names = [u.name for u in self.updates]
        following = (u for u in self.updates[names.index(update.name) + 1 :] if u.due(step))
        return getattr(next(following, None), "together", None) == update.together

    def _move(self) -> None:
        held, self._held = self._held, []
        flags = [bad for _, bad in held if bad is not None]
        for update, _ in held:
            for optimizer in self._optimizers(update):
                if flags:  # if this is 1, fused optimisers change nothing, without involving the host
                    optimizer.found_inf = torch.stack(flags).amax(0)
                optimizer.step()
            if update.twice:
                self._again(update, self._states[id(update.optimizer)].optimizer)
        for update, _ in held:  # runs even if the optimiser was blocked: a power iteration of unchanged weights
            if update.after:
                update.after()

    def _optimizers(self, update: Update) -> list[torch.optim.Optimizer]:
        return [self._states[id(settings)].optimizer for settings in (update.optimizer, *update.own.values())]

    def _again(self, update: Update, optimizer: torch.optim.Optimizer) -> None:
        """A second step of some parameters with the same gradients."""
        chosen = {id(p) for module in update.twice for p in module.parameters(recurse=False)}
        kept = [(p, p.grad) for group in optimizer.param_groups for p in group["params"]]
        for parameter, _ in kept:
            if id(parameter) not in chosen:
                parameter.grad = None
        optimizer.step()
        for parameter, gradient in kept:
            parameter.grad = gradient

    def state(self) -> dict[str, Tensor]:
        """State of all optimisers as flat tensors, with keys `update/parameter/key`. A shared optimiser is named
        after its first update.
        """
        return {
            f"{state.name}/{parameter}/{key}": value
            for state in self._states.values()
            for parameter, tensor in state.parameters.items()
            for key, value in state.optimizer.state[tensor].items()
            if isinstance(value, Tensor)
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        states = {found.name: found for found in self._states.values()}
        for key, value in state.items():
            name, parameter, slot = key.split("/")
            tensor = states[name].parameters[parameter]
            if slot == "step":
                value = value.to(tensor.device if tensor.device.type == "cuda" else "cpu")
            else:  # the fused Adam walks through memory, so the strides must equal the parameter's
                value = torch.empty_like(tensor).copy_(value)
            states[name].optimizer.state[tensor][slot] = value


class _State:
    """One optimiser with the parameters of all updates that share it, named after the first of them."""

    def __init__(self, name: str, settings: Optimizer, parameters: list[tuple[str, Tensor]], fused: bool):
        self.name, self.settings = name, settings
        self.parameters: dict[str, Tensor] = {}
        for key, parameter in parameters:
            if self.parameters.setdefault(key, parameter) is not parameter:
                raise ValueError(
                    f"updates that share an optimizer have two parameters named {key}; give their modules different "
                    "names"
                )
        self.optimizer = _build(self.settings, list(self.parameters.values()), fused)


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean(0)


def _build(settings: Optimizer, parameters: list[Tensor], fused: bool) -> torch.optim.Optimizer:
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": fused}
    match settings.kind:
        case "adam":
            return torch.optim.Adam(parameters, betas=settings.betas, **options)
        case "sgd":
            return torch.optim.SGD(parameters, momentum=settings.momentum, **options)
    raise ValueError(f"optimizer '{settings.kind}': must be adam or sgd")


def _check(updates: list[Update]) -> None:
    """Raises ValueError for two updates with the same name, which logs and checkpoints could not tell apart, and for
    updates that move together and share an optimiser, because they would clear each other's gradients.
    """
    names = [update.name for update in updates]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two updates are named '{twice}'; give each its own name")
    together = [(update.together, id(update.optimizer)) for update in updates if update.together is not None]
    if len(set(together)) < len(together):
        raise ValueError("updates that move together share an optimizer; make them one update")


def _parameters(update: Update) -> Iterator[tuple[str, Tensor]]:
    """Names and parameters that the update's `optimizer` changes."""
    apart = (*update.still, *(update.modules[name] for name in update.own))
    left_out = {id(parameter) for module in apart for parameter in module.parameters()}
    for prefix, module in update.modules.items():
        if prefix not in update.own:
            yield from ((name, p) for name, p in _named(prefix, module) if id(p) not in left_out)


def _all_parameters(update: Update) -> list[Tensor]:
    """All parameters that the update trains."""
    own = [p for name in update.own for p in update.modules[name].parameters()]
    return [*(p for _, p in _parameters(update)), *own]


def _named(prefix: str, module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((f"{prefix}.{name}", parameter) for name, parameter in module.named_parameters())
