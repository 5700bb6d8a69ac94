"""Which image size a command works at: a generator from latent vectors has one of its own."""

from vemcompress.errors import UsageError

DEFAULT = 256  # pixels, where nothing says another


def own_sides(name: str, own: tuple[int, int] | None, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width in pixels: what is `given`, a side or both, or a default. `own` are those of a generator that
    draws images of one size. Raises UsageError (2) for others than its own."""
    if given is None:
        return own or (DEFAULT, DEFAULT)
    height, width = (given, given) if isinstance(given, int) else given
    if own not in (None, (height, width)):
        raise UsageError(
            f"{name}: draws images of {own[1]} x {own[0]} pixels from latent vectors, none of {width} x {height}; "
            "leave out the size."
        )
    return height, width
