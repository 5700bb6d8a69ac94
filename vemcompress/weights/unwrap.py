"""From what people save to the generator's tensors: wrappers opened, common prefixes stripped."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vemcompress.errors import InputError

# The average of the weights is what papers evaluate, so it comes first.
WRAPPERS = ("g_ema", "G_ema", "ema", "params_ema", "G", "g", "netG", "netG_A", "G_A", "generator", "params")
WRAPPERS += ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "netG.", "netG_A.", "G_A.", "G.", "g_ema.", "generator.", "net.", "network.")
_COUNTERS = ("total_ops", "total_params", "n_averaged")  # left behind by thop and by AveragedModel


def unwrap(value: Any, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors by name, and the wrappers that were opened to reach them. Raises InputError."""
    taken: list[str] = []
    for _ in range(8):
        if not isinstance(value, Mapping):
            raise InputError(f"{source}: holds a {type(value).__name__}, not a state dict: save generator.state_dict()")
        inside = next((name for name in WRAPPERS if isinstance(value.get(name), Mapping)), None)
        if inside is None:
            tensors = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
            if tensors:
                return tensors, tuple(taken)
            seen = ", ".join(f"{name!r:.40}" for name in list(value)[:5]) or "nothing"
            known = ", ".join(WRAPPERS[:6])
            raise InputError(f"{source}: holds no generator, but {seen}: save it under one of {known}, or bare")
        taken.append(inside)
        value = value[inside]
    raise InputError(f"{source}: is nested too deeply: save generator.state_dict() alone")


def strip_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors without the prefixes that all names share, and without counters; and what was stripped."""
    tensors = {name: t for name, t in tensors.items() if name.rpartition(".")[2] not in _COUNTERS}
    stripped = ""
    while tensors:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name[len(prefix) :]: t for name, t in tensors.items()}
        stripped += prefix
    return tensors, stripped
