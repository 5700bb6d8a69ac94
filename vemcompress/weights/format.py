"""A .safetensors file's content, and how it says that it is ours."""

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

import vemcompress
from vemcompress.errors import InputError

FORMAT = "vemcompress"
FORMAT_VERSION = 1


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
    in an order that changes from call to call, so they are sorted here."""
    # A copy of each tensor: safetensors refuses to write two names for one memory.
    data = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, dict(metadata or {}))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
