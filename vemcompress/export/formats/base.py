"""What every format shares: the face of an opened file, how a file is checked, and the sentences of its failures."""

import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import numpy as np
import torch

from vemcompress.errors import ExportError, UsageError, VemError
from vemcompress.export.contracts import Shape
from vemcompress.export.deploy import cause
from vemcompress.export.formats.job import Job, Precision, to_levels
from vemcompress.export.precision import Run
from vemcompress.export.quiet import quiet
from vemcompress.system.files import MALFORMED, is_full, read_json
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.opened import times


@dataclass
class Opened:
    """A file in its runtime. `run` takes and gives arrays as the file has them; `layout` is how its images lie, `shape`
    that of its input, with -1 for a side that may have any length; None where nothing tells it."""

    run: Run
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    shape: tuple[int, ...] | None = None
    uint8: bool = False

    def prepared(self, x: np.ndarray) -> np.ndarray:
        """The file's own input for N x C x H x W in [-1, 1], or latent vectors."""
        if x.ndim == 4 and self.uint8:
            x = np.rint(x * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 and self.layout == "NHWC" else x)

    def images(self, x: np.ndarray) -> np.ndarray:
        """N x C x H x W, or latent vectors, to N x C x H x W, both as floats in [-1, 1], whatever the file has."""
        y = self.run(self.prepared(x))
        y = y.transpose(0, 3, 1, 2) if self.layout == "NHWC" else y
        return y.astype(np.float32) / 127.5 - 1 if self.uint8 else y


@dataclass(frozen=True)
class Checked:
    """How a file was compared, as `ExportResult` has it."""

    max_abs_diff: float | None
    max_level_diff: int | None
    shapes: list[Shape]
    opset: int | None = None
    nodes: int | None = None
    rewrites: dict[str, int] = field(default_factory=dict)


