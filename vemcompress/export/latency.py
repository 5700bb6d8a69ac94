"""Latency of one image, measured: fewer multiplications are not always less time."""

import os
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vemcompress.data.latents import draw
from vemcompress.data.machine import cores
from vemcompress.errors import UsageError
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.sides import own_sides
from vemcompress.system.events import Event, silent
from vemcompress.weights.graphs.session import open_onnx
from vemcompress.weights.ranges import Ranges

RUNTIMES = ("torch", "onnxruntime")
Size = tuple[int, int]
Runs = Generator[tuple[str, Callable[[], object] | str], None, None]  # by runtime what is measured, or why it is not


def bench(
    model,
    *,
    size: int | tuple[int, int] | None = None,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    rounds: int = 1,
    runtimes: Sequence[str] = RUNTIMES,
    device: str = "cpu",
    budget: float = 30.0,
    teacher_range: str | None = None,
    on_event: Event = silent,
) -> dict:
    """Median and 95th percentile of the time for one image of `size` pixels (a side, or height and width; 256 where it
    is not said). A generator from latent vectors has no size but its own.

    `model` is an nn.Module, an .onnx file, or what `weights.loading.load` takes, with `teacher_range` as its range. A
    PyTorch model is measured in PyTorch and, through a temporary export, in ONNX Runtime; an .onnx file only there.
    `threads` (default: the cores this process may use) holds for both. Each runtime stops after `repeats` runs or
    `budget` seconds, warm-up included, but never before one warm-up and three runs. Of several `rounds` of these the
    one of the lowest median counts, which other programs have disturbed least.

    Returns {"size", "batch", "threads", "device", "runtimes": {name: {"p50_ms", "p95_ms", "runs"}}, "skipped": {name:
    reason}}. Raises UsageError (2), InputError (4), ExportError (7).
    """
    unknown = [name for name in runtimes if name not in RUNTIMES]
    if unknown or not runtimes:
        raise UsageError(f"runtime '{' '.join(unknown)}' is not known; choose from {', '.join(RUNTIMES)}.")
    if min(repeats, rounds, warmup + 1, 1 if threads is None else threads) < 1 or budget <= 0:
        raise UsageError(
            "repeats, rounds and threads must be at least 1, warmup at least 0, and the budget above 0 seconds."
        )
    if size is not None and min(own_sides("", None, size)) < 1:
        raise UsageError(f"size {size}: give a number of pixels of at least 1.")
    threads = threads or cores()
    is_file = isinstance(model, str | os.PathLike) and str(model).lower().endswith(".onnx")
    ranges = None if teacher_range is None else Ranges.parse(teacher_range)
    subject = _opened(model, device, threads, ranges) if is_file else _network(model, device, teacher_range)
    is_latent = subject.kind == "latent"
    if size is None and not is_latent:
        size = subject.fixed_size
    height, width = own_sides(_name(subject), subject.sides if is_latent else None, size)
    runs = (_file_runs if is_file else _network_runs)(subject, (height, width), threads, runtimes, device)
    measured, skipped = {}, {}
    with closing(runs):
        for name, run in runs:
            if isinstance(run, str):
                skipped[name] = run
                continue
            on_event({"event": "bench", "runtime": name})
            found = [_measure(run, warmup, repeats, budget) for _ in range(rounds)]
            measured[name] = min(found, key=lambda one: one["p50_ms"])
    if not measured:
        raise UsageError(f"nothing to measure: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}.")
    result = {"size": [height, width], "batch": 1, "threads": threads, "device": device}
    return result | {"runtimes": measured, "skipped": skipped}


def _opened(path, device: str, threads: int, ranges: Ranges | None = None):
    return open_onnx(path, device=device, threads=threads, photos=False, latents=True, ranges=ranges)


def _network(model, device: str, range: str | None = None):
    import torch  # an .onnx file is measured without it

    from vemcompress.export.torch_model import open_torch, usable_device, wrap

    if isinstance(model, torch.nn.Module):
        return wrap(model, type(model).__name__, usable_device(device), photos=False)
    return open_torch(model, device=device, photos=False, range=range)


def _name(subject) -> str:
    return str(getattr(subject, "path", None) or subject.name)


def _file_runs(subject, size: Size, threads: int, runtimes: Sequence[str], device: str) -> Runs:
    if "torch" in runtimes:
        yield "torch", "an .onnx file holds no PyTorch model"
    if "onnxruntime" in runtimes:
        yield "onnxruntime", _onnx_run(subject, size, device)


