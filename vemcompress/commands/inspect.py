"""What a loaded generator is, as plain values."""

from typing import Any

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.weights.loading import Loaded
from vemcompress.weights.traced import macs_by_hooks


def describe(loaded: Loaded, height: int, width: int) -> dict[str, Any]:
    """Family, config, parameters, MACs for one image of `height` x `width`, input and taps: `inspect --json`.

    Raises UsageError (2) for a size that the network cannot take, InputError (4) where a class fails on it.
    """
    generator = loaded.generator
    check_size(loaded, height, width)
    takes = generator.takes
    is_image = takes.kind == "image"
    return {
        "family": generator.family,
        "config": generator.config.model_dump(mode="json") if generator.config is not None else None,
        **counts(generator, height, width),
        "input": {"kind": takes.kind, "shape": [takes.channels, height, width] if is_image else [takes.size]},
        "taps": list(generator.taps),
        "source": loaded.source,
        "sha256": loaded.sha256,
        "origin": loaded.origin,
        "norm": loaded.norm,
        **({"key": loaded.key, "others": list(loaded.others)} if loaded.key else {}),
    }


def counts(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """Parameters, and MACs by convention for one image of this size."""
    return {"parameters": count_parameters(generator), "macs": cost_of(generator, height, width).macs()}


def cost_of(generator: Generator, height: int, width: int) -> Cost:
    """Parameters and MACs on one image of this size."""
    if generator.config is None:
        return macs_by_hooks(generator, generator.in_channels, height, width)
    return generator.config.cost(height, width)


def check_size(loaded: Loaded, height: int, width: int) -> None:
    """Raises UsageError (2) for a size that the network cannot take, and InputError (4) where a class fails on it."""
    multiple, least = loaded.generator.multiple, loaded.generator.min_size
    if min(height, width) < least or height % multiple or width % multiple:
        raise UsageError(
            f"{loaded.source}: cannot take {height} x {width}: height and width must be multiples of {multiple}, "
            f"and at least {least}"
        )
    if loaded.generator.config is None:
        loaded.generator.check(height)
