"""Networks given from Python: an nn.Module is identified by its tensors, another callable by its name and code."""

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
_functions: dict[str, Function] = {}  # those in `_given`, kept alive here


def source_of(model: Model | None, what: str = "teacher") -> str | None:
    """The source of a model that the user gave. A path or an address is returned unchanged. A module gets a name by
    which `loading.load` finds it while the caller holds it; another callable gets such a name for the life of the
    process. Raises UsageError for anything else, InputError for tensors without data.
    """
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
    """The sentence that this process was not given the module of this name; None if it was."""
    if name in _given:
        return None
    return f"{name}: was given from Python; give it there again, with teacher=module"


def open_module(name: str, ranges: Ranges | None = None) -> tuple[Generator, str]:
    """A copy of the module with this name, in eval mode, float32, on the CPU, and the SHA-256 of its tensors. A
    function is returned itself. Its images have these `ranges` if stated.

    Raises InputError (4) if this process was not given it, or if it is not a generator.
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
