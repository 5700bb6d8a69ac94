"""`bench`: measure latency, file size and peak memory of several models in several runtimes."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vemcompress.commands.line import Reported
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.report import refreshed
from vemcompress.data.machine import cores
from vemcompress.errors import OutputError, UsageError
from vemcompress.export.footprint import peak_memory
from vemcompress.export.latency import DEFAULT, RUNTIMES, check_bench, in_turns, is_exported, percentiles, prepare
from vemcompress.networks.base import Padding
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json
from vemcompress.weights.folder import made
from vemcompress.weights.loading import Reading, opened
from vemcompress.weights.modules import Model

AT_ONCE = 5  # timed runs of one model before the next model's turn, after one run that is not timed


@dataclass(frozen=True)
class BenchResult(Reported):
    """The time for one image (`batch` is 1), with `threads` threads on `device` of this `machine`.

    `models` has for each model {"size": [height, width], "runtimes": {runtime: {"p50_ms", "p95_ms", "runs", "bytes",
    "peak_bytes"}}, "skipped": {runtime: reason}}. `bytes` is the size of the file, and `peak_bytes` the largest memory
    of a process that runs it; a runtime without a file has neither.
    """

    batch: int
    threads: int
    device: str
    machine: str
    models: dict[str, dict[str, Any]]


@shows_progress
def bench_models(
    models: Model | Sequence[Model] | Mapping[str, Model],
    *,
    runtimes: Sequence[str] | str = DEFAULT,
    size: int | tuple[int, int] | None = None,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    budget: float = 30.0,
    memory: bool = True,
    device: str = "cpu",
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: Padding | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> BenchResult:
    """Measure models in several runtimes: the latency of one image, the file size and the peak memory.

        found = vemcompress.bench_models(["netG.pth", "runs/small"], runtimes=["torch", "onnxruntime"])
        print(found.models["runs/small"]["runtimes"]["onnxruntime"]["p50_ms"])

    The models take turns, a few runs each, so that other work on the machine slows all of them equally. A PyTorch
    model is exported for each runtime; an exported file runs in its own. The result is stored in each run folder
    that was given (of a pipeline, in its last finished stage), and shown in its report.

    Arguments:
        models: one or more models: run folders, weight files, "hf://...", exported files or nn.Modules. A dict
            gives their names; otherwise, a path is its own name, and a module has the name of its class.
        runtimes: "torch", "onnxruntime", "openvino", "litert", "ncnn", "executorch"; "all" for every one. A
            runtime whose library is not installed is skipped.
        size: side of the image, or (height, width), in pixels; by default 256, or the model's fixed size.
        threads: number of threads; all cores by default.
        warmup: number of runs before the timed ones.
        repeats: maximum number of timed runs per model and runtime.
        budget: seconds after which the measurement of a model stops, but not before five timed runs.
        memory: also measure the peak memory of each file, in a process of its own.
        device: "cpu", "auto", "cuda", "cuda:N" or "mps"; devices other than the CPU apply only to PyTorch and
            ONNX Runtime.
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read weights, as for
            `load_generator`; for all models.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        BenchResult: `models`, by name, with `runtimes` (for each "p50_ms", "p95_ms", "runs", "bytes",
        "peak_bytes") and `skipped` (runtimes with the reason); `threads`, `device`, `machine`.

    Raises:
        UsageError if no runtime fits; InputError, RecipeError, ExportError, NetworkError, MemoryExhausted.
    """
    if isinstance(runtimes, str):
        runtimes = RUNTIMES if runtimes == "all" else (runtimes,)
    runtimes = tuple(dict.fromkeys(runtimes))
    check_bench(size, threads, warmup, repeats, 1, runtimes, budget)
    threads, device, given = threads or cores(), str(devices.choose(device)), _by_name(models)
    how: Reading = {"teacher_class": teacher_class, "teacher_key": teacher_key, "teacher_padding": teacher_padding}
    how |= {"teacher_range": teacher_range, "widths": widths}
    networks = {
        name: model if _is_exported(model) else opened(model, on_event, **how).generator
        for name, model in given.items()
    }
    with ExitStack() as stack:
        subjects = {
            name: prepare(network, size, threads, runtimes, device, teacher_range, stack, on_event)
            for name, network in networks.items()
        }
        for subject in subjects.values():
            subject.check()
        timed = [(name, runtime, one) for name, found in subjects.items() for runtime, one in found.runs.items()]
        runs, times = [one.run for *_, one in timed], {"warmup": warmup, "repeats": repeats, "budget": budget}
        measured = in_turns(runs, at_once=AT_ONCE, on_event=on_event, **times)
        rows: dict[str, dict] = {name: {} for name in given}
        for (name, runtime, one), found in zip(timed, measured, strict=True):
            rows[name][runtime] = percentiles(found) | one.facts()
            if memory and one.file is not None:
                rows[name][runtime]["peak_bytes"] = peak_memory(one.format, one.file, one.given, threads)
    found = {
        name: {"size": [*subject.size], "runtimes": rows[name], "skipped": subject.skipped}
        for name, subject in subjects.items()
    }
    result = BenchResult(1, threads, device, devices.name_of(torch.device("cpu")), found)
    if widths is None:  # otherwise it is a sub-network of the run's
        _keep(result, given, on_event)
    return result


def _is_exported(model: Model) -> bool:
    return isinstance(model, str | os.PathLike) and is_exported(model)


def _by_name(models: Model | Sequence[Model] | Mapping[str, Model]) -> dict[str, Model]:
    """The models by name. A second module of one name gets a number, and a path that is given twice counts once. Raises
    UsageError if there is none."""
    if isinstance(models, Mapping):
        found = dict(models)
    else:
        found, several = {}, isinstance(models, Sequence) and not isinstance(models, str | bytes)
        for model in models if several else [models]:
            if isinstance(model, os.PathLike):
                model = os.fspath(model)
            name = plain = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
            number = 1
            while name in found and not (name == model == found[name]):
                name = f"{plain} {(number := number + 1)}"
            found[name] = model
    if not found:
        raise UsageError("no models: give at least one file, run folder or nn.Module.")
    return found


def _keep(result: BenchResult, models: Mapping[str, Model], on_event: Event) -> None:
    """Store the result in the latency.json of each of `models` that is a run folder, and update its report. Other
    networks that were measured in the same way are kept there. If it cannot be written, there is a warning, not an
    error."""
    for name, model in models.items():
        if not isinstance(model, str | os.PathLike):
            continue
        if is_series(model, "stages"):
            model = Series.read(model, "stages").last_done().path
        run, told = RunFolder(model), made(Path(model))
        if told is None or not run.recipe.is_file():
            continue
        row = result.models[name]
        try:
            run.write_json(run.latency, result.as_dict() | {"models": _measured(run, result, row) | {told.gives: row}})
        except OutputError as error:
            on_event({"event": "warning", "message": f"the latency is not stored in the run folder: {error}"})
        else:
            refreshed(run.path, on_event)


def _measured(run: RunFolder, result: BenchResult, row: dict[str, Any]) -> dict[str, Any]:
    """The networks in a run's latency.json that were measured under the same conditions as `row` of `result`."""
    try:
        before = read_json(run.latency)
        alike = all(before[key] == value for key, value in result.as_dict().items() if key != "models")
        return {name: one for name, one in before["models"].items() if alike and one["size"] == row["size"]}
    except (OSError, *MALFORMED):
        return {}
