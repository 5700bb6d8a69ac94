"""Latency benchmark: measures the time for one image in PyTorch and in the runtimes of exported files."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vemcompress.data.latents import draw
from vemcompress.data.machine import cores
from vemcompress.errors import ExportError, UsageError
from vemcompress.export.memory import MemoryLimit
from vemcompress.export.sides import both_sides, own_sides
from vemcompress.system.events import Event, silent
from vemcompress.weights.graphs.session import open_onnx
from vemcompress.weights.ranges import Ranges

RUNTIMES = ("torch", "onnxruntime", "openvino", "litert", "ncnn", "executorch")
DEFAULT = ("torch", "onnxruntime")
LEAST = 3  # timed runs
Size = tuple[int, int]


@dataclass
class Timed:
    """One model in one runtime. `run` processes one image. `file` is the opened file, `format` its key in
    `formats.FORMATS`, and `given` the input array."""

    run: Callable[[], object]
    format: str = ""
    file: Path | None = None
    given: np.ndarray | None = None

    def facts(self) -> dict:
        """The file's size on disk in bytes, if there is a file."""
        if self.file is None:
            return {}
        from vemcompress.export.formats import FORMATS

        files = [self.file] if self.format == "onnx" else FORMATS[self.format].files(self.file)
        return {"bytes": sum(path.stat().st_size for path in files if path.exists())}


@dataclass
class Subject:
    """A model in each runtime that can run it, by name, and the reasons why other runtimes were skipped."""

    size: Size
    runs: dict[str, Timed]
    skipped: dict[str, str]

    def check(self) -> None:
        if not self.runs:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
            raise UsageError(f"nothing to measure: {why}.")


def bench(
    model,
    *,
    size: int | tuple[int, int] | None = None,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    rounds: int = 1,
    runtimes: Sequence[str] = DEFAULT,
    device: str = "cpu",
    budget: float = 30.0,
    teacher_range: str | None = None,
    on_event: Event = silent,
) -> dict:
    """Median and 95th percentile of the time for one image of `size` pixels (a side, or height and width; 256 by
    default). A generator from latent vectors has its own size only.

    `model` is an nn.Module, an exported file, or a source that `weights.loading.load` accepts; `teacher_range` is its
    pixel range. A PyTorch model is measured in PyTorch and, through temporary exports, in other `runtimes`. An exported
    file is measured in its own runtime only. All use the same number of `threads` (default: the cores that this process
    may use). Each runtime stops after `repeats` runs or `budget` seconds including warm-up, but not before one warm-up
    and three runs. With several `rounds`, the one with the lowest median counts: other programs disturbed it least.

    Returns {"size", "batch", "threads", "device", "runtimes": {name: {"p50_ms", "p95_ms", "runs", "bytes"}}, "skipped":
    {name: reason}}. Raises UsageError (2), InputError (4), ExportError (7).
    """
    check_bench(size, threads, warmup, repeats, rounds, runtimes, budget)
    threads = threads or cores()
    with ExitStack() as stack:
        subject = prepare(model, size, threads, runtimes, device, teacher_range, stack, on_event)
        subject.check()
        measured = {}
        for name, timed in subject.runs.items():
            on_event({"event": "bench", "runtime": name})
            found = [_measure(timed.run, warmup, repeats, budget) for _ in range(rounds)]
            measured[name] = min(found, key=lambda one: one["p50_ms"]) | timed.facts()
    result = {"size": [*subject.size], "batch": 1, "threads": threads, "device": device}
    return result | {"runtimes": measured, "skipped": subject.skipped}


def check_bench(size, threads, warmup: int, repeats: int, rounds: int, runtimes: Sequence[str], budget: float) -> None:
    """Raises UsageError (2) for options outside their bounds."""
    unknown = [name for name in runtimes if name not in RUNTIMES]
    if unknown or not runtimes:
        raise UsageError(f"runtime '{' '.join(unknown)}' is not known; choose from {', '.join(RUNTIMES)}.")
    if min(repeats, rounds, warmup + 1, 1 if threads is None else threads) < 1 or budget <= 0:
        raise UsageError(
            "repeats, rounds and threads must be at least 1, warmup at least 0, and the budget above 0 seconds."
        )
    if size is not None:
        both_sides(size)


