"""Parts of this process's batch that are worked on one after the other, where memory does not hold all of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from vemcompress.system.distributed.group import ranks


@dataclass(frozen=True)
class Part:
    """The `number` of a part, from 0, of `count` equal ones. Images that belong together, every (batch / `group`)-th
    one, stay together where whole groups can be given to each part."""

    number: int = 0
    count: int = 1
    group: int = 1

    def of(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This part of what was made for the whole batch."""
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
    """While inside, `tensors.mine` gives this part's share of what is made for the global batch."""
    global _now
    before, _now = _now, part
    try:
        yield
    finally:
        _now = before


def current() -> Part:
    return _now


def shares() -> int:
    """So many times what is here makes the global batch: once for each rank, and for each part of its batch."""
    return ranks() * _now.count
