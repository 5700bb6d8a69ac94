"""Networks that are given from Python: known in this process by a name, and in a run by their tensors, or, of other
callables, by their name and code."""

import copy
import hashlib
import os
from collections.abc import Callable
from weakref import WeakValueDictionary

import torch
from torch import nn

from vemcompress.errors import InputError, UsageError, first_line, summary
from vemcompress.networks.base import Generator
from vemcompress.weights.custom_latents import own_generator
from vemcompress.weights.outside import Function
from vemcompress.weights.ranges import Ranges

PREFIX = "python:"
Model = str | os.PathLike | nn.Module | Callable[[torch.Tensor], torch.Tensor]

_given: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
_functions: dict[str, Function] = {}  # of those in `_given`, which nobody else holds


def source_of(model: Model | None, what: str = "teacher") -> str | None:
    """The source of a model that the user gave: a path or an address as it is, of a module the name that `loading.load`
    finds it by, as long as the caller holds it, of another callable such a name for as long as this process lives.
    Raises UsageError for anything else, InputError for tensors without data."""
    if callable(model) and not isinstance(model, nn.Module | type):
        function = Function(model)
        name = f"{PREFIX}{function.kind}:{function.digest[:12]}"
        _given[name] = _functions[name] = function
        return name
    if isinstance(model, nn.Module):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        try:
            name = f"{PREFIX}{kind}:{digest(model)[:12]}"
        except Exception as error:  # such as tensors without data
            raise InputError(f"{what}: {kind}: its tensors cannot be read ({first_line(error)})") from error
        _given[name] = model
        return name
    if model is None or isinstance(model, str | os.PathLike):
        return None if model is None else os.fspath(model)
    raise UsageError(
        f"{what}: is of type {type(model).__name__}; give a file, a run folder, hf://user/repo, an nn.Module "
        "or a function."
    )


def is_module(source: str) -> bool:
    """Whether a source is the name of a module."""
    return source.startswith(PREFIX)


def missing(name: str) -> str | None:
    """That this process was not given the module of this name, as a sentence; None where it was."""
    if name in _given:
        return None
    return f"{name}: was given from Python; give it there again, with teacher=module"


def open_module(name: str, ranges: Ranges | None = None) -> tuple[Generator, str]:
    """A copy in eval mode, float32 and on the CPU of the module of this name, and the SHA-256 of its tensors; of a
    function itself. It takes and gives images of these `ranges` where they are stated.

    Raises InputError (4) where this process was not given it, or it is no generator.
    """
    if told := missing(name):
        raise InputError(f"{told}.")
    model = _given[name]
    try:
        own = copy.deepcopy(model).cpu().float().eval()
    except Exception as error:  # the user's own class may raise anything
        raise InputError(f"{name}: cannot be copied ({summary(error)})") from error
    for parameter in own.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    known = model.digest if isinstance(model, Function) else digest(model)
    return own if isinstance(own, Generator) else own_generator(own, name, ranges), known


@torch.no_grad()
def digest(model: nn.Module) -> str:
    """The SHA-256 of a module's tensors with their names, types and shapes, as 64 hex digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
