"""Parts of this process's batch that are computed one after the other, to save memory (`train.micro_batch`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from vemcompress.system.distributed.group import ranks


@dataclass(frozen=True)
class Part:
    """Part `number`, from 0, of `count` equal parts of a batch. Images that belong together, every (batch /
    `group`)-th one, stay together if the batch can be divided into whole groups.
    """

    number: int = 0
    count: int = 1
    group: int = 1

    def of(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This part of a tensor for the whole batch."""
        if self.count == 1:
            return whole
        size = whole.shape[dim]
        group = self.group if size % (self.group * self.count) == 0 else 1
        each = size // group // self.count
        parted = whole.unflatten(dim, (group, -1)).narrow(dim + 1, self.number * each, each)
        return parted.flatten(dim, dim + 1)


_now = Part()


@contextmanager
def working_on(part: Part) -> Iterator[None]:
    """Context in which `tensors.mine` gives this part's share of tensors made for the global batch."""
    global _now
    before, _now = _now, part
    try:
        yield
    finally:
        _now = before


def current() -> Part:
    return _now


def shares() -> int:
    """The global batch is this many times the current part: once for each rank, and for each part of its batch."""
    return ranks() * _now.count
