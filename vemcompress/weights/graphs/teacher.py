"""An .onnx file as a frozen generator, run by ONNX Runtime. Only its images are known."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from vemcompress.errors import InputError, UsageError
from vemcompress.networks.cost import Cost
from vemcompress.networks.slots import Group
from vemcompress.system.files import sha256_file
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.graphs.counting import cost_of_graph
from vemcompress.weights.graphs.foreign import read_onnx
from vemcompress.weights.graphs.session import OnnxModel, open_onnx
from vemcompress.weights.outside import Outside
from vemcompress.weights.ranges import Ranges


class Graph(Outside):
    """An image-to-image graph: B x C x H x W in its input range to float32 in its output range.

    It runs on the device of its input if ONNX Runtime can use it, else on the CPU; images pass through the host's
    memory. A batch runs at once, or image by image if the graph only accepts one.
    """

    def __init__(self, model: OnnxModel):
        super().__init__()
        self.model, self.tried_channels = model, (model.channels,)
        self._on = {"cpu": model}

    def forward(self, x: Tensor) -> Tensor:
        images = self._placed(x.device).images(x.detach().float().cpu().numpy())
        return torch.from_numpy(images).to(x.device)

    def elsewhere(self, device: torch.device) -> str:
        if device.type == "cpu" or (device.type == "cuda" and can_use_cuda()):
            return ""
        return "runs on the CPU, because this ONNX Runtime has no GPU build (pip install onnxruntime-gpu)"

    def _placed(self, device: torch.device) -> OnnxModel:
        name = str(device)
        if name not in self._on:
            here = device.type == "cuda" and can_use_cuda()
            first = self.model
            opened = open_onnx(first.path, device=name, photos=False, ranges=first.ranges) if here else first
            self._on[name] = opened
        return self._on[name]


class OnnxGenerator(CustomGenerator):
    """A graph as a generator: images in [-1, 1] on both sides. It has no taps and cannot be trained.

    The file states its channels, its only size if it has one and, if we have written the file, its range and sizes.
    Anything else is found by trying, as for the user's own class, and reported.
    """

    family = "onnx"
    what = "an .onnx file"

    def __init__(self, graph: Graph, name: str, ranges: Ranges | None):
        model = graph.model
        super().__init__(graph, name, model.ranges)
        self.trusted = ranges is not None or not model.range_by
        if model.assumed:  # what it says about sizes does not apply here, because sizes are tried
            told = f" in {self.ranges.shown} ({model.range_by})" if model.range_by else ""
            self.assumed = f"RGB{told}"

    def _find(self) -> None:
        model = self.module.model
        self.in_channels, fixed = model.channels, model.fixed_size
        if fixed is None and not model.assumed and model.multiple > 1:  # one of our files
            self.multiple, self.min_size = model.multiple, model.min_size
            self.side = -(-max(model.min_size, 64) // model.multiple) * model.multiple
            self.out_channels = self._probe(self.side).shape[1]
        elif fixed is None:
            super()._find()
        elif fixed[0] != fixed[1]:
            raise InputError(
                f"{self.name}: only accepts images of {fixed[1]} x {fixed[0]}, but training uses squares: "
                "export it with dynamic sides."
            )
        else:
            self.only = self.side = self.multiple = self.min_size = fixed[0]
            self.out_channels = self._probe(self.side).shape[1]

    def ends_in_sigmoid(self) -> bool:
        return False

    def cost(self, height: int, width: int) -> Cost:
        model = self.module.model
        return cost_of_graph(model.path, lambda: model.prepare(np.zeros((1, height, width, model.channels), np.uint8)))

    def groups(self) -> tuple[Group, ...]:
        raise UsageError(f"{self.name}: the channels of an .onnx file cannot be removed; distil it instead.")


def can_use_cuda() -> bool:
    """Whether ONNX Runtime is built for a GPU."""
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def open_graph(path: Path, name: str, ranges: Ranges | None) -> tuple[OnnxGenerator, str]:
    """The generator of an .onnx file, and its identity: the SHA-256 of the file, and of the files with its weights
    if these are separate. Raises InputError (4), UsageError (2) and MemoryExhausted (6).
    """
    model = open_onnx(path, threads=torch.get_num_threads(), photos=False, ranges=ranges, guess=True)
    return OnnxGenerator(Graph(model), name, ranges).eval(), identity(path)


def identity(path: Path) -> str:
    """The identity of an .onnx file."""
    files = [path, *read_onnx(path).external]
    sums = [sha256_file(file) for file in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
