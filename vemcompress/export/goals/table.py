"""Cache of measured layer times in the user's cache folder: one JSON file per runtime, version, number of threads and
machine."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from vemcompress.errors import OutputError
from vemcompress.export.goals.layers import Layer
from vemcompress.export.goals.runtimes import RUNTIMES, check_runtime, check_threads
from vemcompress.export.goals.works import is_empty, work_of
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, cache_folder, make_folder, read_json, write_atomically

FORM = 1  # version of the file; files of another version are not used
LIMIT = 64 << 20


class Table:
    """Layer times in ms at batch 1 on this machine. An unknown time is measured when it is needed, and stored. If the
    file cannot be read or written, `on_event` gets a warning, and the work continues without it.

    `threads`: None for all cores. Raises UsageError for more than there are.
    """

    def __init__(self, runtime: str, threads: int | None = None, on_event: Event = silent):
        self.runtime = RUNTIMES[check_runtime(runtime)]
        self.threads, self.on_event = check_threads(threads), on_event
        self.about: dict[str, Any] = {
            "runtime": self.runtime.name,
            "version": self.runtime.version(),
            "threads": self.threads,
            "machine": devices.name_of(torch.device("cpu")),
        }
        self.times = self._read()

    @property
    def path(self) -> Path:
        """The file in the cache folder. Raises OutputError."""
        identity = hashlib.sha256(json.dumps([FORM, self.about]).encode()).hexdigest()[:12]
        return cache_folder() / "latency" / f"{self.runtime.name}-{self.threads}-{identity}.json"

    def time(self, layers: Iterable[Layer]) -> float:
        """The sum of the layers' times."""
        layers = [layer for layer in layers if layer.kind not in self.runtime.folds and not is_empty(layer)]
        if any(layer not in self.times for layer in layers):
            self.measure(layers)
        return sum(self.times[layer] for layer in layers)

    def measure(self, layers: Iterable[Layer]) -> None:
        """Measure the layers whose time is not known yet."""
        folds = self.runtime.folds
        wanted = [x for x in dict.fromkeys(layers) if x not in self.times and x.kind not in folds and not is_empty(x)]
        if not wanted:
            return

        def told(done: int) -> None:
            more = {"runtime": self.runtime.name, "threads": self.threads, "version": self.about["version"]}
            self.on_event({"event": "timing", "done": done, "total": len(wanted), **more})

        told(0)
        times = self.runtime.times([work_of(layer) for layer in wanted], self.threads, told)
        self.times |= dict(zip(wanted, times, strict=True))
        self._write()

    def take(self, times: Mapping[str, float]) -> None:
        """Use these times, by layer name, instead of those in the file. Raises ValueError for invalid ones."""
        self.times |= _parsed(times)

    def _read(self) -> dict[Layer, float]:
        try:
            found = read_json(self.path, LIMIT)
            if found["about"] != self.about or found["form"] != FORM:
                raise ValueError("is of another machine")
            return _parsed(found["times"])
        except (FileNotFoundError, NotADirectoryError, OutputError):  # without a cache folder, `_write` warns
            return {}
        except (OSError, *MALFORMED) as error:
            message = f"{self.path}: is damaged ({error!s:.80}) and ignored; the layers are measured again."
            self.on_event({"event": "warning", "message": message})
            return {}

    def _write(self) -> None:
        times = {str(layer): ms for layer, ms in self.times.items()}
        try:
            make_folder(self.path.parent)
            write_atomically(self.path, json.dumps({"form": FORM, "about": self.about, "times": times}).encode())
        except OutputError as error:
            message = f"{error}; the next command measures the layers again"
            self.on_event({"event": "warning", "message": message})


def _parsed(times: Mapping[str, Any]) -> dict[Layer, float]:
    return {_layer(name): _time(value) for name, value in times.items()}


def _layer(name: str) -> Layer:
    if not re.fullmatch(r"[a-z_]{1,40} \d{1,9}(,\d{1,9}){0,20}", name):
        raise ValueError(f"{name!r:.40} is not a layer")
    kind, _, sizes = name.partition(" ")
    return Layer(kind, tuple(map(int, sizes.split(","))))


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r:.40} is not a time")
    return float(value)