def prepare(
    model,
    size: int | tuple[int, int] | None,
    threads: int,
    runtimes: Sequence[str],
    device: str,
    teacher_range: str | None,
    stack: ExitStack,
    on_event: Event = silent,
) -> Subject:
    """A model, as in `bench`, ready to run in these runtimes. `stack` owns its temporary files."""
    is_path = isinstance(model, str | os.PathLike)
    if is_path and str(model).lower().endswith(".onnx"):
        ranges = None if teacher_range is None else Ranges.parse(teacher_range)
        opened = _opened(model, device, threads, ranges)
        sides = _sides(opened, size)
        if "onnxruntime" not in runtimes:
            return Subject(sides, {}, dict.fromkeys(runtimes, "an .onnx file is run by onnxruntime"))
        run = _onnx_run(opened, sides, device)
        skipped = {"torch": "an .onnx file holds no PyTorch model"} if "torch" in runtimes else {}
        return Subject(sides, {"onnxruntime": run}, skipped)
    if is_path and (form := format_of(model)):
        return _file(Path(model), form, size, threads)
    network = _network(model, device, teacher_range)
    subject = Subject(_sides(network, size), {}, {})
    x = _input(network, subject.size)
    for name in runtimes:
        if name != "torch":
            on_event({"event": "bench", "preparing": name})
        try:
            subject.runs[name] = _ready(name, network, x, subject.size, threads, device, stack)
        except UsageError as error:  # a CUDA device, and an ONNX Runtime that was built without
            subject.skipped[name] = str(error)
        except ExportError as error:
            if name in DEFAULT:
                raise
            subject.skipped[name] = str(error)
    return subject


def _ready(name: str, network, x, size: Size, threads: int, device: str, stack: ExitStack) -> Timed:
    """Get a network ready in one runtime."""
    import torch

    from vemcompress.export.exporting import export
    from vemcompress.export.formats import FORMATS
    from vemcompress.system import devices

    if name == "torch":

        def run() -> None:
            with devices.threads(threads), torch.inference_mode():
                _finish(network.network(x))

        return Timed(run)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if name == "onnxruntime":
        path = export(network.network, folder / "model.onnx")[0].path
        return _onnx_run(_opened(path, device, threads), size, device)
    if device != "cpu":
        raise UsageError(f"{name} is measured only on the CPU; use --device cpu")
    FORMATS[name].check("fp32", False)
    path = export(network.network, folder / "model", formats=[name], size=None if x.ndim == 2 else size)[0].path
    opened = FORMATS[name].open(path, threads)
    given = opened.prepared(x.numpy())
    return Timed(lambda: opened.run(given), name, path, given)


def is_exported(path: str | os.PathLike) -> bool:
    """Whether this is the name of an exported file, and not of a weights file."""
    return str(path).lower().endswith(".onnx") or bool(format_of(path))


def format_of(path: str | os.PathLike) -> str:
    """The format of an exported file other than .onnx; "" for any other file."""
    from vemcompress.export.formats import FORMATS

    name = str(path).lower()
    return next((form.name for form in FORMATS.values() if form.name != "onnx" and name.endswith(form.suffix)), "")


def _file(path: Path, form: str, size: int | tuple[int, int] | None, threads: int) -> Subject:
    """An exported file in its own runtime, with one image (of its fixed size, else of `size`) or one latent vector."""
    from vemcompress.export.formats import FORMATS

    FORMATS[form].check("fp32", False)
    opened = FORMATS[form].open(path, threads)
    if opened.shape is None:
        raise UsageError(f"{path}: {path.name}.json, which states the input's shape, is missing; export it again.")
    shape = [max(1, side) for side in opened.shape]
    if of_images := len(shape) == 4:
        rows, columns = (1, 2) if opened.layout == "NHWC" else (2, 3)
        own = (shape[rows], shape[columns]) if opened.shape[rows] > 0 else None
        shape[rows], shape[columns] = own_sides(str(path), own, size, of_latents=False)
    values = np.random.default_rng(0)
    uint8 = of_images and opened.uint8
    given = values.integers(0, 256, shape, np.uint8) if uint8 else values.uniform(-1, 1, shape).astype(np.float32)
    drawn = opened.run(given)
    sides = (
        (shape[rows], shape[columns]) if of_images else drawn.shape[1:3] if opened.layout == "NHWC" else drawn.shape[2:]
    )
    return Subject(tuple(sides), {form: Timed(lambda: opened.run(given), form, path, given)}, {})


def _sides(subject, size: int | tuple[int, int] | None) -> Size:
    is_latent = subject.kind == "latent"
    if size is None and not is_latent:
        size = subject.fixed_size
    return own_sides(_name(subject), subject.sides if is_latent else None, size)


def _opened(path, device: str, threads: int, ranges: Ranges | None = None):
    return open_onnx(path, device=device, threads=threads, photos=False, latents=True, ranges=ranges)


