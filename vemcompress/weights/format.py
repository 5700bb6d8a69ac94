"""A .safetensors file's content, and how it says that it is ours."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from safetensors.torch import save
from torch import Tensor

import vemcompress
from vemcompress.errors import InputError

FORMAT = "vemcompress"
FORMAT_VERSION = 1
SUM = "vemcompress_sha256"  # the key of the metadata that holds `content_sum`


def signature(family: str) -> dict[str, str]:
    """What the metadata of every artifact says."""
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "vemcompress": vemcompress.__version__,
        "family": family,
    }


def is_artifact(metadata: dict[str, str]) -> bool:
    """Whether a .safetensors file says that it is ours."""
    return metadata.get("format") == FORMAT


def check_version(metadata: dict[str, str], source: str) -> None:
    """Raises InputError for an artifact that a later vemcompress wrote."""
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdecimal() and 1 <= int(version[:9]) <= FORMAT_VERSION):
        raise InputError(
            f"{source}: artifact of format {version!r:.20}, and this is vemcompress {vemcompress.__version__}, which "
            f"reads up to {FORMAT_VERSION}: upgrade vemcompress"
        )


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A .safetensors file's content; equal tensors and metadata give equal bytes. The library writes its header's keys
    in an order that changes from call to call, so they are sorted here. Metadata get the sum of the whole."""
    # A copy of each tensor: safetensors refuses to write two names for one memory.
    data = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, dict(metadata or {}))
    return _put_together(*_taken_apart(data))


def relabelled(data: bytes, change: Callable[[dict[str, str]], dict[str, str]]) -> bytes:
    """A .safetensors file's content with other metadata, and their sum; the same bytes where `change` changes none."""
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
    """SHA-256 of a .safetensors file's metadata and of its tensors by name, each with type, shape and bytes; where in
    the file they lie does not count. `read` gives the bytes between two offsets of the header, in pieces."""
    about = {key: value for key, value in header.get("__metadata__", {}).items() if key != SUM}
    tensors = sorted((name, entry) for name, entry in header.items() if name != "__metadata__")
    shapes = [(name, entry["dtype"], entry["shape"]) for name, entry in tensors]
    digest = hashlib.sha256(json.dumps([about, shapes], sort_keys=True).encode())
    for _, entry in tensors:
        for piece in read(*entry["data_offsets"]):
            digest.update(piece)
    return digest.hexdigest()
