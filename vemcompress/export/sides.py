"""The image size of a command: the given one, the default, or a generator's own fixed size."""

from vemcompress.errors import UsageError

DEFAULT = 256  # pixels


def usual_side(only: int | None, least: int, multiple: int) -> int:
    """The side in pixels for a network whose images may have several sizes: its `only` one, else 256 or the next
    multiple of `multiple` that is at least `least`."""
    return only or -(-max(DEFAULT, least) // multiple) * multiple


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of a `size`: a side, or both. Raises UsageError (2) for anything else."""
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UsageError(f"size {size!r:.60}: give a number of pixels of at least 1, or (height, width).")
    return sides


def own_sides(
    name: str, own: tuple[int, int] | None, given: int | tuple[int, int] | None, *, of_latents: bool = True
) -> tuple[int, int]:
    """Height and width in pixels: those that are `given` (a side, or both), else `own`, else the default. `own` is the
    only size of a generator that draws from latent vectors, or (`of_latents` = False) of another one with a fixed size.
    Raises UsageError (2) if the given size differs from it."""
    if given is None:
        return own or (DEFAULT, DEFAULT)
    height, width = both_sides(given)
    if own not in (None, (height, width)):
        does, how = ("draws", " from latent vectors") if of_latents else ("takes", "")
        raise UsageError(
            f"{name}: {does} only images of {own[1]} x {own[0]} pixels{how}, not {width} x {height}; omit the size."
        )
    return height, width
