"""Tensors as the content of a .safetensors file."""

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A .safetensors file's content; equal tensors and metadata give equal bytes.

    The library writes its header's keys in an order that changes from call to call, so they are sorted here.
    """
    # A copy of each tensor: safetensors refuses to write two names for one memory.
    data = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, dict(metadata or {}))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
