"""A generator of the user's own class: imported from the working folder, filled strictly, probed, and counted."""

import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, RecipeError, UsageError, VemError, summary
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.groups import cut, narrowed, set_sizes, sizes
from vemcompress.networks.slots import Group
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.traced import cut_and_compared, macs_by_hooks, traced_groups
from vemcompress.weights.trust import importing

_PROBES = (64, 128, 256, 512)  # sides of the images that a class is tried with
_STRAY = 8.0  # networks that should give [-1, 1] stay below, those that give bytes do not


class _Raised(InputError):
    """The user's own code raised something."""


class CustomGenerator(Generator):
    """Any network from images to images of the same size. It has no Config and no taps. `custom_latents` has those from
    latent vectors.

    It is tried on noise: `in_channels` are those of one of its convolutions with which it runs, the first, 3 and 1
    before others, and `out_channels` those of its output. `multiple` is the smallest power of two, up to the side of
    the smallest image that it took (64, 128, 256 or 512 pixels), that its image sizes must be divisible by.
    """

    family = "custom"

    def __init__(self, module: nn.Module, name: str):
        super().__init__(None)
        self.module, self.name = module, name
        self._groups: tuple[Group, ...] | None = None
        self._find()

    def _find(self) -> None:
        """Find by trying what it takes and gives. Raises InputError."""
        module, name = self.module, self.name
        found = [m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
        if not found:
            raise InputError(
                f"{name}: has no Conv2d, so its input channels are unknown: give a network for images, or one that "
                "says in an attribute latent_dim from how many numbers it draws"
            )
        first = found[:1] if found[0] <= 4 else []  # a larger one is rather inside
        self.side, image = self._tried(dict.fromkeys([*first, 3, 1, *sorted(found)]))
        self.out_channels = image.shape[1]
        self.multiple = self._multiple()
        self.min_size = self.multiple if self.side == _PROBES[0] else max(self.multiple, self.side)
        self.warning = strays(name, image)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        if names:
            raise RecipeError(f"{self.name}: a network of your own class has no taps: distil from images alone")
        return self.module(x), {}

    def groups(self) -> tuple[Group, ...]:
        """As Torch-Pruning traces them, of which each is tried; the first call takes seconds. Raises what
        `traced.traced_groups` raises, and InputError where no channels can be removed."""
        if self._groups is None:
            self._groups = traced_groups(self.module, self.name, self.in_channels, prefix="module.", side=self.side)
            self._groups = tuple(group for group in self._groups if self._can_lose(group))
        if not self._groups:
            raise InputError(
                f"{self.name}: Torch-Pruning finds no channels in this class that can be removed: its forward must be "
                "made of layers with gradients, and leave their number open; distil it instead"
            )
        return self._groups

    def _can_lose(self, group: Group) -> bool:
        """Whether the network without every third channel of the group is the network with these channels masked."""
        kept = torch.tensor([channel for channel in range(group.size) if channel % 3 != 1])
        try:
            cut_and_compared(self, {group.name: kept})
        except InputError:
            return False
        return True

    def narrower(self, groups: Sequence[Group], widths: Mapping[str, int]) -> "CustomGenerator":
        tensors = self.state_dict(keep_vars=True)
        shapes = narrowed({name: t.detach().to("meta") for name, t in tensors.items()}, groups, widths)
        empty = {
            id(t): nn.Parameter(shapes[n]) if isinstance(t, nn.Parameter) else shapes[n] for n, t in tensors.items()
        }
        small = copy.deepcopy(self, empty)  # takes these tensors where it finds the old ones, so that none is copied
        set_sizes(small, sizes(self, groups, widths))
        small._groups = None
        return small

    def costs(self, height: int, width: int) -> Callable[[Mapping[str, int]], Cost]:
        """By running it at these widths without weights, or with them where it cannot run without."""

        def of(widths: Mapping[str, int]) -> Cost:
            try:
                small = self.narrower(self.groups(), widths).module
                return macs_by_hooks(small, self.in_channels, height, width, device="meta")
            except InputError:
                return macs_by_hooks(cut(self, widths).module, self.in_channels, height, width)

        return of

    def check(self, size: int) -> None:
        """Try it on an image of this side. Raises InputError."""
        self._probe(size)

    def _tried(self, channels: Iterable[int]) -> tuple[int, Tensor]:
        """The smallest side that it takes, and its image of it; sets `in_channels`. Raises InputError."""
        reasons = []
        for side in _PROBES:
            for self.in_channels in channels:
                if side > _PROBES[0] and self.in_channels > 64:  # a large image of many channels takes gigabytes
                    continue
                try:
                    return side, self._probe(side)
                except _Raised as error:
                    reasons.append(error)
        raise reasons[0]

    def _multiple(self) -> int:
        if self.side == _PROBES[0]:
            return next((m for m in (1, 2, 4, 8, 16, 32) if self._works(self.side + m)), self.side)
        multiple = self.side  # likely its only one, so from there down
        while multiple > 1 and self._works(self.side + multiple // 2):
            multiple //= 2
        return multiple

    def _works(self, size: int) -> bool:
        try:
            self._probe(size)
        except VemError:
            return False
        return True

    @torch.no_grad()
    def _probe(self, size: int) -> Tensor:
        """Its image of noise, in eval mode, which it is left in. InputError, which is _Raised by its own code."""
        noise = torch.rand(1, self.in_channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            image = self.module.eval()(noise)
        except Exception as error:  # the user's own code may raise anything
            if is_exhausted(error):
                raise
            raise _Raised(
                f"{self.name}: failed on a {size} x {size} image ({summary(error)}): it must take images"
            ) from error
        if not isinstance(image, Tensor):
            raise InputError(f"{self.name}: returned a {type(image).__name__}: let forward return the image alone")
        if image.dim() != 4 or image.shape[0] != 1 or image.shape[2:] != (size, size):
            found = "x".join(map(str, image.shape))
            raise InputError(
                f"{self.name}: returned {found} for 1x{self.in_channels}x{size}x{size}: it must return an image of "
                "the same batch and size"
            )
        return image


def unsigned(name: str, images: Tensor) -> str:
    """What is to be said of a class whose images of photos have nothing darker than the middle; else nothing."""
    if not (images.min().item() >= 0 and images.max().item() <= _STRAY):
        return ""
    return (
        f"{name}: gives nothing below 0 on your images, where an image is in [-1, 1]; if it gives 0..1, return "
        "y * 2 - 1 from its forward"
    )


def strays(name: str, images: Tensor, *, of_latents: bool = False) -> str:
    """What is to be said of a class whose images are far from [-1, 1], with the wrapper that helps; else nothing."""
    low, high = images.min().item(), images.max().item()
    if not max(-low, high) > _STRAY:
        return ""
    module, _, cls = name.rpartition(":")
    taken, does = ("x", "gives") if of_latents else ("(x + 1) * 127.5", "takes and gives")
    wrapped = f"class Wrapped({cls}): forward = lambda self, x: {cls}.forward(self, {taken}) / 127.5 - 1"
    return (
        f"{name}: gives values from {low:.4g} to {high:.4g}, where an image is in [-1, 1]; if it {does} "
        f"0..255, add `{wrapped}` to {module} and give --teacher-class {module}:Wrapped"
    )


def build_custom(class_path: str, source: str) -> nn.Module:
    """The module that `module:Class` makes when called without arguments, imported from the working folder, for the
    weights of `source`. This runs the user's own code, so it must be trusted (`trust`). Raises UsageError (2) or
    InputError (4)."""
    module_name, _, class_name = class_path.partition(":")
    if not class_name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"--teacher-class {class_path!r:.80}: must be module:Class, such as mynet:Generator")
    with importing(module_name, class_path, source):
        cls = getattr(_import(module_name, class_path), class_name, None)
        if cls is None:
            raise UsageError(f"--teacher-class {class_path}: {module_name} has no class {class_name}: check the name")
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            raise UsageError(f"--teacher-class {class_path}: is no class that derives from torch.nn.Module: give one")
        return _made(cls, class_path)


def _made(cls: type[nn.Module], class_path: str) -> nn.Module:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise UsageError(
            f"--teacher-class {class_path}: needs arguments ({error}): give a subclass that takes none"
        ) from error
    except ValueError:
        pass  # no signature to be had (written in C): calling it tells
    try:
        with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away, so they cost no random numbers
            network = cls()
    except Exception as error:
        if isinstance(error, VemError) or is_exhausted(error):
            raise
        raise InputError(f"--teacher-class {class_path}: failed with {summary(error)}") from error
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


def _import(module_name: str, class_path: str):
    try:
        return importlib.import_module(module_name)
    except VemError:  # of what is not trusted
        raise
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "in the working folder" if missing.split(".")[0] == module_name.split(".")[0] else "that it imports"
        raise UsageError(f"--teacher-class {class_path}: no module {missing!r} {where}: check the name") from error
    except Exception as error:
        raise InputError(f"--teacher-class {class_path}: importing failed with {summary(error)}") from error


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r:.80}" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
