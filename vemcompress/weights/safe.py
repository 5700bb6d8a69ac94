"""The only place that opens weight files of others: bytes sniffed, sizes checked, nothing executed."""

import argparse
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vemcompress.errors import InputError
from vemcompress.system import names
from vemcompress.weights.containers import check_legacy, check_zip
from vemcompress.weights.plan import Forbidden, Refused
from vemcompress.weights.sniff import CONVERT, sniff

# Bits of a weight's element in safetensors; the 8-bit floats and packed kinds are refused by name.
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_MAX_HEADER = 32 << 20

# The average of the weights is what papers evaluate, so it comes first.
WRAPPERS = ("g_ema", "G_ema", "ema", "params_ema", "G", "g", "netG", "netG_A", "G_A", "generator", "params")
WRAPPERS += ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "netG.", "netG_A.", "G_A.", "G.", "g_ema.", "generator.", "net.", "network.")
_COUNTERS = ("total_ops", "total_params", "n_averaged")  # left behind by thop and by AveragedModel


@dataclass(frozen=True)
class State:
    """A generator's tensors by name: float32 (whole numbers keep their kind), contiguous, finite, on the CPU.

    `kind` is "safetensors", "zip" or "legacy"; `taken` names the wrappers that were opened ("g_ema") and `prefix`
    what was stripped from every name ("module.").
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    kind: str
    taken: tuple[str, ...] = field(default=())
    prefix: str = ""


def read_state(path: str | Path, *, source: str | None = None) -> State:
    """The tensors of a .safetensors, .pth or .pt file, unwrapped and with common prefixes stripped.

    `source` is the name used in messages. Raises InputError (4) for whatever is absent, damaged, hostile or not
    weights; no code in the file is executed, and nothing is allocated for sizes that the file does not have.
    """
    path = Path(names.found(path))
    source = source or str(path)
    kind = sniff(path, source)
    if kind == "safetensors":
        tensors, metadata = _read_safetensors(path, source)
        taken: tuple[str, ...] = ()
    else:
        metadata = {}
        tensors, taken = unwrap(_read_torch(path, source, kind), source)
    prefix = ""
    if metadata.get("format") != "vemcompress":  # our own names are never wrapped
        tensors, prefix = strip_prefixes(tensors)
    if not tensors:
        raise InputError(f"{source}: holds no tensors: give the file with the generator's weights")
    # One stored tensor under many names would be copied many times. Widening from 16 bits doubles honestly.
    if sum(4 * tensor.numel() for tensor in tensors.values()) > 8 * path.stat().st_size:
        raise InputError(f"{source}: claims many times more elements than it has bytes: it is damaged or hostile")
    return State({name: _checked(name, t, source) for name, t in tensors.items()}, metadata, kind, taken, prefix)


def _read_torch(path: Path, source: str, kind: str) -> Any:
    try:
        # The extension decides in torch.load, and mapping needs a path: so not for a zip that is named .safetensors.
        mapped = kind == "zip" and path.suffix != ".safetensors"
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols, escapes and storage classes: nothing a user can act on
            (check_zip if kind == "zip" else check_legacy)(path)
            with torch.serialization.safe_globals([argparse.Namespace]):
                target = str(path) if mapped else file
                return torch.load(target, map_location="cpu", weights_only=True, mmap=mapped)
    except Forbidden as error:
        raise InputError(f"{source}: is refused, its pickle could execute code ({error}): {CONVERT}") from error
    except Refused as error:
        raise InputError(f"{source}: {error}") from error
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or error}): check the path") from error
    except Exception as error:  # torch.load raises whatever its C++ side does on damaged files
        raise InputError(f"{source}: cannot be loaded as weights, it is damaged: download or copy it again") from error


def _read_safetensors(path: Path, source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        _check_header(path)
        with names.in_utf8(path) as name, safe_open(name, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Refused as error:
        raise InputError(f"{source}: {error}") from error
    except Exception as error:
        raise InputError(f"{source}: is a damaged or cut off safetensors file: download or copy it again") from error


def _check_header(path: Path) -> None:
    """Refuse a header whose length, offsets or shapes do not agree with the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_HEADER, size - 8):
            raise Refused(f"has a header that claims {length} bytes: it is cut off or not a safetensors file")
        header = json.loads(file.read(length))
    space = size - 8 - length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        bits = _BITS.get(entry["dtype"])
        if bits is None:
            raise Refused(f"holds {name!r:.80} of type {entry['dtype']!r:.20}: save it as float32")
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= space or end - begin != prod(entry["shape"]) * bits // 8:
            raise Refused(f"claims bytes for {name!r:.80} that it does not have: it is cut off or damaged")


def _checked(name: str, tensor: Tensor, source: str) -> Tensor:
    """The tensor as contiguous float32 in memory of its own, or InputError."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.is_quantized:
        raise InputError(f"{source}: {name!r:.80} is a sparse, quantised or special tensor: save it as plain float32")
    if tensor.is_complex():
        raise InputError(f"{source}: {name!r:.80} is complex: save the weights as float32")
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    # A copy: the file may be mapped, and must be free to change or vanish afterwards.
    tensor = tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(tensor).all():
        raise InputError(f"{source}: {name!r:.80} has NaN or infinite weights: use an earlier checkpoint")
    return tensor


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
