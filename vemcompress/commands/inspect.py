"""What a loaded generator is, as plain values."""

from typing import Any

from vemcompress.errors import UsageError
from vemcompress.export.sides import own_sides
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.weights.loading import Loaded


def describe(loaded: Loaded, height: int | None = None, width: int | None = None) -> dict[str, Any]:
    """Family, config, parameters, MACs for one image of `height` x `width`, input and taps: `inspect --json`.

    Without a size MACs are those at 256 px, or at the only size of a generator that has one; without `width` the image
    is square. Raises UsageError (2) for a size that the network cannot take, InputError (4) where a class fails on it.
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
    """Parameters, and MACs by convention for one image of this size."""
    cost = cost_of(generator, height, width)
    return {"parameters": count_parameters(generator) or cost.parameters, "macs": cost.macs()}


def cost_of(generator: Generator, height: int, width: int) -> Cost:
    """Parameters and MACs on one image of this size."""
    return (generator if generator.config is None else generator.config).cost(height, width)


def _assumptions(generator: Generator) -> list[str]:
    """Sentences on what nobody has stated of a network that no Config tells."""
    if generator.config is not None or generator.trusted:
        return []
    return [f"its images are taken to be in {generator.ranges.shown}; --teacher-range says another range."]


def _borders(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """The shape that a network gives where it is another than the input's, and what of one that no Config tells is
    found by trying: that shape, and its range of values."""
    known, takes = generator.config is not None, generator.takes
    if known and generator.times == 1:
        return {}
    sides = [takes.image] * 2 if takes.kind == "latent" else [takes.scale * height, takes.scale * width]
    found = {"output": {"shape": [generator.out_channels, *sides]}}
    return found if known else found | {"range": str(generator.ranges)}


def sides_of(loaded: Loaded, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width that MACs are counted for: the `size` that is given, or a default. Raises UsageError (2) for
    another than the only one of a generator that has one."""
    takes = loaded.generator.takes
    own = takes.image if takes.kind == "latent" else takes.only
    return own_sides(loaded.source, own and (own, own), size, of_latents=takes.kind == "latent")


def check_size(loaded: Loaded, height: int, width: int) -> None:
    """Raises UsageError (2) for a size that the network cannot take, and InputError (4) where a class fails on it."""
    sides_of(loaded, (height, width))
    only = getattr(loaded.generator.takes, "only", None)
    if only is not None and (height, width) != (only, only):
        raise UsageError(f"{loaded.source}: takes images of {only} x {only} alone, not {height} x {width}; omit it")
    multiple, least = loaded.generator.multiple, loaded.generator.min_size
    if min(height, width) < least or height % multiple or width % multiple:
        raise UsageError(
            f"{loaded.source}: cannot take {height} x {width}: height and width must be multiples of {multiple}, "
            f"and at least {least}"
        )
    if loaded.generator.config is None:
        loaded.generator.check(height)
