"""Networks that are given from Python as modules: known in this process by a name, and in a run by their tensors."""

import copy
import hashlib
import os
from weakref import WeakValueDictionary

import torch
from torch import nn

from vemcompress.errors import InputError, UsageError, first_line, summary
from vemcompress.networks.base import Generator
from vemcompress.weights.custom_latents import own_generator

PREFIX = "python:"
Model = str | os.PathLike | nn.Module

_given: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()


def source_of(model: Model | None, what: str = "teacher") -> str | None:
    """The source of a model that the user gave: a path or an address as it is, of a module the name that `loading.load`
    finds it by, as long as the caller holds it. Raises UsageError for anything else, InputError for tensors without
    data."""
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
        f"{what}: is of type {type(model).__name__}; give a file, a run folder, hf://user/repo or an nn.Module."
    )


def is_module(source: str) -> bool:
    """Whether a source is the name of a module."""
    return source.startswith(PREFIX)


def missing(name: str) -> str | None:
    """That this process was not given the module of this name, as a sentence; None where it was."""
    if name in _given:
        return None
    return f"{name}: was given from Python as an nn.Module; give it there again, with teacher=module"


def open_module(name: str) -> tuple[Generator, str]:
    """A copy in eval mode, float32 and on the CPU of the module of this name, and the SHA-256 of its tensors.

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
    return own if isinstance(own, Generator) else own_generator(own, name), digest(model)


@torch.no_grad()
def digest(model: nn.Module) -> str:
    """The SHA-256 of a module's tensors with their names, types and shapes, as 64 hex digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
