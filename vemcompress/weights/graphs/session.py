"""Opens a foreign .onnx file safely, and runs photos through it with ONNX Runtime alone (no torch)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from vemcompress.data.indices import class_colours
from vemcompress.errors import InputError, UsageError
from vemcompress.system.settings import SCALES
from vemcompress.weights.graphs.guess import guessed
from vemcompress.weights.graphs.latent_session import OnnxLatents, takes_latents, understand_latents
from vemcompress.weights.graphs.opened import LARGEST, TYPES, Opened, on_cpu, open_session, run_graph, times
from vemcompress.weights.graphs.pixels import COLOURS, pad_to_multiple, to_float, to_pictures
from vemcompress.weights.ranges import RANGES, Ranges, is_far


@dataclass
class OnnxModel:
    """An image-to-image graph. Called with uint8 N x H x W x `channels`, it returns uint8 N x H x W x (1, 3 or 4).

    The output's H and W are multiplied by `scale`, which is None until a graph that does not state it has run.
    `fixed_size` is the only (H, W) of a graph without dynamic sides. `assumed` says what the metadata do not state (""
    if they state everything). `range_by` says how the `ranges` were guessed ("" if the file or the user states them).
    """

    path: Path
    session: onnxruntime.InferenceSession
    dtype: type
    layout: str
    channels: int
    multiple: int
    min_size: int
    ranges: Ranges
    one_by_one: bool
    fixed_size: tuple[int, int] | None
    assumed: str
    metadata: dict[str, str]
    scale: int | None = None
    range_by: str = ""
    checked: bool = False  # whether the range was checked, on the first images

    kind = "image"

    @property
    def on_cpu(self) -> bool:
        return on_cpu(self.session)

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
        scores = "layout" in self.metadata  # our graphs may output class scores
        grown = [n for n in ((self.scale,) if self.scale else SCALES) if _is_grown(y, sides, n)]
        if y.ndim != 4 or len(y) != len(images) or not grown or not (scores or y.shape[3] in COLOURS):
            raise InputError(
                f"{self.path}: turned {times(x.shape)} into {times(y.shape)}; only graphs whose output has the "
                "input's size, or a whole multiple of it, can be used."
            )
        self.scale = grown[0]
        if y.dtype != np.uint8:
            self._check_range(y)
            y = to_pictures(y, *RANGES[self.ranges.given], str(self.path))
        elif y.shape[3] not in COLOURS:
            y = class_colours(y.shape[3])[y.argmax(3)]
        return y[:, : self.scale * height, : self.scale * width]

    def _check_range(self, y: np.ndarray) -> None:
        """Raises InputError if the first photos show that the range was guessed wrongly."""
        guessed, self.checked = bool(self.range_by) and not self.checked, True
        if guessed and (told := is_far(str(self.path), float(y.min()), float(y.max()), self.ranges.given)):
            raise InputError(told)

    def images(self, x: np.ndarray) -> np.ndarray:
        """Float N x C x H x W in the input range, of a supported size, to float32 N x C' x H' x W' in the output
        range. Raises InputError (4) and MemoryExhausted (6).
        """
        if self.one_by_one and len(x) > 1:
            return np.concatenate([self.images(image[None]) for image in x])
        x = np.rint(x).clip(0, 255).astype(np.uint8) if self.dtype == np.uint8 else x.astype(self.dtype)
        y = self.run(np.ascontiguousarray(x if self.layout == "NCHW" else x.transpose(0, 2, 3, 1)))
        if y.ndim != 4 or len(y) != len(x):
            raise InputError(
                f"{self.path}: turned {times(x.shape)} into {times(y.shape)}; it must return one image for each input."
            )
        last = self.layout == "NHWC" if (y.shape[1] in COLOURS) == (y.shape[3] in COLOURS) else y.shape[3] in COLOURS
        return np.ascontiguousarray(y.transpose(0, 3, 1, 2) if last else y, dtype=np.float32)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """The graph's input for uint8 N x H x W x `channels` of a supported size."""
        if self.dtype != np.uint8:
            images = to_float(images, *RANGES[self.ranges.taken]).astype(self.dtype)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.layout == "NCHW" else images

    def run(self, x: np.ndarray) -> np.ndarray:
        """Run the graph itself."""
        return run_graph(self.path, self.session, x, "--size", "choose a size that it supports")


def _is_grown(y: np.ndarray, sides: tuple[int, int], scale: int) -> bool:
    return y.shape[1:3] == tuple(scale * side for side in sides)


