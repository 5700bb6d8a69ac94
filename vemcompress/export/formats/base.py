"""Base class of the export formats: the interface of an opened file, the check against PyTorch, and error messages."""

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
    """A file opened in its runtime. `run` maps an input array to an output array, both in the file's own form. `layout`
    is the memory layout of its images. `shape` is the input's shape, with -1 for a side of any length; None if it is
    not known."""

    run: Run
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    shape: tuple[int, ...] | None = None
    uint8: bool = False

    def prepared(self, x: np.ndarray) -> np.ndarray:
        """Convert N x C x H x W in [-1, 1], or latent vectors, to the file's own input form."""
        if x.ndim == 4 and self.uint8:
            x = np.rint(x * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 and self.layout == "NHWC" else x)

    def images(self, x: np.ndarray) -> np.ndarray:
        """Run the file: from N x C x H x W or latent vectors to N x C x H x W, as floats in [-1, 1]."""
        y = self.run(self.prepared(x))
        y = y.transpose(0, 3, 1, 2) if self.layout == "NHWC" else y
        return y.astype(np.float32) / 127.5 - 1 if self.uint8 else y


@dataclass(frozen=True)
class Checked:
    """The result of comparing a file with PyTorch; fields as in `ExportResult`."""

    max_abs_diff: float | None
    max_level_diff: int | None
    shapes: list[Shape]
    opset: int | None = None
    nodes: int | None = None
    rewrites: dict[str, int] = field(default_factory=dict)


class Format(ABC):
    """An export format. `extra`: the extra in pyproject.toml that installs its `packages`. `suffix`: the ending of its
    files. `rewrites`: the exact rewrites of the ONNX graph that make it faster. `last`: images have channels last.
    `fixes_size`: a file accepts only one image size. `takes_uint8`: input and output may be uint8. `runs_here`: its
    runtime runs on this machine. Without `has_metadata`, a .json file beside the file describes it."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    allowed: ClassVar[Mapping[str, float]] = {"fp32": 1e-4, "fp16": 2e-2}  # difference from PyTorch, in [-1, 1]
    rewrites: ClassVar[tuple[str, ...]] = ()
    last: ClassVar[bool] = False
    takes_uint8: ClassVar[bool] = True
    fixes_size: ClassVar[bool] = True
    is_folder: ClassVar[bool] = False
    has_metadata: ClassVar[bool] = True
    int8_has_float_ends: ClassVar[bool] = False
    runs_here: ClassVar[bool] = True

    def check(self, precision: str, uint8: bool) -> None:
        """Raises UsageError (2) for options that this format does not support, ExportError (7) for a missing
        library."""
        if precision not in self.precisions:
            raise UsageError(
                f"--format {self.name}: has no {precision}; choose {' or '.join(self.precisions)}, or another format."
            )
        if uint8 and not self.takes_uint8:
            raise UsageError(f"--format {self.name}: takes only floats; omit --uint8, or choose another format.")
        if uint8 and precision == "int8" and self.int8_has_float_ends:
            raise UsageError(f"--format {self.name}: an int8 file has float input and output; omit --uint8.")
        for name in self.packages:
            self.module(name)

    def produce(self, job: Job, path: Path) -> Checked:
        """Write `path` and its companion files, and compare it with PyTorch. Raises ExportError (7)."""
        self.convert(job, path)
        return self.compared(job, path)

    def compared(self, job: Job, path: Path) -> Checked:
        """Compare the file with PyTorch on the job's sample. Raises ExportError (7) if the difference is too large."""
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
            shapes = f"{times(seen.shape)} instead of PyTorch's {times(tuple(y.shape))}"
            raise ExportError(f"{path.name}: its output has the shape {shapes}; choose another format.")
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
                "not written; try another format, or allow more with --tolerance."
            )

    def name_ends(self, job: Job, given: str, drawn: str) -> None:
        """Write names, shapes and ranges of the file's input and output to the job's facts."""
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
        """Write `path` and its companion files. Raises ExportError (7)."""

    @abstractmethod
    def open(self, path: Path, threads: int = 1) -> Opened:
        """Open a file of this format in its runtime, on the CPU."""

    def files(self, path: Path) -> list[Path]:
        """All files of an export named `path`; the first one is the file that is opened."""
        return [path] if self.has_metadata else [path, self.described(path)]

    def module(self, name: str | None = None) -> ModuleType:
        """Import a module of the format's packages, by default the first. Raises ExportError (7) if it is missing."""
        name = name or self.packages[0]
        try:
            with quiet():
                return importlib.import_module(name)
        except Exception as error:  # an installed package may lack a system library, or have the wrong version
            package = name.partition(".")[0]
            raise ExportError(
                f"--format {self.name}: the package {package} is not installed, or is incomplete ({cause(error)}); "
                f"pip install 'vemcompress[{self.extra}]'."
            ) from error

    @contextmanager
    def converting(self, path: Path) -> Iterator[None]:
        """Turn errors of a converter or a runtime into an ExportError (7) of one sentence, and drop their output.
        Errors of a full disk or full memory are passed on."""
        try:
            with quiet():
                yield
        except VemError:
            raise
        except Exception as error:  # every converter has dozens of exception types of its own
            if is_exhausted(error) or is_full(path.parent, error):
                raise
            raise ExportError(
                f"{self.title} failed on this network ({cause(error)}); choose another format, or change the layer."
            ) from error

    def described(self, path: Path) -> Path:
        """The path of the .json file that describes a file without metadata."""
        return path.with_name(f"{path.name}.json")

    def facts(self, path: Path) -> dict[str, str]:
        """The metadata in a file, or that of `described`; empty if there is none."""
        try:
            return {str(name): str(said) for name, said in dict(read_json(self.described(path))).items()}
        except (OSError, *MALFORMED):
            return {}

    def shape_told(self, path: Path) -> tuple[int, ...] | None:
        """The input's shape from the .json file, if there is one."""
        found = re.search(r"\b\d+( x \d+)+", self.facts(path).get("input", ""))
        return found and tuple(int(side) for side in found[0].split(" x "))

    def describe(self, job: Job, path: Path) -> None:
        """Write the .json file."""
        self.described(path).write_text(json.dumps(job.facts | {"format": self.name}, indent=1) + "\n")
