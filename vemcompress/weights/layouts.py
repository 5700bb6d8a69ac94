"""Converts published weights to our networks: recognised by their names, every shape checked, loaded strictly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vemcompress.errors import InputError
from vemcompress.networks import build_generator
from vemcompress.system.files import parse_json
from vemcompress.system.settings import BaseSettings

Tensors = dict[str, Tensor]
Read = tuple[BaseSettings, Callable[[str], str]]  # a Config, and the published name of each of our names
PADS = {"padding": "reflect as published"}  # for layouts whose code always pads this way
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Mismatch(Exception):
    """The weights do not fit the layout; the message names the tensor."""


@dataclass(frozen=True)
class Layout:
    """The published layout of one family.

    `matches` checks the names only. `read` returns the Config and a function from our names to the published ones; it
    raises Mismatch. `prepare` removes constants after the Config was read. `adapt` converts the renamed tensors to ours
    if more than the names differ. `build` makes the network of a Config. `advice` ends the error for a file that does
    not fit. `assumes` lists, by name, what files do not store and the published code defines (`weights.assumed`).
    """

    name: str
    matches: Callable[[Tensors], bool]
    read: Callable[[Tensors], Read]
    adapt: Callable[[Tensors], Tensors] = dict
    prepare: Callable[[Tensors], Tensors] = dict
    build: Callable[[BaseSettings], nn.Module] = build_generator
    assumes: Mapping[str, str] = field(default_factory=dict)
    advice: str = "generator alone, or use --teacher-class module:Class for your own network"


def assemble(
    config: BaseSettings,
    tensors: Tensors,
    *,
    prepare: Callable[[nn.Module], None] | None = None,
    build: Callable[[BaseSettings], nn.Module] = build_generator,
    told: Mapping[str, str] | None = None,
) -> nn.Module:
    """A network of this Config with these tensors (by our names), in eval mode. Raises Mismatch.

    Shapes are checked before anything is allocated, and no random numbers are drawn. `prepare` may change the network
    before it is filled; `build` makes it; `told` maps our names to those used in messages.
    """
    network = _skeleton(config, build)
    if prepare is not None:
        with torch.device("meta"):
            prepare(network)
    expected = network.state_dict()
    for name in tensors:
        if name not in expected:
            raise Mismatch(f"{name!r:.80} is surplus")
    for name, wanted in expected.items():
        found = tensors.get(name)
        if found is None:
            raise Mismatch(f"{name!r} is missing")
        if found.shape != wanted.shape or found.is_floating_point() != wanted.is_floating_point():
            shown = (told or {}).get(name, name)
            raise Mismatch(f"{shown!r:.80} is {described(found)} and should be {described(wanted)}")
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval()


def rebuild(
    tensors: Tensors,
    metadata: dict[str, str],
    source: str,
    what: str,
    parse: Callable[[dict], BaseSettings],
    *,
    prepare: Callable[[nn.Module], None] | None = None,
    build: Callable[[BaseSettings], nn.Module] = build_generator,
    families: str = "",
) -> nn.Module:
    """As `assemble`, for the Config in one of this project's files. Raises InputError (4) if metadata or tensors do
    not fit.
    """
    try:
        config = parse(_bounded(parse_json(metadata["config"]), tensors))
        if config.cost(256, 256).parameters > sum(tensor.numel() for tensor in tensors.values()):
            raise Mismatch("it describes a larger network")
        return assemble(config, tensors, prepare=prepare, build=build)
    except ValidationError as error:
        reason = f"its config is not valid ({error.errors()[0]['msg']}{families})"
    except (KeyError, ValueError, RecursionError):
        reason = "its metadata has no readable config"
    except Mismatch as error:
        reason = f"its tensors do not fit its config: {error}"
    raise InputError(f"{source}: damaged {what}, {reason}: create or download it again")


def _bounded(values: Any, tensors: Tensors) -> Any:
    """The values of a Config, after checking that none implies more memory than the tensors have: a width or a
    number of layers never exceeds their number of elements. Raises Mismatch.
    """
    most, todo = sum(tensor.numel() for tensor in tensors.values()), [values]
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            todo.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, int | float) and value > most:
            raise Mismatch(f"it says {value:.6g}, but they have {most:,} elements in all")
    return values


def has(*names: str) -> Callable[[Tensors], bool]:
    """A function that checks whether all of these names exist."""
    return lambda tensors: all(name in tensors for name in names)


def norm_of(tensors: Tensors, module: str) -> str:
    """The kind of the normalisation layer with this published name."""
    if f"{module}.weight" not in tensors:
        return "instance"
    return "batch" if f"{module}.running_mean" in tensors else "instance_affine"


def shape(tensors: Tensors, name: str) -> tuple[int, ...]:
    """The shape of a required kernel with 4 dimensions. Raises Mismatch."""
    if name not in tensors:
        raise Mismatch(f"{name!r} is missing")
    size = tuple(tensors[name].shape)
    if len(size) != 4:
        raise Mismatch(f"{name!r} has {len(size)} dimensions and should have 4")
    return size


def renamed(names: dict[str, str]) -> Callable[[str], str]:
    """A function from our names to published ones, by the `names` of modules. A separable convolution was published
    as a Sequential of depthwise, norm and pointwise.
    """

    def published(ours: str) -> str:
        ours = ours.replace(".depthwise.", ".conv.0.").replace(".pointwise.", ".conv.2.")
        module = next(name for name in names if ours.startswith(f"{name}."))
        return names[module] + ours[len(module) :]

    return published


def convert(layout: Layout, tensors: Tensors, source: str) -> nn.Module:
    """Our network with the weights of this published layout. Raises InputError if they do not fit."""
    try:
        config, published = layout.read(tensors)
        tensors = layout.prepare(tensors)
        names = {ours: published(ours) for ours in _skeleton(config, layout.build).state_dict()}
        _check_names(tensors, names)
        ours_to_tensor = {}
        for ours, theirs in names.items():
            if theirs in tensors:
                ours_to_tensor[ours] = tensors[theirs]
            elif ours.endswith(".num_batches_tracked"):  # not stored before torch 0.4.1, and not used here
                ours_to_tensor[ours] = torch.zeros((), dtype=torch.int64)
            else:
                raise Mismatch(f"{theirs!r} is missing")
        return assemble(config, layout.adapt(ours_to_tensor), build=layout.build, told=names)
    except Mismatch as error:
        _unfit(source, layout, str(error), error)
    except ValidationError as error:
        first = error.errors()[0]
        _unfit(source, layout, f"{first['loc'][-1] if first['loc'] else 'shape'}: {first['msg']}", error)


def _check_names(tensors: Tensors, names: dict[str, str]) -> None:
    """Refuse tensors that would be ignored, except for the statistics that InstanceNorm stored before torch 0.4."""
    used = set(names.values())
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        # Without a weight it is not a BatchNorm; InstanceNorm normalises each image by its own statistics.
        if name not in used and not (leaf in STATISTICS and f"{module}.weight" not in tensors):
            raise Mismatch(f"{name!r:.80} is surplus")


def _skeleton(config: BaseSettings, build: Callable[[BaseSettings], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"):
            return build(config)
    except (RuntimeError, ValueError) as error:
        raise Mismatch(f"the widths {str(config).replace(chr(10), ' ')[:120]} do not describe a network") from error


def described(tensor: Tensor) -> str:
    """A tensor's shape and type, for messages."""
    return f"{'x'.join(map(str, tensor.shape)) or 'a single number'} of {str(tensor.dtype).removeprefix('torch.')}"


def _unfit(source: str, layout: Layout, reason: str, cause: Exception) -> NoReturn:
    raise InputError(
        f"{source}: has the tensor names of a published {layout.name}, but {reason}: check that the file is complete "
        f"and holds the {layout.advice}"
    ) from cause
