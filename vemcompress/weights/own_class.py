"""A class of the user's own: imported from the working folder, built without arguments, and loaded strictly."""

import importlib
import inspect

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, UsageError, VemError, summary
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.trust import importing


def build_custom(class_path: str, source: str) -> nn.Module:
    """The module that `module:Class` builds when called without arguments, imported from the working folder, for the
    weights of `source`. This runs the user's own code, so it must be trusted (`trust`). Raises UsageError (2) or
    InputError (4).
    """
    module_name, _, class_name = class_path.partition(":")
    if not class_name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"--teacher-class {class_path!r:.80}: must be module:Class, such as mynet:Generator")
    with importing(module_name, class_path, source):
        cls = getattr(_import(module_name, class_path), class_name, None)
        if cls is None:
            raise UsageError(f"--teacher-class {class_path}: {module_name} has no class {class_name}: check the name")
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            raise UsageError(f"--teacher-class {class_path}: is not a class derived from torch.nn.Module: give one")
        return _made(cls, class_path)


def _made(cls: type[nn.Module], class_path: str) -> nn.Module:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise UsageError(
            f"--teacher-class {class_path}: needs arguments ({error}): give a subclass that takes none"
        ) from error
    except ValueError:
        pass  # no signature available (written in C): calling it will show
    try:
        with torch.random.fork_rng(devices=[]):  # its initial weights are discarded, so they use no random numbers
            network = cls()
    except Exception as error:
        if isinstance(error, VemError) or is_exhausted(error):
            raise
        raise InputError(f"--teacher-class {class_path}: failed with {summary(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"--teacher-class {class_path}: makes a {type(network).__name__}, not a torch.nn.Module")
    return network


def fill_strictly(network: nn.Module, tensors: dict[str, Tensor], prefix: str, source: str, class_path: str) -> None:
    """Load the tensors, with the stripped `prefix` if the class needs it. Raises InputError with what does not fit."""
    expected = network.state_dict()
    if prefix and not expected.keys() & tensors.keys():
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    missing = [n for n in expected if n not in tensors and not n.endswith("num_batches_tracked")]
    surplus = [n for n in tensors if n not in expected]
    shapes = [n for n in tensors if n in expected and expected[n].shape != tensors[n].shape]
    parts = [
        f"{what} {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", surplus), ("of another shape", shapes))
        if names
    ]
    if parts:
        raise InputError(f"{source}: does not fit {class_path}: {'; '.join(parts)}: check the class and its arguments")
    network.load_state_dict(expected | tensors, strict=True)


def _import(module_name: str, class_path: str):
    try:
        return importlib.import_module(module_name)
    except VemError:  # code that is not trusted
        raise
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "in the working folder" if missing.split(".")[0] == module_name.split(".")[0] else "that it imports"
        raise UsageError(f"--teacher-class {class_path}: no module {missing!r} {where}: check the name") from error
    except Exception as error:
        raise InputError(f"--teacher-class {class_path}: importing failed with {summary(error)}") from error


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r:.80}" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
