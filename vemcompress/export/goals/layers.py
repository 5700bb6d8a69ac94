"""Records the layers of a network that take time, with their shapes, while it runs on the meta device.

It records PyTorch's operations instead of modules, so it works for any way of writing a network. Elementwise operations
are omitted: runtimes fuse them into their neighbours, and calibration covers their cost (`goal`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vemcompress.networks.base import Generator


class Layer(NamedTuple):
    """A layer at batch 1. The meaning of its `sizes` depends on its kind (`works`)."""

    kind: str
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind} {','.join(map(str, self.sizes))}"


def recorded(network: nn.Module, x: Tensor) -> list[Layer]:
    """The layers that run for the input `x`, in order. Network and input may be on the meta device."""
    training = network.training
    try:
        with torch.no_grad(), _Recorder() as recorder:
            network.eval()(x)
    finally:
        network.train(training)
    return recorder.layers


def example(network: Generator, height: int, width: int, device: str = "meta") -> Tensor:
    """One input of a generator."""
    takes = network.takes
    shape = (1, takes.size) if takes.kind == "latent" else (1, takes.channels, height, width)
    return torch.zeros(shape, device=device)


class Shapes:
    """The layers of a network as a function of the widths of its channel groups. `record` records one set of widths.

    In nearly all networks, every size is an affine function of the widths. One recording per group then suffices, and a
    set of widths takes microseconds. If a trial shows that a size is not affine, each set is recorded separately.
    """

    def __init__(self, record: Callable[[Mapping[str, int]], list[Layer]], whole: Mapping[str, int]):
        self._record, self._whole, self._known = record, dict(whole), dict[tuple[int, ...], list[Layer]]()
        self._names = [name for name, width in whole.items() if width > 1]
        base = record(whole)
        self._kinds = [layer.kind for layer in base]
        self._ends = np.cumsum([len(layer.sizes) for layer in base])[:-1]
        self._base, slopes = _flat(base), []
        for name in self._names:
            less = record(self._whole | {name: whole[name] - 1})
            if [layer.kind for layer in less] != self._kinds:
                slopes = None
                break
            slopes.append(self._base - _flat(less))
        self._slopes = None if slopes is None else np.array(slopes).reshape(len(self._names), len(self._base)).T
        halves = {name: max(1, width // 2) for name, width in whole.items()}
        if self._slopes is not None and self._affine(halves) != record(halves):
            self._slopes = None

    def __call__(self, widths: Mapping[str, int]) -> list[Layer]:
        """The layers at these widths. Groups that are not named have their full width."""
        widths = self._whole | dict(widths)
        if self._slopes is not None and all(widths[name] for name in self._whole if self._whole[name]):
            return self._affine(widths)
        key = tuple(widths.values())
        if key not in self._known:
            self._known[key] = self._record(widths)
        return self._known[key]

    def groups_of(self) -> list[tuple[str, ...]] | None:
        """For each layer, the groups whose widths its sizes depend on; None if this is not known."""
        if self._slopes is None:
            return None
        parts = np.split(self._slopes, self._ends)
        return [tuple(n for n, used in zip(self._names, part.any(0), strict=True) if used) for part in parts]

    def one(self, place: int, widths: Mapping[str, int]) -> Layer:
        """The layer at this place in the order. `groups_of` must be known."""
        less = np.array([widths[name] - self._whole[name] for name in self._names], dtype=np.int64)
        start, stop = (0, *self._ends)[place], (*self._ends, len(self._base))[place]
        return Layer(self._kinds[place], tuple((self._base[start:stop] + self._slopes[start:stop] @ less).tolist()))

    def _affine(self, widths: Mapping[str, int]) -> list[Layer]:
        less = np.array([widths[name] - self._whole[name] for name in self._names], dtype=np.int64)
        parts = np.split(self._base + self._slopes @ less, self._ends)
        return [Layer(kind, tuple(part.tolist())) for kind, part in zip(self._kinds, parts, strict=True)]


def _flat(layers: Sequence[Layer]) -> np.ndarray:
    return np.array([size for layer in layers for size in layer.sizes], dtype=np.int64)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.layers: list[Layer] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = operation.name().removeprefix("aten::").partition(".")[0]
        if name in _SEEN and (layer := _SEEN[name](args, result)) is not None:
            self.layers.append(layer)
        return result


def _sides(x: Tensor) -> tuple[int, int, int]:
    """Channels, height and width."""
    return x.shape[-3], x.shape[-2], x.shape[-1]


def _conv(args: Sequence[Any], _) -> Layer | None:
    x, weight, _, stride, padding, dilation, transposed, more, groups = args[:9]
    if x.dim() != 4:
        return None
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    spaces = (*weight.shape[2:], *_two(stride), *_two(padding), *_two(dilation), *_two(more))
    return Layer("transposed" if transposed else "conv", (x.shape[1], outputs, *spaces, groups, *x.shape[2:]))


def _pad(kind: str) -> Callable:
    def found(args: Sequence[Any], _) -> Layer | None:
        x, sides = args[:2]
        return Layer(kind, (*_sides(x), *sides)) if x.dim() == 4 and len(sides) == 4 else None

    return found


def _group_norm(args: Sequence[Any], _) -> Layer | None:
    x, groups = args[0], args[6]
    return Layer("norm", (x.shape[1], groups, *x.shape[2:])) if x.dim() == 4 else None


def _batch_norm(args: Sequence[Any], _) -> Layer | None:
    x = args[0]
    return Layer("batch_norm", _sides(x)) if x.dim() == 4 else None


def _resize(kind: str) -> Callable:
    return lambda args, y: Layer(kind, (*_sides(args[0]), *y.shape[2:]))


def _pool(kind: str) -> Callable:
    def found(args: Sequence[Any], y) -> Layer | None:
        x, kernel = args[:2]
        y = y[0] if isinstance(y, tuple) else y
        stride = args[2] if len(args) > 2 and args[2] else kernel
        padding = args[3] if len(args) > 3 else 0
        return Layer(kind, (*_sides(x), *_two(kernel), *_two(stride), *_two(padding))) if x.dim() == 4 else None

    return found


def _linear(first: int) -> Callable:
    def found(args: Sequence[Any], _) -> Layer:
        a, b = args[first : first + 2]
        return Layer("linear", (a.shape[0], a.shape[1], b.shape[1]))

    return found


def _two(value) -> tuple[int, int]:
    """An argument as a pair, one value for each axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values


_SEEN: dict[str, Callable[[Sequence[Any], Any], Layer | None]] = {
    "convolution": _conv,
    "reflection_pad2d": _pad("reflect_pad"),
    "replication_pad2d": _pad("replicate_pad"),
    "constant_pad_nd": _pad("zero_pad"),
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "upsample_nearest2d": _resize("nearest"),
    "upsample_bilinear2d": _resize("bilinear"),
    "avg_pool2d": _pool("average_pool"),
    "max_pool2d_with_indices": _pool("max_pool"),
    "addmm": _linear(1),
    "mm": _linear(0),
    "bmm": lambda args, y: Layer("product", (args[0].shape[0], args[0].shape[1], args[0].shape[2], args[1].shape[2])),
    "_softmax": lambda args, y: Layer("softmax", (y.numel() // y.shape[-1], y.shape[-1])),
}
