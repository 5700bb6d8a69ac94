"""Opening a foreign .onnx file safely, and running photos through it with ONNX Runtime alone (no torch)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from vemcompress.errors import InputError, MemoryExhausted, UsageError, first_line
from vemcompress.export.foreign import read_onnx
from vemcompress.export.pixels import pad_to_multiple, to_bytes, to_float
from vemcompress.system.memory import is_exhausted

RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_COLOURS = (1, 3)
LARGEST = 2**14  # pixels of a side


@dataclass
class OnnxModel:
    """An image-to-image graph. Called with uint8 N x H x W x `channels`, it gives uint8 N x H x W x (1 or 3).
    `fixed_size` is the (H, W) of a graph that takes no other; `assumed` says what no metadata told and was taken for
    granted ("" where the file says it)."""

    path: Path
    session: onnxruntime.InferenceSession
    dtype: type
    layout: str
    channels: int
    multiple: int
    min_size: int
    range: tuple[float, float]
    one_by_one: bool
    fixed_size: tuple[int, int] | None
    assumed: str
    metadata: dict[str, str]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Pad by repetition, run, crop back. Raises InputError (4) or MemoryExhausted (6)."""
        if self.one_by_one and len(images) > 1:
            return np.concatenate([self(image[None]) for image in images])
        height, width = images.shape[1:3]
        x = self.prepare(pad_to_multiple(images, self.multiple, self.min_size))
        sides = x.shape[2:] if self.layout == "NCHW" else x.shape[1:3]
        y = self.run(x)
        if y.ndim == 4 and self.layout == "NCHW":
            y = y.transpose(0, 2, 3, 1)
        if y.ndim != 4 or y.shape[:3] != (len(images), *sides) or y.shape[3] not in _COLOURS:
            raise InputError(
                f"{self.path}: turned {times(x.shape)} into {times(y.shape)}; only graphs that give an image of the "
                "input's size can be used."
            )
        if self.dtype != np.uint8:
            y = to_bytes(y, *self.range, str(self.path))
        elif y.dtype != np.uint8:
            raise InputError(f"{self.path}: takes uint8 and gives {y.dtype}; export it with uint8 on both sides.")
        return y[:, :height, :width]

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """The graph's own input for uint8 N x H x W x `channels` of a size that it takes."""
        if self.dtype != np.uint8:
            images = to_float(images, *self.range).astype(self.dtype)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.layout == "NCHW" else images

    def run(self, x: np.ndarray) -> np.ndarray:
        """The raw graph."""
        try:
            return self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            if is_exhausted(error):
                raise MemoryExhausted(f"{self.path}: not enough memory for {times(x.shape)}; use --size.") from error
            raise InputError(
                f"{self.path}: does not run on {times(x.shape)} ({first_line(error)}); choose a size that it takes."
            ) from error


def open_onnx(
    path: str | os.PathLike, *, device: str = "cpu", threads: int | None = None, photos: bool = True
) -> OnnxModel:
    """An .onnx file as a callable. Ours says what goes in and out; of others the shapes are read.

    Without `photos` ours may take label maps and the like, of any number of channels: to be run, not called.

    Raises InputError (4) for a file that is absent, no ONNX, not image-to-image, or reaches for data outside its
    folder; UsageError (2) for a device that ONNX Runtime cannot use here; MemoryExhausted (6).
    """
    path = Path(path)
    providers = _providers(device)
    model, contained = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        source = model if contained else str(path)
        session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=False)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        # Bytes that are no text pass until a name is asked for.
        seen = f"inputs {_signature(inputs)}, outputs {_signature(outputs)}"
        said = session.get_modelmeta().custom_metadata_map
    except Exception as error:
        if is_exhausted(error):
            raise MemoryExhausted(f"{path}: not enough memory to load it; close other programs.") from error
        raise InputError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again.") from error
    if session.get_providers()[0] != (providers[0] if device.startswith("cpu") else providers[0][0]):
        raise _no_device(device)  # it was built for the GPU, and quietly went on without
    return _understand(path, session, seen, said, photos)


def _providers(device: str) -> list:
    name, _, number = device.partition(":")
    wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(name)
    if wanted not in onnxruntime.get_available_providers() or not (number or "0").isdecimal():
        raise _no_device(device)
    return [wanted] if name == "cpu" else [(wanted, {"device_id": number or "0"}), "CPUExecutionProvider"]


def _no_device(device: str) -> UsageError:
    return UsageError(f"device '{device}': ONNX Runtime cannot use it here; take 'cpu', or install its GPU build.")


def _understand(
    path: Path, session: onnxruntime.InferenceSession, seen: str, said: dict[str, str], photos: bool
) -> OnnxModel:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or inputs[0].type not in _TYPES:
        raise InputError(
            f"{path}: not an image-to-image model: {seen}; it must take one 4-dimensional float or uint8 image batch "
            "and give one."
        )
    ours = {"layout", "range", "multiple", "min_size"} <= set(said)
    dtype = _TYPES[inputs[0].type]
    layout = said["layout"] if ours else "NCHW" if shape[1] in _COLOURS else "NHWC"
    channels = shape[1] if layout == "NCHW" else shape[3]
    known = channels in _COLOURS or (ours and not photos and isinstance(channels, int))
    if layout not in ("NCHW", "NHWC") or not known:
        raise InputError(f"{path}: takes no photos: {seen}; it must take images of 3 channels or 1.")
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    fixed = tuple(sides) if all(isinstance(side, int) for side in sides) else None
    if fixed is not None and not all(0 < side <= LARGEST for side in fixed):
        raise InputError(f"{path}: takes images of an impossible size: {seen}; export it again.")
    if (fixed is None and any(isinstance(side, int) for side in sides)) or shape[0] not in (1, None, str(shape[0])):
        raise InputError(f"{path}: takes a fixed number of images or only one fixed side: {seen}; make them dynamic.")
    multiple, least, limits, assumed = 32, 32, RANGES["-1..1"], "RGB in [-1, 1], sides that are multiples of 32"
    if ours:
        multiple, least, limits, assumed = (*_sizes(path, said), "")
    if dtype == np.uint8:  # the graph pads by itself
        multiple, least, assumed = 1, 1, "" if ours else "RGB"
    if fixed is not None:
        multiple, least = 1, 1
    return OnnxModel(
        path, session, dtype, layout, channels, multiple, least, limits, shape[0] == 1, fixed, assumed, said
    )


def _sizes(path: Path, said: dict[str, str]) -> tuple[int, int, tuple[float, float]]:
    multiple, least = said["multiple"], said["min_size"]
    if not all(n.isascii() and n.isdigit() and 0 < int(n[:9]) <= 4096 for n in (multiple, least)):
        raise InputError(f"{path}: its metadata says multiple '{multiple}', min_size '{least}'; export it again.")
    if said["range"] not in RANGES:
        raise InputError(f"{path}: its metadata says range '{said['range']}'; known are {', '.join(RANGES)}.")
    return int(multiple), int(least), RANGES[said["range"]]


def _signature(values) -> str:
    return ", ".join(f"{v.name} {v.type} {times(v.shape)}" for v in values[:4]) or "none"


def times(shape) -> str:
    """A shape in words, with ? for a side that is open."""
    return " x ".join("?" if dim is None else str(dim) for dim in shape)