def _network(model, device: str, range: str | None = None):
    import torch  # an .onnx file is measured without it

    from vemcompress.export.torch_model import open_torch, wrap
    from vemcompress.system import devices

    if isinstance(model, torch.nn.Module):
        return wrap(model, type(model).__name__, devices.choose(device), photos=False)
    return open_torch(model, device=device, photos=False, range=range)


def _name(subject) -> str:
    return str(getattr(subject, "path", None) or subject.name)


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
    """Latency of several nn.Modules in PyTorch on the CPU, by name, in the form of `bench`. The models alternate, so
    that other programs slow all of them alike. `budget`: seconds per model on average; each has at least three runs.
    Raises UsageError (2) and InputError (4).
    """
    import torch

    from vemcompress.system import devices

    wrapped, runs = {name: _network(model, "cpu") for name, model in models.items()}, {}
    for name, model in wrapped.items():
        x = _input(model, own_sides(name, model.sides if model.kind == "latent" else None, size))
        runs[name] = partial(model.network, x)
    with devices.threads(threads or cores()), torch.inference_mode():
        times = in_turns([*runs.values()], warmup=warmup, repeats=repeats, budget=budget, on_event=on_event)
    return {name: percentiles(found) for name, found in zip(runs, times, strict=True)}


def in_turns(
    runs: Sequence[Callable[[], object]],
    *,
    warmup: int,
    repeats: int,
    budget: float,
    at_once: int = 1,
    on_event: Event = silent,
) -> list[list[float]]:
    """Times of all runs in milliseconds, by subject. The subjects alternate, so that other programs slow all of them
    alike: `at_once` timed runs of one, then of the next. With several timed runs at once, an untimed run comes first.

    The measurement stops after `repeats` timed runs of each, or after `budget` seconds per subject including warm-up,
    but not before one warm-up and three timed runs. Warm-up takes at most a third of the budget. It is not counted,
    because the first runs allocate memory and choose kernels. Events: {"event": "bench", "done", "total"} per turn.
    """
    times: list[list[float]] = [[] for _ in runs]
    start, whole = time.perf_counter(), budget * len(runs)
    for number in range(max(1, warmup)):
        if number and time.perf_counter() - start > whole / 3:
            break
        for run in runs:
            run()
    while len(times[0]) < repeats and (len(times[0]) < LEAST or time.perf_counter() - start < whole):
        for run, found in zip(runs, times, strict=True):
            if at_once > 1 and len(runs) > 1:
                run()  # refill the caches, which the previous subject has used
            found += [_timed(run) for _ in range(min(at_once, repeats - len(found)))]
        on_event({"event": "bench", "done": len(times[0]), "total": repeats})
    return times


def _finish(image) -> None:
    """Wait for the image: a GPU is still at work when the call returns."""
    if image.device.type != "cpu":
        import torch

        torch.accelerator.synchronize(image.device)


def _input(model, size: Size):
    """The input for one run of a PyTorch model, on its device. Raises UsageError for a size that the model cannot take,
    and MemoryExhausted for one that does not fit into memory."""
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


def _onnx_run(model, size: Size, device: str) -> Timed:
    if model.kind == "latent":
        z = model.prepare(_vector(model))
        return Timed(lambda: model.run(z), "onnx", model.path, z)
    path = model.path
    _check_fixed(model, str(path), size)
    if not model.assumed:  # without metadata, the first run shows whether the size is possible
        _check_size(model, str(path), size)

    def run_at(side: int) -> None:
        model.run(model.prepare(np.zeros((1, side, side, model.channels), np.uint8)))

    MemoryLimit(run_at, on_cpu=device == "cpu").check(str(path), *size)
    x = model.prepare(np.random.default_rng(0).integers(0, 256, (1, *size, model.channels), dtype=np.uint8))
    return Timed(lambda: model.run(x), "onnx", path, x)


def _check_fixed(model, name: str, size: Size) -> None:
    if model.fixed_size not in (None, size):
        raise UsageError(f"{name}: takes only images of {model.fixed_size[0]} x {model.fixed_size[1]}; give that size.")


def _check_size(model, name: str, size: Size) -> None:
    multiple, least = model.multiple, model.min_size
    if any(side % multiple or side < least for side in size):
        raise UsageError(
            f"{name}: takes sides that are multiples of {multiple} and at least {least}, not {size[0]} x {size[1]}."
        )


def _measure(run: Callable[[], object], warmup: int, repeats: int, budget: float) -> dict:
    return percentiles(in_turns([run], warmup=warmup, repeats=repeats, budget=budget)[0])


def _timed(run: Callable[[], object]) -> float:
    before = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - before)


def percentiles(times: Sequence[float]) -> dict:
    p50, p95 = np.percentile(times, (50, 95))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "runs": len(times)}