def open_onnx(
    path: str | os.PathLike,
    *,
    device: str = "cpu",
    threads: int | None = None,
    photos: bool = True,
    latents: bool = False,
    ranges: Ranges | None = None,
    guess: bool | None = None,
) -> OnnxModel | OnnxLatents:
    """An .onnx file as a callable. Our files state their input and output. For others the shapes are read, and if no
    `ranges` are given, the range is guessed if `guess` is true, by default for `photos`.

    Without `photos` our files may take label maps and similar input with any number of channels; they can be run, but
    not called. With `latents` a graph may also go from latent vectors to images.

    Raises InputError (4) for a file that is missing, is not ONNX, is not image-to-image, or refers to data outside its
    folder; UsageError (2) for a device that ONNX Runtime cannot use here; MemoryExhausted (6).
    """
    opened = open_session(Path(path), device, threads)
    if latents and takes_latents(opened):
        return understand_latents(opened)
    return _understand(opened, photos, ranges, photos if guess is None else guess)


def _understand(opened: Opened, photos: bool, ranges: Ranges | None, guess: bool) -> OnnxModel:
    path, session, seen, said = opened.path, opened.session, opened.seen, opened.said
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or inputs[0].type not in TYPES:
        raise InputError(
            f"{path}: not an image-to-image model: {seen}; it must have one 4-dimensional float or uint8 image batch "
            "as input and one as output."
        )
    ours = {"layout", "range", "multiple", "min_size"} <= set(said)
    dtype = TYPES[inputs[0].type]
    layout = said["layout"] if ours else "NCHW" if shape[1] in COLOURS else "NHWC"
    channels = shape[1] if layout == "NCHW" else shape[3]
    known = channels in COLOURS or (ours and not photos and isinstance(channels, int))
    if layout not in ("NCHW", "NHWC") or not known:
        raise InputError(f"{path}: does not accept photos: {seen}; its input must have 1, 3 or 4 channels.")
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    fixed = tuple(sides) if all(isinstance(side, int) for side in sides) else None
    if fixed is not None and not all(0 < side <= LARGEST for side in fixed):
        raise InputError(f"{path}: its image size is impossible: {seen}; export it again.")
    if (fixed is None and any(isinstance(side, int) for side in sides)) or shape[0] not in (1, None, str(shape[0])):
        raise InputError(f"{path}: has a fixed number of images or only one fixed side: {seen}; make them dynamic.")
    multiple, least, own = (*sizes_of(path, said), _range(path, said)) if ours else (32, 32, Ranges())
    if dtype == np.uint8:  # the graph itself pads
        multiple, least = 1, 1
    if fixed is not None:
        multiple, least = 1, 1
    if ranges is not None and ours and ranges != own:
        raise UsageError(f"{path}: states that its images are in {own.shown}; omit --teacher-range.")
    if ranges is not None and dtype == np.uint8 and ranges.taken != "0..255":
        raise UsageError(f"{path}: its input is uint8, so its range is 0..255; omit --teacher-range, or give 0..255.")
    one = shape[0] == 1
    model = OnnxModel(path, session, dtype, layout, channels, multiple, least, ranges or own, one, fixed, "", said)
    if ours:
        model.scale = scale_of(path, said)
    else:
        _assume(model, opened.last if guess else None, stated=ranges is not None)
    return model


def _assume(model: OnnxModel, last: str | None, *, stated: bool) -> None:
    """Record what the metadata do not state, and guess the range if it is not `stated` and the `last` node is given."""
    if not stated and last is not None:
        sides = model.fixed_size or (64, 64)
        as_bytes = model.dtype == np.uint8
        found = guessed(model.images, (1, model.channels, *sides), last, bytes_in=as_bytes)
        model.ranges, model.range_by = found
    by = f" ({model.range_by})" if model.range_by else ""
    told = "" if stated else f" in {model.ranges.shown}{by}"
    sides = "" if model.fixed_size or model.dtype == np.uint8 else ", sides that are multiples of 32"
    model.assumed = f"RGB{told}{sides}"


def scale_of(path: Path, said: dict[str, str]) -> int:
    """How many times a file that `export` wrote enlarges images, from its metadata. Raises InputError."""
    scale = said.get("scale", "1")
    if scale not in map(str, SCALES):
        raise InputError(f"{path}: its metadata says scale '{scale:.20}'; known: {', '.join(map(str, SCALES))}.")
    return int(scale)


def sizes_of(path: Path, said: dict[str, str]) -> tuple[int, int]:
    """The number that the sides of images must be a multiple of, and the smallest side, in pixels, from the metadata of
    a file that `export` wrote. Raises InputError."""
    multiple, least = said.get("multiple", "1"), said.get("min_size", "1")
    if not all(n.isascii() and n.isdigit() and 0 < int(n[:9]) <= 4096 for n in (multiple, least)):
        raise InputError(
            f"{path}: its metadata says multiple '{multiple:.20}', min_size '{least:.20}'; export it again."
        )
    return int(multiple), int(least)


def _range(path: Path, said: dict[str, str]) -> Ranges:
    if said["range"] not in RANGES:
        raise InputError(f"{path}: its metadata says range '{said['range']}'; known: {', '.join(RANGES)}.")
    return Ranges.parse(said["range"])
