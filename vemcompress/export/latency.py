"""Latency of one image, measured: fewer multiplications are not always less time."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vemcompress.errors import UsageError
from vemcompress.export.session import open_onnx

RUNTIMES = ("torch", "onnxruntime")


def bench(
    model,
    *,
    size: int | tuple[int, int] = 256,
    threads: int | None = None,
    warmup: int = 3,
    repeats: int = 50,
    runtimes: Sequence[str] = RUNTIMES,
    device: str = "cpu",
    budget: float = 30.0,
    on_event: Callable[[dict], None] | None = None,
) -> dict:
    """Median and 95th percentile of the time for one image of `size` pixels (a side, or height and width).

    `model` is an nn.Module, an .onnx file, or what `weights.loading.load` takes. A PyTorch model is measured in
    PyTorch and, through a temporary export, in ONNX Runtime; an .onnx file only there. `threads` (default: the cores
    this process may use) holds for both. Each runtime stops after `repeats` runs or `budget` seconds, warm-up
    included, but never before one warm-up and three runs.

    Returns {"size", "batch", "threads", "device", "runtimes": {name: {"p50_ms", "p95_ms", "runs"}}, "skipped": {name:
    reason}}. Raises UsageError (2), InputError (4), ExportError (7).
    """
    unknown = [name for name in runtimes if name not in RUNTIMES]
    if unknown or not runtimes:
        raise UsageError(f"runtime '{' '.join(unknown)}' is not known; choose from {', '.join(RUNTIMES)}.")
    if min(repeats, warmup + 1, 1 if threads is None else threads) < 1 or budget <= 0:
        raise UsageError("repeats and threads must be at least 1, warmup at least 0, and the budget above 0 seconds.")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UsageError(f"size {height} x {width}: give a number of pixels of at least 1.")
    threads, tell = threads or _cores(), on_event or (lambda event: None)
    measured, skipped = {}, {}

    def measure(name: str, run: Callable[[], object]) -> None:
        tell({"event": "bench", "runtime": name})
        measured[name] = _measure(run, warmup, repeats, budget)

    if isinstance(model, str | os.PathLike) and str(model).lower().endswith(".onnx"):
        if "torch" in runtimes:
            skipped["torch"] = "an .onnx file holds no PyTorch model"
        if "onnxruntime" in runtimes:
            measure("onnxruntime", _onnx_run(Path(model), height, width, threads, device))
    else:
        _bench_torch(model, height, width, threads, runtimes, device, measure, skipped)
    if not measured:
        raise UsageError(f"nothing to measure: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}.")
    result = {"size": [height, width], "batch": 1, "threads": threads, "device": device}
    return result | {"runtimes": measured, "skipped": skipped}


def _bench_torch(model, height, width, threads, runtimes, device, measure, skipped) -> None:
    import torch  # an .onnx file is measured without it

    from vemcompress.export.onnx import export_onnx
    from vemcompress.export.torch_model import open_torch, usable_device, wrap

    name = type(model).__name__ if isinstance(model, torch.nn.Module) else str(model)
    if isinstance(model, torch.nn.Module):
        model = wrap(model, name, usable_device(device), photos=False)
    else:
        model = open_torch(model, device=device, photos=False)
    _fits(name, height, width, model.multiple, model.min_size)
    if "torch" in runtimes:
        before = torch.get_num_threads()
        x = torch.zeros(1, model.channels, height, width, device=model.device).uniform_(-1, 1)
        try:
            torch.set_num_threads(threads)
            with torch.inference_mode():
                measure("torch", lambda: _finish(model.network(x)))
        finally:
            torch.set_num_threads(before)
    if "onnxruntime" in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model.network, path)
            try:
                run = _onnx_run(path, height, width, threads, device)
            except UsageError as error:  # a CUDA device, and an ONNX Runtime that was built without
                skipped["onnxruntime"] = str(error)
            else:
                measure("onnxruntime", run)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(image) -> None:
    """A GPU works on after the call has returned; the time ends with the image."""
    if image.device.type != "cpu":
        import torch

        torch.accelerator.synchronize(image.device)


def _onnx_run(path: Path, height: int, width: int, threads: int, device: str) -> Callable[[], object]:
    model = open_onnx(path, device=device, threads=threads, photos=False)
    if model.fixed_size not in (None, (height, width)):
        raise UsageError(f"{path}: takes images of {model.fixed_size[0]} x {model.fixed_size[1]} only; give that size.")
    if not model.assumed:  # of others no metadata tells what they take; the first run does
        _fits(str(path), height, width, model.multiple, model.min_size)
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, model.channels), dtype=np.uint8)
    x = model.prepare(image)
    return lambda: model.run(x)


def _fits(name: str, height: int, width: int, multiple: int, least: int) -> None:
    if height % multiple or width % multiple or min(height, width) < least:
        raise UsageError(
            f"{name}: takes sides that are multiples of {multiple} and at least {least}, not {height} x {width}."
        )


def _measure(run: Callable[[], object], warmup: int, repeats: int, budget: float) -> dict:
    """Milliseconds; the first runs allocate and choose kernels, so they do not count."""
    start, times = time.perf_counter(), []
    for count in range(max(1, warmup)):
        if count and time.perf_counter() - start > budget / 3:
            break
        run()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - start < budget):
        before = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - before))
    p50, p95 = np.percentile(times, (50, 95))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "runs": len(times)}
