"""`bench`: measure latency, file size and peak memory of several models in several runtimes."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vemcompress.commands.report import refreshed
from vemcompress.data.machine import cores
from vemcompress.errors import OutputError
from vemcompress.export.footprint import peak_memory
from vemcompress.export.latency import DEFAULT, RUNTIMES, check_bench, in_turns, percentiles, prepare
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.weights.folder import made

AT_ONCE = 5  # timed runs of one model before the next model's turn, after one run that is not timed


def bench(
    models: Mapping[str, nn.Module | str | os.PathLike],
    *,
    runtimes: Sequence[str] | str = DEFAULT,
    size: int | None = None,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    budget: float = 30.0,
    memory: bool = True,
    device: str = "cpu",
    teacher_range: str | None = None,
    on_event: Event = silent,
) -> dict[str, Any]:
    """Measure the time for one image, for each of `models` (by name) in each of `runtimes` ("all": every one). For a
    single model, `export.latency.bench` does the same.

    The models take turns, a few runs each, so that other work on the machine slows all of them equally. Each stops
    after `repeats` timed runs. All stop once `budget` seconds per model have passed, but not before five timed runs.
    `memory` also measures the peak memory of each file, in a separate process.

    Returns {"batch", "threads", "device", "machine", "models": {name: {"size", "runtimes": {runtime: {"p50_ms",
    "p95_ms", "runs", "bytes", "peak_bytes"}}, "skipped": {runtime: reason}}}}. Raises UsageError (2), InputError (4)
    and ExportError (7).
    """
    runtimes = RUNTIMES if runtimes == "all" else tuple(dict.fromkeys(runtimes))
    check_bench(size, threads, warmup, repeats, 1, runtimes, budget)
    threads, device = threads or cores(), str(devices.choose(device))
    with ExitStack() as stack:
        subjects = {
            name: prepare(model, size, threads, runtimes, device, teacher_range, stack, on_event)
            for name, model in models.items()
        }
        for subject in subjects.values():
            subject.check()
        timed = [(name, runtime, one) for name, found in subjects.items() for runtime, one in found.runs.items()]
        runs, how = [one.run for *_, one in timed], {"warmup": warmup, "repeats": repeats, "budget": budget}
        times = in_turns(runs, at_once=AT_ONCE, on_event=on_event, **how)
        rows: dict[str, dict] = {name: {} for name in models}
        for (name, runtime, one), found in zip(timed, times, strict=True):
            rows[name][runtime] = percentiles(found) | one.facts()
            if memory and one.file is not None:
                rows[name][runtime]["peak_bytes"] = peak_memory(one.format, one.file, one.given, threads)
    found = {
        name: {"size": [*subject.size], "runtimes": rows[name], "skipped": subject.skipped}
        for name, subject in subjects.items()
    }
    about = {"batch": 1, "threads": threads, "device": device, "machine": devices.name_of(torch.device("cpu"))}
    return about | {"models": found}


def keep(result: dict[str, Any], models: Iterable[str], on_event: Event) -> None:
    """Store the result of `bench` in the latency.json of each of `models` that is a run folder, and update its report.
    If it cannot be written, there is a warning, not an error."""
    for model in models:
        told = made(Path(model))
        if told is None:
            continue
        run = RunFolder(model)
        try:
            run.write_json(run.latency, result | {"models": {told.gives: result["models"][model]}})
        except OutputError as error:
            on_event({"event": "warning", "message": f"the latency is not stored in the run folder: {error}"})
        else:
            refreshed(run.path, on_event)