def _network_runs(model, size: Size, threads: int, runtimes: Sequence[str], device: str) -> Runs:
    import torch

    from vemcompress.export.exporting import export_onnx
    from vemcompress.system import devices

    x = _input(model, size)
    if "torch" in runtimes:
        with devices.threads(threads), torch.inference_mode():
            yield "torch", lambda: _finish(model.network(x))
    if "onnxruntime" in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model.network, path)
            try:
                run = _onnx_run(_opened(path, device, threads), size, device)
            except UsageError as error:  # a CUDA device, and an ONNX Runtime that was built without
                run = str(error)
            yield "onnxruntime", run


def bench_in_turns(
    models: Mapping[str, Any],
    *,
    size: int | None = None,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    budget: float = 10.0,
    on_event: Event = silent,
) -> dict[str, dict]:
    """Latency of several nn.Modules in PyTorch on the CPU, by name as `bench` gives it of one: each runs once, then
    each once more, so that whatever else the machine does slows all of them alike. `budget`: seconds for each, on
    average; at least three runs of each are made. Raises UsageError (2) and InputError (4).
    """
    import torch

    from vemcompress.system import devices

    wrapped, runs = {name: _network(model, "cpu") for name, model in models.items()}, {}
    for name, model in wrapped.items():
        x = _input(model, own_sides(name, model.sides if model.kind == "latent" else None, size))
        runs[name] = partial(model.network, x)
    times: dict[str, list[float]] = {name: [] for name in runs}
    with devices.threads(threads or cores()), torch.inference_mode():
        start = time.perf_counter()
        for number in range(warmup + repeats):
            if number >= min(warmup, 1) + 3 and time.perf_counter() - start > budget * len(runs):
                break
            for name, run in runs.items():
                times[name].append(_timed(run))
            on_event({"event": "bench", "done": number + 1, "total": warmup + repeats})
    return {name: _percentiles(found[min(warmup, len(found) - 3) :]) for name, found in times.items()}


def _finish(image) -> None:
    """A GPU works on after the call has returned; the time ends with the image."""
    if image.device.type != "cpu":
        import torch

        torch.accelerator.synchronize(image.device)


def _input(model, size: Size):
    """For one run of a PyTorch model, on its device. Raises UsageError for a size that it cannot take, or that is too
    large for the memory."""
    import torch

    if model.kind == "latent":
        return torch.from_numpy(_vector(model)).to(model.device)
    _check_fixed(model, model.name, size)
    _check_size(model, model.name, size)
    on_cpu = model.device.type == "cpu"
    with torch.inference_mode():
        run = partial(_run_square, model)
        MemoryLimit(run, on_cpu=on_cpu, scale=model.scale).check(model.name, *size)
    return torch.zeros(1, model.channels, *size, device=model.device).uniform_(-1, 1)


def _run_square(model, side: int) -> None:
    import torch

    model.network(torch.zeros(1, model.channels, side, side))


def _vector(model) -> np.ndarray:
    return draw(model.prior, model.size, 0, [0])


def _onnx_run(model, size: Size, device: str) -> Callable[[], object]:
    if model.kind == "latent":
        z = model.prepare(_vector(model))
        return lambda: model.run(z)
    path = model.path
    _check_fixed(model, str(path), size)
    if not model.assumed:  # of others no metadata tells what they take; the first run does
        _check_size(model, str(path), size)

    def run_at(side: int) -> None:
        model.run(model.prepare(np.zeros((1, side, side, model.channels), np.uint8)))

    MemoryLimit(run_at, on_cpu=device == "cpu").check(str(path), *size)
    x = model.prepare(np.random.default_rng(0).integers(0, 256, (1, *size, model.channels), dtype=np.uint8))
    return lambda: model.run(x)


def _check_fixed(model, name: str, size: Size) -> None:
    if model.fixed_size not in (None, size):
        raise UsageError(f"{name}: takes images of {model.fixed_size[0]} x {model.fixed_size[1]} only; give that size.")


def _check_size(model, name: str, size: Size) -> None:
    multiple, least = model.multiple, model.min_size
    if any(side % multiple or side < least for side in size):
        raise UsageError(
            f"{name}: takes sides that are multiples of {multiple} and at least {least}, not {size[0]} x {size[1]}."
        )


def _measure(run: Callable[[], object], warmup: int, repeats: int, budget: float) -> dict:
    """Milliseconds; the first runs allocate and choose kernels, so they do not count."""
    start, times = time.perf_counter(), []
    for count in range(max(1, warmup)):
        if count and time.perf_counter() - start > budget / 3:
            break
        run()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - start < budget):
        times.append(_timed(run))
    return _percentiles(times)


def _timed(run: Callable[[], object]) -> float:
    before = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - before)


def _percentiles(times: Sequence[float]) -> dict:
    p50, p95 = np.percentile(times, (50, 95))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "runs": len(times)}
