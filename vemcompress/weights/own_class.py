"""A class of the user's own: imported from the working folder, built without arguments, and loaded strictly.

A function that returns the network may stand in place of the class. It can give the class its arguments.
"""

import importlib
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, UsageError, VemError, summary
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.trust import importing, may_call, remember_call


def build_custom(class_path: str, source: str) -> nn.Module:
    """The module that `module:Class` builds when called without arguments, imported from the working folder, for the
    weights of `source`. This runs the user's own code, so it must be trusted (`trust`). Raises UsageError (2) or
    InputError (4).
    """
    module_name, _, class_name = class_path.partition(":")
    parts = module_name.split(".")
    if not class_name.isidentifier() or not all(part.isidentifier() for part in parts) or parts[-1] == "py":
        raise UsageError(
            f"--teacher-class {class_path!r:.80}: must be module:Class, such as mynet:Generator for a class in "
            "mynet.py, or nets.mynet:Generator for one in nets/mynet.py"
        )
    with importing(module_name, class_path, source):
        module = _import(module_name, class_path)
        made_by = getattr(module, class_name, None)
        if made_by is None:
            raise UsageError(
                f"--teacher-class {class_path}: {module_name} has no class {class_name}: {_meant(module, class_name)}"
            )
        if not (issubclass(made_by, nn.Module) if isinstance(made_by, type) else callable(made_by)):
            raise UsageError(
                f"--teacher-class {class_path}: is not a class derived from torch.nn.Module, and not a function that "
                "returns one: give one"
            )
        if isinstance(made_by, type):
            return _made(made_by, class_path)
        if not may_call(class_path):
            raise InputError(
                f"{source}: {class_path:.80} is a function that you have not named yourself: to allow it, give "
                f"--teacher-class {class_path:.80} (--student-class for a student)"
            )
        network = _made(made_by, class_path)
        remember_call(class_path)
        return network


def _meant(module: object, name: str) -> str:
    """What to do about a class that is not in the module: the nearest name of one that is."""
    classes = [n for n, cls in vars(module).items() if isinstance(cls, type) and issubclass(cls, nn.Module)]
    close = get_close_matches(name, classes, 1)
    return f"did you mean {close[0]}?" if close else "check the name"


def _made(made_by: Callable[[], nn.Module], class_path: str) -> nn.Module:
    try:
        inspect.signature(made_by).bind()
    except TypeError as error:
        module, _, name = class_path.partition(":")
        raise UsageError(
            f"--teacher-class {class_path}: needs arguments ({error}): add a function such as "
            f"`def small(): return {name}(...)` to the file, and give {module}:small"
        ) from error
    except ValueError:
        pass  # no signature available (written in C): calling it will show
    try:
        with torch.random.fork_rng(devices=[]):  # its initial weights are discarded, so they use no random numbers
            network = made_by()
    except Exception as error:
        if isinstance(error, VemError) or is_exhausted(error):
            raise
        raise InputError(f"--teacher-class {class_path}: failed with {summary(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"--teacher-class {class_path}: returns {type(network).__name__}, not a torch.nn.Module")
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
        if missing.split(".")[0] != module_name.split(".")[0]:
            raise UsageError(
                f"--teacher-class {class_path}: no module {missing!r} that it imports: install it, or check the name"
            ) from error
        file = Path(*module_name.split(".")).with_suffix(".py")
        raise UsageError(
            f"--teacher-class {class_path}: no module {missing!r} in the working folder {Path.cwd()}: run the command "
            f"in the folder that has {file}"
        ) from error
    except Exception as error:
        raise InputError(f"--teacher-class {class_path}: importing failed with {summary(error)}") from error


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r:.80}" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
