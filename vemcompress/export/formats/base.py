"""What every format shares: the job that it converts, the face of an opened file, and the sentences of its failures."""

import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vemcompress.errors import ExportError, UsageError, VemError
from vemcompress.export.contracts import Contract, ImageContract, Shape
from vemcompress.export.deploy import cause
from vemcompress.export.floats import FloatGraph
from vemcompress.export.lowering import PLAIN, Rule, lowered
from vemcompress.export.precision import Quantised
from vemcompress.export.quiet import quiet
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, is_full, read_json
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.opened import times

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Run = Callable[[np.ndarray], np.ndarray]


@dataclass
class Job:
    """A deployment copy on its way into files. `size` is (H, W) of the images that formats of one size take; `graph`
    gives the checked float ONNX graph after rewrites of some names; `facts` are for the file's metadata; `photos` are
    inputs to calibrate int8 with, float32 1 x C x H x W in [-1, 1], or latent vectors, 1 x size.

    `notes` are what a person should know of the file, `quantised` what was found where `precision` is int8.
    """

    network: nn.Module
    contract: Contract
    size: tuple[int, int]
    graph: FloatGraph
    precision: Precision
    least_ssim: float
    facts: dict[str, str]
    uint8: bool = False
    rewrites: bool = True
    tolerance: float | None = None
    photos: Sequence[np.ndarray] = ()
    tell: Callable[[Shape], None] = lambda shape: None
    on_event: Event = silent
    notes: list[str] = field(default_factory=list)
    quantised: Quantised | None = None

    def for_one_file(self) -> "Job":
        """A job whose facts and findings are of one file."""
        return replace(self, facts=dict(self.facts), notes=[], quantised=None)

    @property
    def sample(self) -> Tensor:
        """An input: uniform noise 1 x C x H x W, or one latent vector."""
        shape = (1, self.contract.in_channels, *self.size) if self.of_images else (1, self.contract.size)
        return self.contract.noise(shape, torch.Generator().manual_seed(0))

    @property
    def of_images(self) -> bool:
        return isinstance(self.contract, ImageContract)

    def lowered(self, rules: Mapping[object, Rule], last: bool = False) -> tuple[torch.export.ExportedProgram, Tensor]:
        """The network by `lowering.PLAIN` and these rules, and an input of it. `last`: channels last at both ends. With
        `uint8` both ends are bytes, channels last."""
        module, sample = self.network, self.sample
        if self.uint8:
            module = Levels(module, self.of_images)
            sample = _permuted(to_levels(sample), 0, 2, 3, 1) if self.of_images else sample
        elif last:
            module = ChannelsLast(module, self.of_images)
            sample = _permuted(sample, 0, 2, 3, 1) if self.of_images else sample
        return lowered(module.eval(), sample, PLAIN | dict(rules)), sample


class Levels(nn.Module):
    """uint8 N x H x W x C, or latent vectors, to uint8 N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        y = self.network(_permuted(x, 0, 3, 1, 2).float() / 127.5 - 1 if self.of_images else x)
        return to_levels(y).permute(0, 2, 3, 1)


def _permuted(x: Tensor, *order: int) -> Tensor:
    """In memory too, and where a side is 1, or ExecuTorch refuses it."""
    return x.permute(order).clone(memory_format=torch.contiguous_format)


class ChannelsLast(nn.Module):
    """A network of N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.permute(0, 3, 1, 2) if self.of_images else x).permute(0, 2, 3, 1)


def to_levels(images: Tensor) -> Tensor:
    """Floats in [-1, 1] as bytes."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


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
    `runs_here` has a runtime for this machine."""

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
    runs_here: ClassVar[bool] = True

    def check(self, precision: str, uint8: bool) -> None:
        """Raises UsageError (2) for what this format has not, and ExportError (7) for a library that is not there."""
        if precision not in self.precisions:
            raise UsageError(
                f"--format {self.name}: has no {precision}; choose {' or '.join(self.precisions)}, or another format."
            )
        if uint8 and not self.takes_uint8:
            raise UsageError(f"--format {self.name}: takes floats alone; omit --uint8, or choose another format.")
        for name in self.packages:
            self.library(name)

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
        return [path]

    def library(self, name: str | None = None) -> ModuleType:
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

    def shape_told(self, path: Path) -> tuple[int, ...] | None:
        """The input's shape as `described` has it, if it is there."""
        try:
            told = str(read_json(self.described(path))["input"])
        except (OSError, *MALFORMED):
            return None
        found = re.search(r"\b\d+( x \d+)+", told)
        return found and tuple(int(side) for side in found[0].split(" x "))

    def describe(self, job: Job, path: Path) -> None:
        """Write `described`."""
        self.described(path).write_text(json.dumps(job.facts | {"format": self.name}, indent=1) + "\n")