class Format(ABC):
    """A format. `extra` is that of pyproject.toml that installs its `packages`; `suffix` its files' ending; `rewrites`
    the exact rewrites of an ONNX graph that it gains by; `last` whether its images have channels last. One that
    `fixes_size` takes images of one size alone; one that `takes_uint8` may have bytes at both ends; one that
    `runs_here` has a runtime for this machine; one that is not `has_metadata` is described by a .json beside it."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    allowed: ClassVar[Mapping[str, float]] = {"fp32": 1e-4, "fp16": 2e-2}  # from PyTorch, of images in [-1, 1]
    rewrites: ClassVar[tuple[str, ...]] = ()
    last: ClassVar[bool] = False
    takes_uint8: ClassVar[bool] = True
    fixes_size: ClassVar[bool] = True
    is_folder: ClassVar[bool] = False
    has_metadata: ClassVar[bool] = True
    int8_has_float_ends: ClassVar[bool] = False
    runs_here: ClassVar[bool] = True

    def check(self, precision: str, uint8: bool) -> None:
        """Raises UsageError (2) for what this format has not, and ExportError (7) for a library that is not there."""
        if precision not in self.precisions:
            raise UsageError(
                f"--format {self.name}: has no {precision}; choose {' or '.join(self.precisions)}, or another format."
            )
        if uint8 and not self.takes_uint8:
            raise UsageError(f"--format {self.name}: takes floats alone; omit --uint8, or choose another format.")
        if uint8 and precision == "int8" and self.int8_has_float_ends:
            raise UsageError(f"--format {self.name}: int8 has float ends; omit --uint8.")
        for name in self.packages:
            self.module(name)

    def produce(self, job: Job, path: Path) -> Checked:
        """Write `path` and what belongs to it, and compare it with PyTorch. Raises ExportError (7)."""
        self.convert(job, path)
        return self.compared(job, path)

    def compared(self, job: Job, path: Path) -> Checked:
        """How the file differs from PyTorch on the job's sample. Raises ExportError (7) where that is too much."""
        x = job.sample
        job.tell(tuple(x.shape))
        with torch.inference_mode():
            y = job.network(to_levels(x).float() / 127.5 - 1 if job.uint8 and job.of_images else x)
            largest = max(1.0, float(y.abs().max()))
            y = to_levels(y).float() / 127.5 - 1 if job.uint8 else y
        opened = self.open(path)
        with self.converting(path):
            seen = opened.images(x.numpy())
        if seen.shape != tuple(y.shape):
            raise ExportError(f"{path.name}: gives {times(seen.shape)} where PyTorch gives {times(tuple(y.shape))}.")
        difference = float(np.abs(seen.astype(np.float64) - y.numpy()).max())
        if job.precision != "int8":
            self._check_difference(job, difference, largest)
        levels = round(difference * 127.5) if job.uint8 else None
        return Checked(None if job.precision == "int8" else difference, levels, [tuple(x.shape)])

    def _check_difference(self, job: Job, difference: float, largest: float) -> None:
        allowed = self.allowed[job.precision] if job.tolerance is None else job.tolerance
        allowed = allowed * largest + (1 / 127.5 if job.uint8 else 0)
        if not difference <= allowed:  # NaN fails too
            raise ExportError(
                f"the {self.title} file differs from PyTorch by {difference:.3g} (allowed: {allowed:.3g}), so it was "
                "not written; --tolerance allows more, and other formats may do better."
            )

    def name_ends(self, job: Job, given: str, drawn: str) -> None:
        """Tell what the file's input and output are called, and their shapes, in the job's facts."""
        last, contract = self.last or job.uint8, job.contract
        kind, values = ("uint8", "0..255") if job.uint8 else ("float32", "-1..1")

        def images(channels: int, scale: int, values: str) -> str:
            sides = f"{scale * job.size[0]} x {scale * job.size[1]}"
            return f"{kind} 1 x {f'{sides} x {channels}' if last else f'{channels} x {sides}'}, {values}"

        if job.of_images:
            takes = images(contract.in_channels, 1, values if job.uint8 else contract.values)
            gives = images(contract.out_channels, contract.scale, values)
        else:
            takes = f"float32 1 x {contract.size}, {contract.values}"
            gives = images(contract.out_channels, 1, values)
        job.facts |= {"input": f"{given}: {takes}", "output": f"{drawn}: {gives}", "layout": "NHWC" if last else "NCHW"}
        job.facts |= {"input_name": given, "output_name": drawn, "size": f"{job.size[0]}x{job.size[1]}"}

    @abstractmethod
    def convert(self, job: Job, path: Path) -> None:
        """Write `path` and what belongs to it. Raises ExportError (7)."""

    @abstractmethod
    def open(self, path: Path, threads: int = 1) -> Opened:
        """A file of this format in its runtime, on the CPU."""

    def files(self, path: Path) -> list[Path]:
        """All files that one named `path` has; the first is opened by its name."""
        return [path] if self.has_metadata else [path, self.described(path)]

    def module(self, name: str | None = None) -> ModuleType:
        """A module of the format's packages, the first by default. Raises ExportError (7) where it is not installed."""
        name = name or self.packages[0]
        try:
            with quiet():
                return importlib.import_module(name)
        except Exception as error:  # of one that is there, a library of the system may be absent, or another version
            package = name.partition(".")[0]
            raise ExportError(
                f"--format {self.name}: the package {package} is not installed, or not whole ({cause(error)}); "
                f"pip install 'vemcompress[{self.extra}]'."
            ) from error

    @contextmanager
    def converting(self, path: Path) -> Iterator[None]:
        """Whatever a converter or a runtime raises becomes an ExportError (7) of one sentence, but on a full disk; what
        it prints is dropped."""
        try:
            with quiet():
                yield
        except VemError:
            raise
        except Exception as error:  # every converter has dozens of exception types of its own
            if is_exhausted(error) or is_full(path.parent, error):
                raise
            raise ExportError(
                f"{self.title} cannot take this network ({cause(error)}); choose another format, or change the layer."
            ) from error

    def described(self, path: Path) -> Path:
        """Beside a file that holds no metadata: the .json that describes it."""
        return path.with_name(f"{path.name}.json")

    def facts(self, path: Path) -> dict[str, str]:
        """What a file says of itself, or what `described` says of it; nothing where none does."""
        try:
            return {str(name): str(said) for name, said in dict(read_json(self.described(path))).items()}
        except (OSError, *MALFORMED):
            return {}

    def shape_told(self, path: Path) -> tuple[int, ...] | None:
        """The input's shape as `described` has it, if it is there."""
        found = re.search(r"\b\d+( x \d+)+", self.facts(path).get("input", ""))
        return found and tuple(int(side) for side in found[0].split(" x "))

    def describe(self, job: Job, path: Path) -> None:
        """Write `described`."""
        self.described(path).write_text(json.dumps(job.facts | {"format": self.name}, indent=1) + "\n")
