"""The content of this project's .safetensors files, and their signature in the metadata."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from safetensors.torch import save
from torch import Tensor

import vemcompress
from vemcompress.errors import InputError

FORMAT = "vemcompress"
FORMAT_VERSION = 1
SUM = "vemcompress_sha256"  # the metadata key of `content_sum`


def signature(family: str) -> dict[str, str]:
    """The metadata of every artifact."""
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "vemcompress": vemcompress.__version__,
        "family": family,
    }


def is_artifact(metadata: dict[str, str]) -> bool:
    """Whether a .safetensors file is one of this project's artifacts."""
    return metadata.get("format") == FORMAT


def check_version(metadata: dict[str, str], source: str) -> None:
    """Raises InputError for an artifact of a newer vemcompress."""
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdecimal() and 1 <= int(version[:9]) <= FORMAT_VERSION):
        raise InputError(
            f"{source}: artifact of format {version!r:.20}, but this vemcompress {vemcompress.__version__} "
            f"reads up to {FORMAT_VERSION}: upgrade vemcompress"
        )


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a .safetensors file; equal tensors and metadata give equal bytes. The library's order of header
    keys varies, so they are sorted here. The metadata get a checksum of the whole content.
    """
    # A copy of each tensor: safetensors refuses to write two names for the same memory.
    data = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, dict(metadata or {}))
    return _put_together(*_taken_apart(data))


def relabelled(data: bytes, change: Callable[[dict[str, str]], dict[str, str]]) -> bytes:
    """The content of a .safetensors file with other metadata and a new checksum; the same bytes if `change` changes
    nothing.
    """
    header, body = _taken_apart(data)
    before = {key: value for key, value in header.get("__metadata__", {}).items() if key != SUM}
    after = change(before)
    return data if after == before else _put_together(header | {"__metadata__": after}, body)


def _taken_apart(data: bytes) -> tuple[dict, memoryview]:
    """The header and the tensors' bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]


def _put_together(header: dict, body: memoryview) -> bytes:
    if header.get("__metadata__"):
        header["__metadata__"][SUM] = content_sum(header, lambda begin, end: (body[begin:end],))
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, body))


def content_sum(header: dict, read: Callable[[int, int], Iterable[bytes]]) -> str:
    """SHA-256 of a .safetensors file's metadata and of its tensors by name, each with type, shape and bytes,
    independent of their position in the file. `read` returns the bytes between two offsets of the header, in pieces.
    """
    about = {key: value for key, value in header.get("__metadata__", {}).items() if key != SUM}
    tensors = sorted((name, entry) for name, entry in header.items() if name != "__metadata__")
    shapes = [(name, entry["dtype"], entry["shape"]) for name, entry in tensors]
    digest = hashlib.sha256(json.dumps([about, shapes], sort_keys=True).encode())
    for _, entry in tensors:
        for piece in read(*entry["data_offsets"]):
            digest.update(piece)
    return digest.hexdigest()
