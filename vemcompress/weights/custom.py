"""Generators of the user's own class: their input, output and MACs are found by running them."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, RecipeError, summary
from vemcompress.networks.base import Generator, ImageInput, Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.groups import cut, narrowed, set_sizes, sizes
from vemcompress.networks.slots import Group
from vemcompress.system.events import Event
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.outside import Outside
from vemcompress.weights.ranges import Ranges, is_far, is_unsigned
from vemcompress.weights.traced import cut_and_compared, macs_by_hooks, traced_groups

_PROBES = (64, 128, 256, 512)  # image sides that a class is tried with
_SCALES = (1, 2, 3, 4, 8)  # possible ratios of output and input size


class _Raised(InputError):
    """An exception from the user's own code."""


class CustomGenerator(Generator):
    """Any network from images to images of the same size, or of `scale` times their size. It has no Config and no taps.
    `custom_latents` has those from latent vectors.

    It is tried on noise. `in_channels` are those of the convolution with which it runs: the first one is tried first,
    then 3 and 1, then others. `out_channels` are those of its output. `multiple` is the smallest power of two that its
    image sizes must be divisible by, up to the side of the smallest image that worked (64, 128, 256 or 512 pixels).

    Its images have its own `ranges` if these are given; then they are trusted. Otherwise they are assumed to be in [-1,
    1]. Of several outputs the first is the image, which `assumed` says.
    """

    family = "custom"
    what = "a network of your own class"
    only: int | None = None  # the only possible side of the images, if any
    scale = 0  # unknown until it has been tried

    def __init__(self, module: nn.Module, name: str, ranges: Ranges | None = None):
        super().__init__(None)
        self.module, self.name = module, name
        self.trusted, self.ranges = ranges is not None, ranges or Ranges()
        self.assumed = self.warning = ""
        self._groups: tuple[Group, ...] | None = None
        self._seen: tuple[Tensor, Tensor] | None = None
        self._find()
        self._seen = None  # range of values, from noise

    @property
    def takes(self) -> ImageInput:
        return ImageInput(self.in_channels, self.multiple, self.min_size, self.scale, only=self.only)

    def _find(self) -> None:
        """Find its input and output by trying. Raises InputError."""
        self.side, image = self._tried(self._channels())
        self.out_channels = image.shape[1]
        self.multiple = self._multiple()
        self.min_size = self.multiple if self.side == _PROBES[0] else max(self.multiple, self.side)
        if not self.trusted:
            self.warning = is_far(self.name, image.min().item(), image.max().item())

    def _channels(self) -> Iterable[int]:
        """The numbers of input channels to try."""
        if isinstance(self.module, Outside):
            return self.module.tried_channels
        found = [m.in_channels for m in self.module.modules() if isinstance(m, nn.Conv2d)]
        if not found:
            raise InputError(
                f"{self.name}: has no Conv2d, so its input channels are unknown: give a network for images, or one "
                "with an attribute latent_dim that holds the size of its latent vectors"
            )
        first = found[:1] if found[0] <= 4 else []  # a larger number is probably an inner layer's
        return dict.fromkeys([*first, 3, 1, *sorted(found)])

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        if names:
            raise RecipeError(f"{self.name}: {self.what} has no taps: distil from images alone")
        image = self.ranges.back(_first(self.module(self.ranges.into(x))))
        if self.ranges.given == "-1..1" or self.training:  # a clamped pixel has no gradient
            return image, {}
        self._see(image.detach())
        return image.clamp(-1, 1), {}

    def _see(self, image: Tensor) -> None:
        """Keep the smallest and the largest value that images had before clamping."""
        low, high = image.amin(), image.amax()
        before = self._seen or (low, high)
        self._seen = torch.minimum(low, before[0]), torch.maximum(high, before[1])

    def seen(self, images: Tensor) -> tuple[float, float]:
        """The smallest and the largest value of the network's own output so far, including these images."""
        return tuple(self.ranges.raw(value.item()) for value in self._seen or (images.min(), images.max()))

    def ends_in_sigmoid(self) -> bool:
        """Whether its last operation is a sigmoid, so that its range is certainly [0, 1]."""
        where = next((tensor.device for tensor in self.parameters()), None)
        try:
            with torch.enable_grad():
                image = _first(self.module(self._noise(self.side).to(where).requires_grad_()))
        except Exception as error:  # the user's own code may only work without gradients
            if is_exhausted(error):
                raise
            return False
        return type(getattr(image, "grad_fn", None)).__name__ == "SigmoidBackward0"

    def groups(self) -> tuple[Group, ...]:
        """The groups traced by Torch-Pruning; each is tried, so the first call takes seconds. Raises the errors of
        `traced.traced_groups`, and InputError if no channels can be removed.
        """
        if self._groups is None:
            self._groups = traced_groups(self.module, self.name, self.in_channels, prefix="module.", side=self.side)
            self._groups = tuple(group for group in self._groups if self._can_lose(group))
        if not self._groups:
            raise InputError(
                f"{self.name}: Torch-Pruning finds no removable channels in this class: its forward must be "
                "made of layers with gradients, and must not depend on their number of channels; distil it instead"
            )
        return self._groups

    def _can_lose(self, group: Group) -> bool:
        """Whether removing every third channel of the group gives the same network as masking these channels."""
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
        small = copy.deepcopy(self, empty)  # the memo supplies these tensors instead of the old ones, so none is copied
        set_sizes(small, sizes(self, groups, widths))
        small._groups = None
        return small

    def costs(self, height: int, width: int) -> Callable[[Mapping[str, int]], Cost]:
        """Count by running it at these widths without weights, or with them if it cannot run without."""

        def of(widths: Mapping[str, int]) -> Cost:
            try:
                small = self.narrower(self.groups(), widths).module
                return macs_by_hooks(small, self.in_channels, height, width, device="meta")
            except InputError:
                return macs_by_hooks(cut(self, widths).module, self.in_channels, height, width)

        return of

    def cost(self, height: int, width: int) -> Cost:
        """The cost for one image of this size. Raises InputError if it does not run."""
        return macs_by_hooks(self, self.in_channels, height, width)

    def check(self, size: int) -> None:
        """Try it on an image of this side. Raises InputError."""
        self._probe(size)

    def _tried(self, channels: Iterable[int]) -> tuple[int, Tensor]:
        """The smallest side that works, and its output image; sets `in_channels`. Raises InputError."""
        reasons = []
        for side in _PROBES:
            for self.in_channels in channels:
                if side > _PROBES[0] and self.in_channels > 64:  # a large image with many channels needs gigabytes
                    continue
                try:
                    return side, self._probe(side)
                except _Raised as error:
                    reasons.append(error)
        raise reasons[0]

    def _multiple(self) -> int:
        if self.side == _PROBES[0]:
            return next((m for m in (1, 2, 4, 8, 16, 32) if self._works(self.side + m)), self.side)
        multiple = self.side  # probably the only size, so search downwards from there
        while multiple > 1 and self._works(self.side + multiple // 2):
            multiple //= 2
        return multiple

    def _works(self, size: int) -> bool:
        try:
            self._probe(size)
        except InputError:
            return False
        return True

    def _noise(self, size: int) -> Tensor:
        """One image of noise in the network's range, always the same."""
        noise = torch.rand(1, self.in_channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return self.ranges.into(noise)

    @torch.no_grad()
    def _probe(self, size: int) -> Tensor:
        """Its output for an image of noise, in eval mode, in its own range; sets `scale` and leaves it in eval mode.
        Raises InputError, and _Raised for an exception in its code.
        """
        try:
            result = self.module.eval()(self._noise(size))
        except InputError as error:
            raise _Raised(str(error)) from error
        except Exception as error:  # the user's own code may raise anything
            if is_exhausted(error):
                raise
            raise _Raised(
                f"{self.name}: failed on a {size} x {size} image ({summary(error)}): it must accept images"
            ) from error
        image = _first(result)
        if not isinstance(image, Tensor):
            raise InputError(f"{self.name}: returned a {type(result).__name__}: let forward return the image alone")
        if image is not result:
            kind, count = type(result).__name__, len(result)
            self.assumed = f"the first of the {count} results in its {kind} is the image"
        scale = image.shape[2] // size if image.dim() == 4 else 0
        square = image.dim() == 4 and image.shape[0] == 1 and image.shape[2:] == (scale * size, scale * size)
        if not square or scale not in _SCALES or self.scale not in (0, scale):
            found = "x".join(map(str, image.shape))
            raise InputError(
                f"{self.name}: returned {found} for 1x{self.in_channels}x{size}x{size}: it must return an image of "
                "the same batch and size, or 2, 3, 4 or 8 times as large"
            )
        self.scale = scale
        return image


def _first(result):
    """The first element of a tuple, list or dict of results; anything else unchanged."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    return result[0] if isinstance(result, tuple | list) and len(result) else result


def check_range(generator: Generator, images: Tensor, on_event: Event) -> None:
    """Check the range of a network by its `images`, B x C x H x W in [-1, 1], which it made from photos. Raises
    InputError (4) if they are far from an assumed range, and warns if they are far from a stated range or may have
    another one than the assumed.
    """
    if not isinstance(generator, CustomGenerator):
        return
    name, ranges = generator.name, generator.ranges
    low, high = generator.seen(images)
    reason = is_far(name, low, high, ranges.given)
    if generator.trusted:
        if reason:
            on_event({"event": "warning", "message": reason})
        return
    if reason:
        raise InputError(reason)
    if ranges.given == "-1..1" and (reason := is_unsigned(name, low, high)):
        if generator.ends_in_sigmoid():
            raise InputError(f"{reason}, because its last operation is a sigmoid")
        on_event({"event": "warning", "message": reason})
