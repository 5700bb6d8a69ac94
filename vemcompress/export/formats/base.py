"""What every format shares: the job that it converts, the face of an opened file, and the sentences of its failures."""

import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from vemcompress.errors import ExportError, VemError
from vemcompress.export.contracts import Contract, ImageContract
from vemcompress.export.deploy import cause
from vemcompress.export.lowering import PLAIN, Rule, lowered
from vemcompress.export.precision import Quantised
from vemcompress.export.uint8 import uint8_reference
from vemcompress.system.events import Event, silent
from vemcompress.system.memory import is_exhausted

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
Run = Callable[[np.ndarray], np.ndarray]


@dataclass
class Job:
    """A deployment copy on its way into files. `size` is (H, W) of the images that formats of one size take; `photos`
    are inputs to calibrate int8 with, float32 1 x C x H x W in [-1, 1], or latent vectors, 1 x size; `graph` gives the
    checked float ONNX graph after the rewrites of these names. `facts` are for the file's metadata."""

    network: nn.Module
    contract: Contract
    size: tuple[int, int]
    graph: Callable[[Sequence[str]], onnx.ModelProto]
    precision: Precision = "fp32"
    uint8: bool = False
    photos: Sequence[np.ndarray] = ()
    least_ssim: float = 0.98
    facts: dict[str, str] = field(default_factory=dict)
    on_event: Event = silent
    notes: list[str] = field(default_factory=list)  # what a person should know of the file
    quantised: Quantised | None = None  # what was found, where precision is int8

    @cached_property
    def sample(self) -> Tensor:
        """An input: uniform noise 1 x C x H x W, or one latent vector."""
        shape = (1, self.contract.in_channels, *self.size) if self.of_images else (1, self.contract.size)
        return self.contract.noise(shape, torch.Generator().manual_seed(0))

    @property
    def of_images(self) -> bool:
        return isinstance(self.contract, ImageContract)

    def lowered(self, rules: Mapping[object, Rule], *, last: bool = False) -> tuple[torch.export.ExportedProgram, Tensor]:
        """The network by `lowering.PLAIN` and these rules, and an input of it. `last`: channels last at both ends. With
        `uint8` both ends are bytes, channels last."""
        module, sample = self.network, self.sample
        if self.uint8:
            module = Levels(module, self.of_images)
            sample = as_levels(sample) if self.of_images else sample
        elif last:
            module = ChannelsLast(module, self.of_images)
            sample = sample.permute(0, 2, 3, 1).contiguous() if self.of_images else sample
        return lowered(module.eval(), sample, PLAIN | dict(rules)), sample


class Levels(nn.Module):
    """uint8 N x H x W x C, or latent vectors, to uint8 N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        y = self.network(x.permute(0, 3, 1, 2).float() / 127.5 - 1 if self.of_images else x)
        return (y * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """A network of N x H x W x C."""

    def __init__(self, network: nn.Module, of_images: bool):
        super().__init__()
        self.network, self.of_images = network, of_images

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.permute(0, 3, 1, 2) if self.of_images else x).permute(0, 2, 3, 1)


def as_levels(images: Tensor) -> Tensor:
    """Float N x C x H x W in [-1, 1] as uint8 N x H x W x C."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@dataclass
class Opened:
    """A file in its runtime. `run` takes and gives arrays as the file has them; `layout` is how its images lie, and
    `shape` that of the only input that it takes, None where several."""

    run: Run
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    shape: tuple[int, ...] | None = None
    uint8: bool = False

    def images(self, x: np.ndarray) -> np.ndarray:
        """N x C x H x W, or latent vectors, to N x C x H x W, both as floats in [-1, 1], whatever the file has."""
        if x.ndim == 4 and self.uint8:
            x = np.rint(x * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
        y = self.run(np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 and self.layout == "NHWC" else x))
        y = y.transpose(0, 3, 1, 2) if self.layout == "NHWC" else y
        return y.astype(np.float32) / 127.5 - 1 if self.uint8 else y


class Format(ABC):
    """A format. `extra` is that of pyproject.toml that installs its `packages`; `suffix` its files' ending; `rewrites`
    the exact rewrites of an ONNX graph that it gains by. One that `fixes_size` takes images of one size alone; one that
    does not `run` here is converted and looked at, not compared."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    takes_uint8: ClassVar[bool] = True
    fixes_size: ClassVar[bool] = True
    runs: ClassVar[bool] = True
    allowed: ClassVar[Mapping[str, float]] = {"fp32": 1e-4, "fp16": 2e-2}

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
        except ImportError as error:
            raise ExportError(
                f"--format {self.name}: the package {name.partition('.')[0]} is not installed ({cause(error)}); "
                f"pip install 'vemcompress[{self.extra}]'."
            ) from error

    def check_available(self) -> None:
        """Raises ExportError (7) before any work where a package is not installed."""
        for name in self.packages:
            self.library(name)

    @contextmanager
    def converting(self) -> Iterator[None]:
        """Whatever the converter raises becomes an ExportError (7) of one sentence, and what it prints is dropped."""
        try:
            with quiet():
                yield
        except VemError:
            raise
        except Exception as error:  # every converter has dozens of exception types of its own
            if is_exhausted(error):
                raise
            raise ExportError(
                f"{self.title} cannot take this network ({cause(error)}); export to another format, or change the layer."
            ) from error

    def described(self, path: Path) -> Path:
        """Beside a file that holds no metadata: the .json that describes it."""
        return path.with_name(f"{path.name}.json")

    def describe(self, job: Job, path: Path) -> None:
        """Write `described`."""
        self.described(path).write_text(json.dumps(job.facts | {"format": self.name}, indent=1) + "\n")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what converters print, on Python's streams and on the process's own."""
    saved = [os.dup(number) for number in (1, 2)]
    void = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(void, number)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(void)


def expected(job: Job, x: Tensor) -> Tensor:
    """What PyTorch gives, as floats N x C x H x W in [-1, 1]; by levels with `uint8`."""
    with torch.inference_mode():
        if not job.uint8:
            return job.network(x)
        levels = uint8_reference(job.network, as_levels(x) if job.of_images else x, job.contract)
        return levels.permute(0, 3, 1, 2).float() / 127.5 - 1
