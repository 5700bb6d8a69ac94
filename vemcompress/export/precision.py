"""Fewer bits for an exported ONNX graph, and how what they cost is measured.

`half` stores weights as float16. `Judge` compares a graph of fewer bits with the float one on inputs that it was not
made with; `Quantised` is what `int8_onnx.quantise` and its siblings of other runtimes give.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.losses.fidelity import psnr, ssim

Run = Callable[[np.ndarray], np.ndarray]  # an input, such as 1 x C x H x W in [-1, 1], to N x C x H x W in [-1, 1]

HELD = 4  # of so many inputs, one is for the score
FEWEST = 2
SMALL = 16  # numbers in a tensor that is not worth halving


class Score(NamedTuple):
    """Means over the held-out images, both rounded to 255 levels: SSIM, and PSNR in dB."""

    ssim: float
    psnr: float


@dataclass(frozen=True)
class Tried:
    """A row of the table of what was tried: how ranges were found, and how many layers were left in float."""

    method: str
    float_layers: int
    ssim: float
    psnr: float
    bytes: int


@dataclass(frozen=True)
class Quantised:
    """A network in int8, and how it differs from the float one on held-out inputs.

    `product` is what the runtime takes: an `onnx.ModelProto`, an `openvino.Model`, or a file's bytes. `method` says how
    the ranges of activations were found. `layers` are those in int8; `float_layers` those that were left in float with
    the PSNR (dB) that each cost when it alone was int8, worst first.
    """

    product: object
    method: str
    layers: tuple[str, ...]
    float_layers: tuple[tuple[str, float], ...]
    ssim: float
    psnr: float
    bytes: int
    tried: tuple[Tried, ...]

    def as_dict(self) -> dict:
        """For --json, without the product."""
        return {
            "method": self.method,
            "layers": list(self.layers),
            "float_layers": [{"layer": name, "psnr": cost} for name, cost in self.float_layers],
            "ssim": self.ssim,
            "psnr": self.psnr,
            "bytes": self.bytes,
            "tried": [asdict(row) for row in self.tried],
        }

    def with_product(self, product: object) -> "Quantised":
        """The same, with what the runtime takes in place of what was searched with."""
        return replace(self, product=product)

    def said(self) -> str:
        """One line for a person."""
        kept = f"{len(self.layers)} layers in int8 ({self.method}), SSIM {self.ssim:.4f}, PSNR {self.psnr:.1f} dB"
        if not self.float_layers:
            return kept
        names = ", ".join(name for name, _ in self.float_layers[:5])
        return f"{kept}; kept in float: {names}" + (", ..." if len(self.float_layers) > 5 else "")


class Judge:
    """Scores a graph's outputs for `held` inputs against the float graph's."""

    def __init__(self, held: Sequence[np.ndarray], reference: Run):
        self.held = held
        self._expected = [_levels(reference(x)) for x in held]

    def score(self, run: Run) -> Score:
        """SSIM and PSNR. Raises UsageError (2) for images of less than SSIM's 11 px."""
        pairs = [(_levels(run(x)), expected) for x, expected in zip(self.held, self._expected, strict=True)]
        return Score(_mean(ssim(*pair) for pair in pairs), _mean(psnr(*pair) for pair in pairs))

    def psnr(self, run: Run) -> float:
        """The PSNR alone, which takes a fraction of the time."""
        return _mean(psnr(_levels(run(x)), expected) for x, expected in zip(self.held, self._expected, strict=True))


def split(photos: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs to calibrate with, and every fourth, at least one, to be scored on. Raises UsageError (2) for less than
    two."""
    if len(photos) < FEWEST:
        raise UsageError(
            f"--calibrate: at least {FEWEST} images are needed, one to calibrate with and another to be scored on, but "
            f"there are {len(photos)}; 16 to 100 real ones are best."
        )
    held = list(photos[HELD - 1 :: HELD]) or [photos[-1]]
    used = {id(x) for x in held}
    return [x for x in photos if id(x) not in used], held


def half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its weights stored as float16; inputs, outputs and arithmetic stay float32.

    The file is half as large. Runtimes widen the weights when they load it, so that it is as fast as the float32 graph.
    Arithmetic in float16 would be slower on a CPU, where ONNX Runtime puts casts around each layer, and the sums of
    instance norms may overflow in it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    given = {value.name for value in copy.graph.input}  # these may be replaced from outside
    widened = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= SMALL or tensor.name in given:
            continue
        name, largest = tensor.name, np.finfo(np.float16).max
        values = numpy_helper.to_array(tensor).clip(-largest, largest).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
        widened.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_widened", to=TensorProto.FLOAT))
    put_first(copy, widened)
    return copy


def put_first(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Insert nodes before all others, as an ONNX graph is sorted."""
    whole = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(whole)


def _levels(y: np.ndarray) -> Tensor:
    """Images in [-1, 1] on the 256 levels of 8 bits, in [0, 1]."""
    return torch.from_numpy(np.round((np.clip(y, -1, 1) + 1) * 127.5) / 255)


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())
