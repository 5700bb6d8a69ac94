"""Several runs in one folder, one after the other: skip finished ones, resume started ones, and start the others.

Used for seeds, stages and matrices, which pass their own functions `known` and `make`.
"""

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vemcompress.commands import line
from vemcompress.errors import VemError
from vemcompress.runs.series import Series
from vemcompress.system import distributed
from vemcompress.system.events import Event
from vemcompress.training.pace import Limit


def run_all(
    folder: Series,
    *,
    known: Callable[[Any], Any],
    make: Callable[[Any], Any],
    limit: Limit,
    on_event: Event,
    recipe: str | None = None,
    until: Any = None,
    told: tuple[type[VemError], ...] = (VemError,),
) -> tuple[dict, tuple]:
    """Results by item, and the missing items: those after `until`, and those for which there was no time.

    `known` returns the result of a finished item, or None; `make` runs or resumes an item. `recipe` is stored in the
    folder. Errors of the classes in `told` get the name of the item, and their --resume names the whole folder.
    """
    results, missing = {}, []
    last = len(folder.items) if until is None else folder.items.index(until) + 1
    with distributed.held_by_writer(lambda: folder.started(recipe)):
        for number, item in enumerate(folder.items, 1):
            title = _title(folder, number, item)
            if item in folder.skipped:
                on_event(title(f", skipped: {folder.skipped[item]}"))
                continue
            result = distributed.together(lambda item=item: known(item))
            if result is None and (number > last or limit.over):
                missing.append(item)
                continue
            on_event(title("" if result is None else ", done before"))
            results[item] = _made(folder, item, make, told) if result is None else result
    return results, tuple(missing)


def _title(folder: Series, number: int, item: Any) -> Callable[[str], dict]:
    """A function that makes the event for the start of an item, given the end of its title. `short` is for a progress
    bar."""
    of = f"{number} of {len(folder.items)}"
    title = f"seed {item} ({of})" if folder.kind == "seeds" else f"{folder.one} {of}: {item}"
    short = f"seed {item}" if folder.kind == "seeds" else title
    return lambda more: {"event": "stage", "series": folder.kind, "title": title + more, "short": short}


def _made(folder: Series, item: Any, make: Callable[[Any], Any], told: tuple[type[VemError], ...]) -> Any:
    run = folder.run(item)
    try:
        result = make(item)
    except told as error:
        said = str(error).replace(f"--resume {run.path}", f"--resume {folder.path}")
        said = said.replace(f"teach --resume {folder.path}", f"distill --resume {folder.path}")
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == VemError.__module__)
        named = kind(f"{folder.one} {item}: {said}")
        named.shared = error.shared
        raise named from error
    if not getattr(result, "stopped", None):
        folder.mark_done(item)
    gc.collect()  # reference cycles would keep the networks of this run on the GPU during the next one
    if getattr(result, "losses", None) == {}:  # the run had already finished
        return replace(result, losses=line.last_logged(run)[1])
    return result
