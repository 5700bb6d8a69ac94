"""Which image size a command works at: a generator from latent vectors has one of its own, and so have some others."""

from vemcompress.errors import UsageError

DEFAULT = 256  # pixels, where nothing says another


def own_sides(
    name: str, own: tuple[int, int] | None, given: int | tuple[int, int] | None, *, of_latents: bool = True
) -> tuple[int, int]:
    """Height and width in pixels: what is `given`, a side or both, or a default. `own` are those of a generator that
    draws images of one size, or `of_latents` = False takes no other. Raises UsageError (2) for others than its own."""
    if given is None:
        return own or (DEFAULT, DEFAULT)
    height, width = (given, given) if isinstance(given, int) else given
    if own not in (None, (height, width)):
        does, how = ("draws", " from latent vectors") if of_latents else ("takes", " alone")
        raise UsageError(
            f"{name}: {does} images of {own[1]} x {own[0]} pixels{how}, none of {width} x {height}; leave out the size."
        )
    return height, width
