"""Our own file: one .safetensors whose metadata says all that is needed to rebuild the network."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vemcompress.networks import GENERATORS, parse_config
from vemcompress.networks.base import Generator, use_image_statistics
from vemcompress.weights import layouts
from vemcompress.weights.files import write_atomically
from vemcompress.weights.format import check_version, safetensors_bytes, signature
from vemcompress.weights.own_class import own_class_bytes


def save_generator(
    path: str | Path,
    generator: Generator,
    *,
    recipe: str = "",
    teacher: dict[str, Any] | None = None,
    extra: dict[str, str] | None = None,
) -> None:
    """Write a generator as our artifact, atomically; arguments as `artifact_bytes`. Raises OutputError (9)."""
    write_atomically(path, artifact_bytes(generator, recipe=recipe, teacher=teacher, extra=extra))


def artifact_bytes(
    generator: Generator,
    *,
    recipe: str = "",
    teacher: dict[str, Any] | None = None,
    extra: dict[str, str] | None = None,
) -> bytes:
    """The artifact's content. `recipe` is the name of the recipe that made it; `teacher` says where it came from
    (source, sha256, revision, licence); `extra` is added to the metadata under names that are not taken. A network of
    the user's own class is written as `own_class` says."""
    metadata = (extra or {}) | {"recipe": recipe, "teacher": json.dumps(teacher or {})}
    if generator.config is None:
        return own_class_bytes(generator, metadata)
    metadata |= signature(generator.config.family) | {
        "config": generator.config.model_dump_json(),
        "statistics": "image" if _uses_image_statistics(generator) else "stored",
        "input": json.dumps(input_convention(generator)),
    }
    return safetensors_bytes(generator.state_dict(), metadata)


def input_convention(generator: Generator) -> dict[str, Any]:
    """What the network takes: channel order, value range, axes, and the sizes that it can work on."""
    return {
        "order": "RGB",
        "range": [-1, 1],
        "layout": "NCHW",
        "channels": generator.config.in_channels,
        "multiple": generator.multiple,
        "min_size": generator.min_size,
    }


def rebuild(tensors: dict[str, Tensor], metadata: dict[str, str], source: str) -> Generator:
    """The network of an artifact, in eval mode. Raises InputError (4) where the metadata or the tensors do not fit."""
    check_version(metadata, source)
    prepare = use_image_statistics if metadata.get("statistics") == "image" else None
    families = f"; families: {', '.join(GENERATORS)}"
    return layouts.rebuild(tensors, metadata, source, "artifact", parse_config, prepare=prepare, families=families)


def _uses_image_statistics(generator: Generator) -> bool:
    """Whether `use_image_statistics` replaced the BatchNorms of a network that its Config builds with them."""
    return generator.config.norm == "batch" and not any(isinstance(m, nn.BatchNorm2d) for m in generator.modules())
