"""This project's own weight file: a .safetensors file whose metadata is sufficient to rebuild the network.

For a network of the user's own class it stores the channels of each layer. The class itself is not stored, so
--teacher-class must be given again to load it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, UsageError
from vemcompress.networks import GENERATORS, parse_config
from vemcompress.networks.base import Generator, use_image_statistics, uses_image_statistics
from vemcompress.system.files import MALFORMED, parse_json, write_atomically
from vemcompress.weights import layouts
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.format import check_version, is_artifact, safetensors_bytes, signature
from vemcompress.weights.ranges import Ranges

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.InstanceNorm2d, nn.PReLU)
_CHANNELS = ("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_parameters")
_OUTPUTS = ("out_channels", "out_features", "num_features", "num_parameters")


def save_generator(path: str | Path, generator: Generator, **about) -> None:
    """Write a generator as an artifact, atomically. Keywords as in `artifact_bytes`. Raises OutputError (9)."""
    write_atomically(path, artifact_bytes(generator, **about))


def artifact_bytes(
    generator: Generator,
    *,
    recipe: str = "",
    teacher: dict[str, Any] | None = None,
    extra: dict[str, str] | None = None,
) -> bytes:
    """The artifact's content. `recipe` is the name of the recipe that made it. `teacher` is its provenance (source,
    sha256, revision, licence). `extra` is added to the metadata under names that are not used yet.
    """
    generator = generator.deployed()
    metadata = (extra or {}) | {"recipe": recipe, "teacher": json.dumps(teacher or {})}
    if generator.config is None:
        return _own_class_bytes(generator, metadata)
    metadata |= signature(generator.config.family) | {
        "config": generator.config.model_dump_json(),
        "statistics": "image" if uses_image_statistics(generator) else "stored",
    }
    metadata["input"] = json.dumps(_convention(generator))
    return safetensors_bytes(generator.state_dict(), metadata)


def _convention(generator: Generator) -> dict[str, Any]:
    """The network's input and output conventions, so that nothing has to be guessed."""
    takes, images = generator.takes, {"order": "RGB", "range": [-1, 1], "layout": "NCHW"}
    if takes.kind == "latent":
        return {"latent": takes.size, "prior": takes.prior, "image": takes.image} | images
    return images | {"channels": takes.channels, "multiple": generator.multiple, "min_size": generator.min_size}


def rebuild(tensors: dict[str, Tensor], metadata: dict[str, str], source: str) -> Generator:
    """The network of an artifact, in eval mode. Raises InputError (4) if the metadata or the tensors do not fit."""
    check_version(metadata, source)
    prepare = use_image_statistics if metadata.get("statistics") == "image" else None
    families = f"; families: {', '.join(GENERATORS)}"
    return layouts.rebuild(tensors, metadata, source, "artifact", parse_config, prepare=prepare, families=families)


def _own_class_bytes(generator: CustomGenerator, metadata: dict[str, str]) -> bytes:
    layers = {name: _channels(layer) for name, layer in generator.module.named_modules()}
    metadata = metadata | signature(CustomGenerator.family)
    metadata |= {
        "class": generator.name,
        "layers": json.dumps({name: channels for name, channels in layers.items() if channels}),
    }
    if generator.trusted:
        metadata["range"] = str(generator.ranges)
    return safetensors_bytes(generator.module.state_dict(), metadata)


def is_own_class(metadata: dict[str, str]) -> bool:
    """Whether a file is an artifact of the user's own class."""
    return is_artifact(metadata) and metadata.get("family") == CustomGenerator.family


def class_wanted(metadata: dict[str, str], source: str) -> InputError:
    """The error for such a file opened without its class."""
    name = "".join(c for c in metadata.get("class", "")[:80] if c.isprintable()) or "module:Class"
    return InputError(
        f"{source}: is a network of the class {name}: give --teacher-class {name} (--student-class for a student)"
    )


def narrow_as_saved(network: nn.Module, metadata: dict[str, str], source: str) -> None:
    """Give a new network of the class the channels stored in the file, with uninitialised weights, in place. Raises
    InputError if the class has other layers, or fewer channels than the file.
    """
    check_version(metadata, source)
    try:
        saved = parse_json(metadata["layers"])
        own = {name: (layer, _channels(layer)) for name, layer in network.named_modules()}
        own = {name: found for name, found in own.items() if found[1]}
        if saved.keys() != own.keys():
            raise ValueError("other layers")
        for name, (layer, whole) in own.items():
            wanted = saved[name]
            if wanted.keys() != whole.keys() or not all(_fits(wanted[key], whole[key]) for key in whole):
                raise ValueError("other channels")
            if wanted != whole:
                _narrow(layer, wanted)
    except MALFORMED as error:
        raise InputError(
            f"{source}: its layers are not those of this class: give the class that it was pruned from"
        ) from error


def saved_range(metadata: dict[str, str], source: str) -> Ranges | None:
    """The range stated when the file was written, or None. Raises InputError."""
    try:
        return Ranges.parse(metadata["range"]) if "range" in metadata else None
    except UsageError as error:
        told = f"{metadata['range']!r:.40}"
        raise InputError(f"{source}: its metadata says range {told}: write it again with the range stated") from error


def _fits(value, whole: int) -> bool:
    return type(value) is int and 1 <= value <= whole


def _channels(layer: nn.Module) -> dict[str, int]:
    """The attributes of a layer's channel counts; empty for a layer without its own channels."""
    if not isinstance(layer, _LAYERS):
        return {}
    return {name: getattr(layer, name) for name in _CHANNELS if hasattr(layer, name)}


def _narrow(layer: nn.Module, channels: dict[str, int]) -> None:
    for name, value in channels.items():
        setattr(layer, name, value)
    outputs = next(channels[key] for key in _OUTPUTS if key in channels)
    inputs = channels.get("in_channels", channels.get("in_features"))
    for tensors in (layer._parameters, layer._buffers):
        for name, tensor in tensors.items():
            if tensor is None or tensor.dim() == 0:
                continue
            shape: tuple[int, ...] = (outputs,)
            if tensor.dim() > 1:
                groups = channels.get("groups", 1)
                pair = (inputs, outputs) if isinstance(layer, nn.ConvTranspose2d) else (outputs, inputs)
                shape = (pair[0], pair[1] // groups, *tensor.shape[2:])
            empty = torch.empty(shape, dtype=tensor.dtype)
            tensors[name] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
