"""A generator of the user's own class: imported from the working folder, filled strictly, probed, and counted."""

import importlib
import inspect
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, RecipeError, UsageError, VemError
from vemcompress.networks.base import Generator, Taps, count_parameters
from vemcompress.networks.cost import Cost

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_PROBE = 64


class CustomGenerator(Generator):
    """Any network from images to images of the same size. It has no Config and no taps.

    `in_channels` is read from its first convolution and `out_channels` from its output for a 64 x 64 image;
    `multiple` is the smallest power of two, up to 64, that its image sizes must be divisible by.
    """

    family = "custom"

    def __init__(self, module: nn.Module, name: str):
        super().__init__(None)
        self.module, self.name = module, name
        first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
        if first is None:
            raise InputError(f"{name}: has no Conv2d, so its input channels are unknown: give a network for images")
        self.in_channels = first.in_channels
        self.out_channels = self._probe(_PROBE).shape[1]
        self.multiple = self.min_size = next((m for m in (1, 2, 4, 8, 16, 32) if self._works(_PROBE + m)), _PROBE)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        if names:
            raise RecipeError(f"{self.name}: a network of your own class has no taps: distil from images alone")
        return self.module(x), {}

    def _works(self, size: int) -> bool:
        try:
            self._probe(size)
        except VemError:
            return False
        return True

    @torch.no_grad()
    def _probe(self, size: int) -> Tensor:
        """Its image for a grey one, or InputError. Runs in eval mode, and leaves the module in it."""
        try:
            image = self.module.eval()(torch.zeros(1, self.in_channels, size, size))
        except Exception as error:  # the user's own code may raise anything
            what = f"{type(error).__name__}: {_line(error)}"
            raise InputError(f"{self.name}: failed on a {size} x {size} image ({what}): it must take images") from error
        if not isinstance(image, Tensor):
            raise InputError(f"{self.name}: returned a {type(image).__name__}: let forward return the image alone")
        if image.dim() != 4 or image.shape[0] != 1 or image.shape[2:] != (size, size):
            found = "x".join(map(str, image.shape))
            raise InputError(
                f"{self.name}: returned {found} for 1x{self.in_channels}x{size}x{size}: it must return an image of "
                "the same batch and size"
            )
        return image


def build_custom(class_path: str) -> nn.Module:
    """The module that `module:Class` makes when called without arguments, imported from the working folder.

    This runs the user's own code, which is what `--teacher-class` asks for. Raises UsageError (2) or InputError (4).
    """
    module_name, _, class_name = class_path.partition(":")
    if not class_name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"--teacher-class {class_path!r}: must be module:Class, such as mynet:Generator")
    cls = getattr(_import(module_name, class_path), class_name, None)
    if not callable(cls):
        raise UsageError(f"--teacher-class {class_path}: {module_name} has no class {class_name}: check the name")
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise UsageError(
            f"--teacher-class {class_path}: needs arguments ({error}): give a subclass or a function that takes none"
        ) from error
    except ValueError:
        pass  # no signature to be had (written in C): calling it tells
    try:
        with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away, so they cost no random numbers
            network = cls()
    except Exception as error:
        raise InputError(f"--teacher-class {class_path}: failed with {type(error).__name__}: {_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"--teacher-class {class_path}: makes a {type(network).__name__}, not a torch.nn.Module")
    return network


def fill_strictly(network: nn.Module, tensors: dict[str, Tensor], prefix: str, source: str, class_path: str) -> None:
    """Load the tensors, with the stripped `prefix` where the class wants it. Raises InputError on the first misfit."""
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


def macs_by_hooks(module: nn.Module, in_channels: int, height: int, width: int) -> Cost:
    """Parameters and MACs of any network for one image, counted while it runs: convolutions, linear layers and norms.

    The conventions are those of `networks.cost`. Raises InputError where the network does not run at this size.
    """
    seen: list[Cost] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(_layer_cost(layer, inputs[0], output))

    counted = [m for m in module.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear, *_NORMS))]
    handles = [m.register_forward_hook(count) for m in counted]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, in_channels, height, width))
    except Exception as error:
        raise InputError(f"does not run at {height} x {width} ({_line(error)}): choose another size") from error
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return sum(seen, Cost(parameters=count_parameters(module)))


def _layer_cost(layer: nn.Module, x: Tensor, output: Tensor) -> Cost:
    if isinstance(layer, _NORMS):
        return Cost(norm=output.numel())
    if isinstance(layer, nn.Linear):
        return Cost(output.numel() * layer.in_features, output.numel() * layer.in_features)
    per_pixel = layer.weight.numel()  # one position: all inputs of a group, all outputs, the kernel
    on_output = per_pixel * output[0, 0].numel()
    on_input = per_pixel * x[0, 0].numel()
    return Cost(on_input if isinstance(layer, nn.ConvTranspose2d) else on_output, on_output)


def _import(module_name: str, class_path: str):
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "in the working folder" if missing.split(".")[0] == module_name.split(".")[0] else "that it imports"
        raise UsageError(f"--teacher-class {class_path}: no module {missing!r} {where}: check the name") from error
    except Exception as error:
        raise InputError(
            f"--teacher-class {class_path}: importing failed with {type(error).__name__}: {_line(error)}"
        ) from error
    finally:
        sys.path.remove(folder)


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r:.80}" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(error: Exception) -> str:
    """The first line of a foreign error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [""])[0][:160]
