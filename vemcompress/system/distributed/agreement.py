"""Agreement of all ranks on small values: results, errors, whether to stop. Exchanged over the CPU."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from vemcompress import errors
from vemcompress.errors import VemError
from vemcompress.system.distributed.group import is_writer, ranks, watched
from vemcompress.system.events import Event, silent

Result = TypeVar("Result")


def collected(value: Any) -> list:
    """Every rank's value, in the order of the ranks."""
    if ranks() == 1:
        return [value]
    values = [None] * ranks()
    with watched():
        dist.all_gather_object(values, value)
    return values


def largest(number: int) -> int:
    """The largest of the ranks' numbers."""
    if ranks() == 1:
        return number
    found = torch.tensor(int(number))
    with watched():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def together(action: Callable[[], Result]) -> Result:
    """Each rank's own result of `action`, which must not call this package. If it fails on one rank, all raise that
    error.

    Of several errors, all raise that of the lowest rank. The error is `shared`, so it is printed once.
    """
    if ranks() == 1:
        return action()
    result, error = None, None
    try:
        result = action()
    except VemError as own:
        error = own
    if not largest(error is not None):
        return result
    name, message = next(found for found in collected(error and _plain(error)) if found is not None)
    shared = getattr(errors, name)(message)
    shared.shared = True
    raise shared from error


@contextmanager
def alike() -> Iterator[None]:
    """Context whose body fails on all ranks or on none, so that its error is printed once."""
    try:
        yield
    except VemError as error:
        error.shared = ranks() > 1
        raise


def by_writer(action: Callable[[], Result]) -> Result | None:
    """Run `action` on the writer, once all ranks have arrived. They wait for it, raise its error too, and get None."""
    collected(None)
    return together(lambda: action() if is_writer() else None)


def from_writer(action: Callable[[], Result]) -> Result:
    """As `by_writer`, with the result for all ranks."""
    result = by_writer(action)
    return collected(result)[0]


def writer_first(action: Callable[[], Result]) -> Result:
    """Each rank's own result of `action`. The writer runs it first, so that its downloads exist when the others run
    it.
    """
    result = by_writer(action)
    return together(lambda: result if is_writer() else action()) if ranks() > 1 else result


@contextmanager
def held_by_writer(enter: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """A context that only the writer enters, while all ranks are inside. If it cannot be entered, no rank enters."""
    with ExitStack() as held:
        by_writer(lambda: held.enter_context(enter()))
        yield


def told_by_writer(on_event: Event) -> Event:
    """The event handler of the writer; other ranks' events are ignored."""
    return on_event if is_writer() else silent


def _plain(error: VemError) -> tuple[str, str]:
    """An error's class in `errors`, and its message: subclasses may not be constructible from a message alone."""
    known = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return known.__name__, str(error)
