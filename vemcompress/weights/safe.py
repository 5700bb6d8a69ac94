"""Safe reading of foreign weight files: type detected from the bytes, sizes checked, nothing executed."""

import argparse
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vemcompress.errors import InputError, MemoryExhausted, UsageError
from vemcompress.system import names
from vemcompress.system.files import open_regular
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.containers import check_legacy, check_zip
from vemcompress.weights.folder import made
from vemcompress.weights.format import FORMAT, SUM, content_sum, is_artifact
from vemcompress.weights.pickles import STAND_INS
from vemcompress.weights.plan import Forbidden, Refused
from vemcompress.weights.recognise import is_known
from vemcompress.weights.sniff import CONVERT, sniff
from vemcompress.weights.wrappers import Unwrapped, unwrap

# Bits per element of the types in safetensors; 8-bit floats and packed types are refused by name.
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_MAX_HEADER = 32 << 20
_PIECE = 1 << 20  # bytes that are hashed at a time
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """A generator's tensors by name: float32 (integers keep their type), contiguous, finite, on the CPU.

    `kind` is "safetensors", "zip" or "legacy". `taken` names the wrappers that were opened ("g_ema"), and `prefix` is
    what was stripped from every name ("module."). If the file has several generators, `key` is the name of this one and
    `others` are the names of the rest. If its state dict has several networks, `whole` returns the tensors of all.
    `beside` holds tensors stored beside a generator that belong to it.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    kind: str
    taken: tuple[str, ...] = field(default=())
    prefix: str = ""
    key: str = ""
    others: tuple[str, ...] = ()
    whole: Callable[[], dict[str, Tensor]] | None = None
    beside: dict[str, Tensor] = field(default_factory=dict)


def read_state(path: str | Path, *, source: str | None = None, key: str | None = None) -> State:
    """The tensors of a .safetensors, .pth or .pt file, unwrapped and with common prefixes stripped.

    `source` is the name used in messages; `key` is the name of the network to read if the file has several. Raises
    UsageError (2) for a `key` with our own files, which have one network each. Raises InputError (4) if there is no
    network with that name, and for files that are missing, damaged, hostile or not weights. No code in the file is
    executed, and nothing is allocated for sizes that the file does not have.
    """
    path = Path(names.found(path))
    source = source or str(path)
    kind = sniff(path, source)
    if kind == "safetensors":
        value, metadata = _read_safetensors(path, source)
    else:
        value, metadata = _read_torch(path, source, kind), {}
    if is_artifact(metadata) and key is not None:
        raise UsageError(f"{source}: has only one generator: omit --teacher-key")
    # Our own names are never wrapped.
    found = Unwrapped(value) if is_artifact(metadata) else unwrap(value, source, key, is_known)
    if not found.tensors:
        raise InputError(f"{source}: holds no tensors: give the file with the generator's weights")
    size = path.stat().st_size
    whole = None if found.whole is None else lambda: _own(found.whole, size, source)
    about = found.taken, found.prefix, found.key, found.others
    return State(_own(found.tensors, size, source), metadata, kind, *about, whole, _own(found.beside, size, source))


def _own(tensors: dict[str, Tensor], size: int, source: str) -> dict[str, Tensor]:
    """Checked copies of tensors from a file of this size."""
    # One stored tensor under many names would be copied many times. Converting from 16 bits legitimately doubles the
    # size.
    if sum(4 * tensor.numel() for tensor in tensors.values()) > 8 * size:
        raise InputError(f"{source}: claims many times more elements than it has bytes: it is damaged or hostile")
    return {name: _checked(name, tensor, source) for name, tensor in tensors.items()}


def _read_torch(path: Path, source: str, kind: str) -> Any:
    try:
        # torch.load decides by the extension, and memory mapping needs a path: so it is not used for a zip named
        # .safetensors.
        mapped = kind == "zip" and path.suffix != ".safetensors"
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols, escapes and storage classes: of no use to the user
            (check_zip if kind == "zip" else check_legacy)(path)
            with torch.serialization.safe_globals([argparse.Namespace, *STAND_INS]):
                target = str(path) if mapped else file
                return torch.load(target, map_location="cpu", weights_only=True, mmap=mapped)
    except Forbidden as error:
        raise InputError(f"{source}: is refused, its pickle could execute code ({error}): {CONVERT}") from error
    except Refused as error:
        raise InputError(f"{source}: {error}") from error
    except Exception as error:  # torch.load raises any exception of its C++ code for damaged files
        check_readable(error, source)
        raise InputError(f"{source}: cannot be loaded as weights, it is damaged: download or copy it again") from error


def _read_safetensors(path: Path, source: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        _check_sum(path, _header(path), source)
        with names.in_utf8(path) as name, safe_open(name, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except InputError:
        raise
    except Refused as error:
        raise InputError(f"{source}: {error}") from error
    except Exception as error:
        check_readable(error, source)
        raise InputError(f"{source}: is a damaged or cut off safetensors file: {_remedy(path)}") from error


def check_readable(error: Exception, source: str) -> None:
    """Raises MemoryExhausted (6), or InputError (4) with the system's reason, for a read error that the file did not
    cause.
    """
    if is_exhausted(error):
        raise MemoryExhausted(f"{source}: not enough memory to read it: close other programs") from error
    if isinstance(error, OSError):
        raise InputError(f"{source}: cannot be read ({error.strerror or error}): check the path") from error


def _header(path: Path) -> dict:
    """The header; refused if its length, offsets or shapes do not match the size of the file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
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
    return header


def _check_sum(path: Path, header: dict, source: str) -> None:
    """Raises InputError if one of our files has changed since it was written."""
    about = header.get("__metadata__", {})
    if SUM not in about:
        if str(about.get("format")).startswith(FORMAT):
            _log.debug("%s: an older release wrote it without a checksum, so damage cannot be detected.", source)
        return
    with open_regular(path) as file:
        start = 8 + int.from_bytes(file.read(8), "little")

        def read(begin: int, end: int) -> Iterator[bytes]:
            file.seek(start + begin)
            while begin < end and (piece := file.read(min(_PIECE, end - begin))):
                begin += len(piece)
                yield piece

        found = content_sum(header, read)
    if found != about[SUM]:
        raise InputError(f"{source}: is damaged, its content does not match its checksum: {_remedy(path)}")


def _remedy(path: Path) -> str:
    """What to do about one of our damaged files."""
    folder = path.absolute().parent
    if folder.name == "best" and (folder.parent / "recipe.toml").is_file():
        return f"use the last one instead, {folder.parent / path.name}"
    run = made(folder) if (folder / "recipe.toml").is_file() else None
    if run is not None:
        command = "teach" if run.command == "teach" else "distill"
        return f"`vemcompress {command} --resume {folder}` writes it again from the run's last checkpoint"
    return "copy or download it again"


def _checked(name: str, tensor: Tensor, source: str) -> Tensor:
    """The tensor as contiguous float32 in its own memory. Raises InputError."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.is_quantized:
        raise InputError(f"{source}: {name!r:.80} is a sparse, quantised or special tensor: save it as plain float32")
    if tensor.is_complex():
        raise InputError(f"{source}: {name!r:.80} is complex: save the weights as float32")
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    # A copy: the file may be memory-mapped, and must be free to change or disappear afterwards.
    tensor = tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(tensor).all():
        raise InputError(f"{source}: {name!r:.80} has NaN or infinite weights: use an earlier checkpoint")
    return tensor
