"""Runs a graph from latent vectors to images with ONNX Runtime alone (no torch)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from vemcompress.errors import InputError
from vemcompress.weights.graphs.opened import LARGEST, TYPES, Opened, on_cpu, run_graph, times
from vemcompress.weights.graphs.pixels import COLOURS, to_bytes
from vemcompress.weights.ranges import RANGES

MOST = 2**16  # the largest size of a vector
TRUNCATION = "truncation"  # the optional input of our graphs with w
PRIORS = ("normal", "uniform")


@dataclass(frozen=True)
class Styled:
    """The styles w of a model: how many layers use them, their length, and the sides of the noise maps."""

    layers: int
    style: int
    noise: tuple[int, ...]


@dataclass
class OnnxLatents:
    """Called with float32 N x `size`, vectors drawn from `prior`, it returns uint8 N x H x W x (1 or 3); `sides` are
    H and W. `assumed` says what the metadata do not state ("" if they state everything).
    """

    path: Path
    session: onnxruntime.InferenceSession
    dtype: type
    size: int
    maps: bool  # its input is maps of one pixel
    prior: str
    layout: str
    range: tuple[float, float]
    one_by_one: bool
    assumed: str
    sides: tuple[int, int] = (0, 0)

    kind = "latent"

    styled = None  # w and noise are inside the graph

    @property
    def on_cpu(self) -> bool:
        return on_cpu(self.session)

    def __call__(self, z: np.ndarray, truncation: float = 1.0) -> np.ndarray:
        """`truncation` is the graph's input of that name if it has one; otherwise it scales the vectors. Raises
        InputError (4), NumericalError (5) or MemoryExhausted (6).
        """
        if self.one_by_one and len(z) > 1:
            return np.concatenate([self(one[None], truncation) for one in z])
        if any(value.name == TRUNCATION for value in self.session.get_overridable_initializers()):
            y = self.run(self.prepare(z), **{TRUNCATION: np.array(truncation, np.float32)})
        else:
            y = self.run(self.prepare(z * np.float32(truncation)))
        if y.ndim == 4 and self.layout == "NCHW":
            y = y.transpose(0, 2, 3, 1)
        wanted = self.sides if any(self.sides) else y.shape[1:3]
        if y.ndim != 4 or y.shape[0] != len(z) or y.shape[1:3] != wanted or y.shape[3] not in COLOURS:
            raise InputError(
                f"{self.path}: turned {times(z.shape)} into {times(y.shape)}; only graphs that give one image of 1 "
                "or 3 channels for each latent vector can be used."
            )
        return y if y.dtype == np.uint8 else to_bytes(y, *self.range, str(self.path))

    def prepare(self, z: np.ndarray) -> np.ndarray:
        """The graph's input for vectors, N x `size`."""
        z = z.astype(self.dtype)
        return z[:, :, None, None] if self.maps else z

    def run(self, x: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Run the graph itself."""
        advice = "a smaller --batch", "export it with a dynamic batch"
        return run_graph(self.path, self.session, x, *advice, **more)


def takes_latents(opened: Opened) -> bool:
    """Whether a graph's only input is floats, N x size, or maps of one pixel, N x size x 1 x 1."""
    inputs, outputs = opened.session.get_inputs(), opened.session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or TYPES.get(inputs[0].type, np.uint8) == np.uint8:
        return False
    shape = inputs[0].shape
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == [1, 1])


def understand_latents(opened: Opened) -> OnnxLatents:
    """Interpret a graph that `takes_latents`, and find its image size by generating one image. Raises InputError (4)
    if it cannot be used, and the errors of a call.
    """
    path, said, seen = opened.path, opened.said, opened.seen
    batch, size, *pixel = opened.session.get_inputs()[0].shape
    if not isinstance(size, int) or not 1 <= size <= MOST:
        raise InputError(f"{path}: the size of its latent vectors is unknown: {seen}; export it with a fixed size.")
    if isinstance(batch, int) and batch != 1:
        raise InputError(f"{path}: takes {batch} latent vectors at a time: {seen}; make their number dynamic.")
    shape = opened.session.get_outputs()[0].shape
    layout = "NHWC" if len(shape) == 4 and shape[1] not in COLOURS and shape[3] in COLOURS else "NCHW"
    prior, limits, assumed = "normal", RANGES["-1..1"], "z from N(0, 1), RGB in [-1, 1]"
    if said.get("input_kind") == "latent":
        layout, prior = said.get("layout", ""), said.get("prior", "")
        limits, assumed = RANGES.get(said.get("range", "")), ""
        if layout not in ("NCHW", "NHWC") or prior not in PRIORS or limits is None or said.get("latent") != str(size):
            told = {name: said.get(name, "") for name in ("layout", "range", "prior", "latent")}
            known = ", ".join(f"{name} '{value[:20]}'" for name, value in told.items())
            raise InputError(f"{path}: its metadata says {known}, which does not fit {seen}; export it again.")
    dtype, one_by_one = TYPES[opened.session.get_inputs()[0].type], batch == 1
    model = OnnxLatents(path, opened.session, dtype, size, bool(pixel), prior, layout, limits, one_by_one, assumed)
    model.sides = model(np.zeros((1, size), np.float32)).shape[1:3]
    if not all(1 <= side <= LARGEST for side in model.sides):
        raise InputError(f"{path}: makes images of an impossible size, {times(model.sides)}; export it again.")
    return model
