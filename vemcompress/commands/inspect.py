"""`inspect`: a description of a loaded generator, as plain values."""

from typing import Any

from vemcompress.errors import UsageError
from vemcompress.export.sides import own_sides
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.weights.loading import Loaded


def describe(loaded: Loaded, height: int | None = None, width: int | None = None) -> dict[str, Any]:
    """Family, config, parameters, MACs for one image of `height` x `width`, input and taps: `inspect --json`.

    Without a size, MACs are counted at 256 px, or at the fixed size of the generator if it has one. Without `width`,
    the image is square. Raises UsageError (2) for a size that the network does not accept, and InputError (4) if a
    class fails on it.
    """
    generator = loaded.generator
    if height is None:
        height = getattr(generator.takes, "only", None)
    height, width = sides_of(loaded, None if height is None else (height, width or height))
    check_size(loaded, height, width)
    takes = generator.takes
    is_image = takes.kind == "image"
    note = getattr(generator.config, "counting_note", "")
    return {
        "family": generator.family,
        "config": generator.config.model_dump(mode="json") if generator.config is not None else None,
        **counts(generator, height, width),
        "input": {"kind": takes.kind, "shape": [takes.channels, height, width] if is_image else [takes.size]},
        **_borders(generator, height, width),
        "taps": list(generator.taps),
        "assumed": loaded.assumed,
        "notes": [*([note] if note else []), *_assumptions(generator)],
        "source": loaded.source,
        "sha256": loaded.sha256,
        "origin": loaded.origin,
        "norm": loaded.norm,
        **({"key": loaded.key, "others": list(loaded.others)} if loaded.key else {}),
    }


def counts(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """Parameters, and MACs by convention, for one image of this size."""
    cost = cost_of(generator, height, width)
    return {"parameters": count_parameters(generator) or cost.parameters, "macs": cost.macs()}


def cost_of(generator: Generator, height: int, width: int) -> Cost:
    """The cost of one image of this size: parameters and MACs."""
    return (generator if generator.config is None else generator.config).cost(height, width)


def _assumptions(generator: Generator) -> list[str]:
    """Notes on properties that were assumed, for a network without a Config."""
    if generator.config is not None or generator.trusted:
        return []
    return [f"its images are assumed to be in {generator.ranges.shown}; give another range with --teacher-range."]


def _borders(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """The output shape, if it differs from the input shape, as for latent vectors. For a network without a Config, the
    output shape and the value range that were found by running it."""
    known, takes = generator.config is not None, generator.takes
    if known and takes.kind == "image" and generator.times == 1:
        return {}
    sides = [takes.image] * 2 if takes.kind == "latent" else [takes.scale * height, takes.scale * width]
    found = {"output": {"shape": [generator.out_channels, *sides]}}
    return found if known else found | {"range": str(generator.ranges)}


def sides_of(loaded: Loaded, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width at which MACs are counted: the given `size`, or a default. Raises UsageError (2) if the
    generator has a fixed size and `size` is another one."""
    takes = loaded.generator.takes
    own = takes.image if takes.kind == "latent" else takes.only
    return own_sides(loaded.source, own and (own, own), size, of_latents=takes.kind == "latent")


def check_size(loaded: Loaded, height: int, width: int) -> None:
    """Raises UsageError (2) for a size that the network does not accept, and InputError (4) if a class fails on it."""
    sides_of(loaded, (height, width))
    only = getattr(loaded.generator.takes, "only", None)
    if only is not None and (height, width) != (only, only):
        raise UsageError(f"{loaded.source}: needs images of {only} x {only} px, not {height} x {width}; omit the size.")
    multiple, least = loaded.generator.multiple, loaded.generator.min_size
    if min(height, width) < least or height % multiple or width % multiple:
        raise UsageError(
            f"{loaded.source}: does not accept {height} x {width} px; give a height and width that are multiples of "
            f"{multiple}, and at least {least}."
        )
    if loaded.generator.config is None:
        loaded.generator.check(height)
