"""Which published layout a set of names is."""

from vemcompress.errors import InputError
from vemcompress.networks import GENERATORS
from vemcompress.networks.base import Generator
from vemcompress.weights.layouts import Tensors, convert
from vemcompress.weights.published import LAYOUTS, hint


def recognise(tensors: Tensors, source: str) -> tuple[Generator, str]:
    """Our network with these published weights, in eval mode, and the layout's name.

    Raises InputError (4): of no known layout, or of a known one with a missing, surplus or misshapen tensor.
    """
    candidates = [tensors]
    if all(name.startswith("model.") for name in tensors):  # one wrapper more than published
        candidates.append({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    for candidate in candidates:
        for layout in LAYOUTS:
            if layout.matches(candidate):
                return convert(layout, candidate, source), layout.name
    first = next(iter(tensors))
    raise InputError(
        f"{source}: not a generator we know: {len(tensors)} tensors, first {first!r:.80}{hint(tensors)}. "
        f"Known: {', '.join(GENERATORS)}. Use --teacher-class module:Class for your own."
    )
