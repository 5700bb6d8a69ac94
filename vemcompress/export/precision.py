"""fp16 weights, and what fp16 and int8 share: the split of inputs, the quality score, and the result of a quantisation.

`half` stores weights as float16. `Judge` compares a quantised graph with the float graph on held-out inputs.
`Quantised` is the result of `int8_onnx.quantise` and of the same functions for other runtimes.
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

Run = Callable[[np.ndarray], np.ndarray]  # from an input, such as 1 x C x H x W in [-1, 1], to N x C x H x W in [-1, 1]

HELD = 4  # every fourth input is held out for the score
FEWEST = 2
SMALL = 16  # tensors of up to so many numbers stay float32


class Score(NamedTuple):
    """SSIM and PSNR (dB): means over the held-out images, which are rounded to 8 bits."""

    ssim: float
    psnr: float


@dataclass(frozen=True)
class Tried:
    """One network that was tried: the method for the ranges, the number of layers left in float, and the score."""

    method: str
    float_layers: int
    ssim: float
    psnr: float
    bytes: int


@dataclass(frozen=True)
class Quantised:
    """A network in int8, and how it differs from the float one on held-out inputs.

    `product` is the input of the runtime: an `onnx.ModelProto`, an `openvino.Model`, or a file's bytes. `method` names
    how the activation ranges were found. `layers` are in int8. `float_layers` were left in float; each has the PSNR
    (dB) of the network in which it alone was int8, worst first.
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
        """Plain values for --json, without the product."""
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
        """The same result with another product: the runtime's form instead of the form that was searched with."""
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
        """SSIM and PSNR. Raises UsageError (2) for images smaller than SSIM's window of 11 px."""
        pairs = [(_levels(run(x)), expected) for x, expected in zip(self.held, self._expected, strict=True)]
        return Score(_mean(ssim(*pair) for pair in pairs), _mean(psnr(*pair) for pair in pairs))

    def psnr(self, run: Run) -> float:
        """PSNR only, which is much faster than both."""
        return _mean(psnr(_levels(run(x)), expected) for x, expected in zip(self.held, self._expected, strict=True))


def split(photos: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split inputs into those for calibration and those for the score: every fourth, at least one. Raises UsageError
    (2) for fewer than two."""
    if len(photos) < FEWEST:
        raise UsageError(
            f"--calibrate: at least {FEWEST} images are needed, one for calibration and one for the score, but there "
            f"are {len(photos)}; give 16 to 100 real photos."
        )
    held = list(photos[HELD - 1 :: HELD]) or [photos[-1]]
    used = {id(x) for x in held}
    return [x for x in photos if id(x) not in used], held


def half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its weights stored as float16; inputs, outputs and arithmetic stay float32.

    The file is half as large. Runtimes convert the weights to float32 when they load it, so it is as fast as the
    float32 graph. Arithmetic in float16 would be slower on a CPU, because ONNX Runtime puts casts around each layer.
    The sums of instance norms could also overflow.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    given = {value.name for value in copy.graph.input}  # a caller may replace these
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
    """Insert nodes before all others: ONNX requires topological order."""
    whole = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(whole)


def _levels(y: np.ndarray) -> Tensor:
    """Images in [-1, 1], rounded to 8 bits, as values in [0, 1]."""
    return torch.from_numpy(np.round((np.clip(y, -1, 1) + 1) * 127.5) / 255)


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())
