"""Descriptions of what a weight file claims to hold, and checks of their sizes."""

from dataclasses import dataclass, field
from typing import Any

# Bytes per element of supported storages; others (quantised, complex, float8) are refused by name.
STORAGES = {
    f"{kind}Storage": size
    for size, kinds in {8: "Double Long", 4: "Float Int", 2: "Half BFloat16 Short", 1: "Char Byte Bool"}.items()
    for kind in kinds.split()
}
DAMAGED = "is damaged or cut off: download or copy it again"


class Refused(Exception):
    """The pickle is damaged, or would do more than build tensors; the message says which."""


class Forbidden(Refused):
    """The pickle names something that loading weights never needs, and that could execute code."""


@dataclass(frozen=True)
class Storage:
    key: str
    kind: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * STORAGES[self.kind]


@dataclass(frozen=True)
class StridedTensor:
    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Plan:
    """What the pickle builds: its value, with descriptions instead of tensors, and a list of these."""

    value: Any = None
    storages: dict[str, Storage] = field(default_factory=dict)
    tensors: list[StridedTensor] = field(default_factory=list)


def check_tensor(tensor: StridedTensor) -> None:
    """Refuse a tensor that exceeds its storage, or whose elements overlap (expanded to a larger size)."""
    if len(tensor.size) != len(tensor.stride):
        raise Refused(DAMAGED)
    if min((tensor.offset, *tensor.size, *tensor.stride)) < 0:
        raise Refused("has a tensor of negative size: it is damaged or hostile")
    if 0 in tensor.size:
        return
    reach = 0
    for stride, size in sorted(zip(tensor.stride, tensor.size, strict=True)):
        if size > 1:
            if stride <= reach:
                raise Refused("has a tensor with overlapping strides: save it with .contiguous()")
            reach += (size - 1) * stride
    if tensor.offset + reach >= tensor.storage.numel:
        raise Refused("claims more elements for a tensor than it holds: it is damaged or hostile")
