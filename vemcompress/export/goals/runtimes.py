"""Runtimes that measure the time of layers and networks: `RUNTIMES`, by name.

To add one, write a class with its version and a `ready` method, and add it to the list. `whole` calls
`export.latency.bench`, which must know the runtime too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from vemcompress.data.machine import cores
from vemcompress.errors import UsageError
from vemcompress.export.goals.works import Work
from vemcompress.export.latency import bench
from vemcompress.export.openvino import compiled
from vemcompress.system import devices
from vemcompress.system.events import Event, silent

AT_ONCE = 24  # works that are prepared together and run alternately
LEAST_MS, FEWEST, MOST = 20.0, 5, 200  # for each work: least total time, least and most runs
ROUNDS, WHOLE = 5, {"repeats": 10, "warmup": 1, "budget": 2.0}  # for a whole network

Run = Callable[[], object]


class Runtime:
    """Measures times at batch 1 on the CPU. `folds`: kinds of layers that cost nothing, because an export folds them
    into their neighbours."""

    name: ClassVar[str]
    folds: ClassVar[frozenset[str]] = frozenset()

    def version(self) -> str:
        raise NotImplementedError

    def ready(self, work: Work, threads: int) -> Run:
        """A function that runs the work once. The first call may take longer."""
        raise NotImplementedError

    def at_work(self, threads: int):
        """A context manager for all runs."""
        return nullcontext()

    def times(self, works: Sequence[Work], threads: int, told: Callable[[int], None]) -> list[float]:
        """The median time of each work in ms; `told` is called with the number that is done. The works alternate, so
        that other programs slow all of them alike, until each has had 20 ms and 5 runs."""
        found: list[float] = []
        with self.at_work(threads):
            for start in range(0, len(works), AT_ONCE):
                found += _in_turns([self.ready(work, threads) for work in works[start : start + AT_ONCE]])
                told(len(found))
        return found

    def whole(self, network: nn.Module, size: int | None, threads: int, on_event: Event = silent) -> float:
        """The median time of a network for one image in ms; the lowest of several rounds."""
        about = {"size": size, "threads": threads, "runtimes": (self.name,), "rounds": ROUNDS}
        return bench(network, on_event=on_event, **about, **WHOLE)["runtimes"][self.name]["p50_ms"]


class OnnxRuntime(Runtime):
    name = "onnxruntime"
    folds = frozenset({"batch_norm"})

    def version(self) -> str:
        return version("onnxruntime")

    def ready(self, work: Work, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(work.graph(), options, ["CPUExecutionProvider"])
        given = {f"x{i}": x.numpy() for i, x in enumerate(work.tensors())}
        result = session.run(None, given)[0]
        # Inputs and output are bound in place, like those of a layer inside a graph.
        bound = session.io_binding()
        for name, x in given.items():
            bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(x))
        bound.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(result))
        return lambda: session.run_with_iobinding(bound)


class Torch(Runtime):
    name = "torch"

    def version(self) -> str:
        return torch.__version__

    def ready(self, work: Work, threads: int) -> Run:
        tensors = work.tensors()
        work.run(*tensors)
        return lambda: work.run(*tensors)

    @contextmanager
    def at_work(self, threads: int) -> Iterator[None]:
        with ExitStack() as inside:
            inside.enter_context(devices.threads(threads))
            inside.enter_context(torch.inference_mode())
            yield


class OpenVINO(Runtime):
    name = "openvino"
    folds = frozenset({"batch_norm"})

    def version(self) -> str:
        try:
            return version("openvino")
        except PackageNotFoundError:
            raise UsageError("openvino is not installed: pip install 'vemcompress[openvino]'.") from None

    def ready(self, work: Work, threads: int) -> Run:
        request = compiled(work.graph(), threads).create_infer_request()
        request.infer({f"x{i}": x.numpy() for i, x in enumerate(work.tensors())})
        return request.infer  # inputs are bound in place


RUNTIMES: dict[str, Runtime] = {kind.name: kind() for kind in (OnnxRuntime, Torch, OpenVINO)}
DEFAULT = OnnxRuntime.name


def check_runtime(name: str) -> str:
    """Return the name of a runtime. Raises ValueError for an unknown one."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime {name!r:.40} is not known; choose from {', '.join(RUNTIMES)}")
    return name


def check_threads(threads: int | None) -> int:
    """The number of threads, by default all cores. Raises UsageError for more than there are cores."""
    if threads is not None and not 1 <= threads <= cores():
        raise UsageError(f"threads {threads}: this process may use {cores()} cores; give 1 to {cores()}.")
    return threads or cores()


def _in_turns(runs: Sequence[Run]) -> list[float]:
    times: list[list[float]] = [[] for _ in runs]
    for number in range(MOST):
        left = [i for i, found in enumerate(times) if number < FEWEST or sum(found) < LEAST_MS]
        if not left:
            break
        for i in left:
            before = time.perf_counter()
            runs[i]()
            times[i].append(1000 * (time.perf_counter() - before))
    return [float(np.median(found)) for found in times]
