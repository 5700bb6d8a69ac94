"""Opening a foreign .onnx file safely, and running photos through it with ONNX Runtime alone (no torch)."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from vemcompress.data.indices import class_colours
from vemcompress.errors import InputError
from vemcompress.export.latent_session import OnnxLatents, takes_latents, understand_latents
from vemcompress.export.opened import LARGEST, RANGES, TYPES, Opened, open_session, run_graph, times
from vemcompress.export.pixels import COLOURS, pad_to_multiple, to_float, to_pictures


@dataclass
class OnnxModel:
    """An image-to-image graph. Called with uint8 N x H x W x `channels`, it gives uint8 N x H x W x (1, 3 or 4).
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

    kind = "image"

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
        scores = "layout" in self.metadata  # ours may give some of classes
        if y.ndim != 4 or y.shape[:3] != (len(images), *sides) or not (scores or y.shape[3] in COLOURS):
            raise InputError(
                f"{self.path}: turned {times(x.shape)} into {times(y.shape)}; only graphs that give an image of the "
                "input's size can be used."
            )
        if self.dtype != np.uint8:
            y = to_pictures(y, *self.range, str(self.path))
        elif y.dtype != np.uint8:
            raise InputError(f"{self.path}: takes uint8 and gives {y.dtype}; export it with uint8 on both sides.")
        else:
            y = y if y.shape[3] in COLOURS else class_colours(y.shape[3])[y.argmax(3)]
        return y[:, :height, :width]

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """The graph's own input for uint8 N x H x W x `channels` of a size that it takes."""
        if self.dtype != np.uint8:
            images = to_float(images, *self.range).astype(self.dtype)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.layout == "NCHW" else images

    def run(self, x: np.ndarray) -> np.ndarray:
        """The raw graph."""
        return run_graph(self.path, self.session, x, "--size", "choose a size that it takes")


def open_onnx(
    path: str | os.PathLike,
    *,
    device: str = "cpu",
    threads: int | None = None,
    photos: bool = True,
    latents: bool = False,
) -> OnnxModel | OnnxLatents:
    """An .onnx file as a callable. Ours says what goes in and out; of others the shapes are read.

    Without `photos` ours may take label maps and the like, of any number of channels: to be run, not called. With
    `latents` a graph may also go from latent vectors to images.

    Raises InputError (4) for a file that is absent, no ONNX, not image-to-image, or reaches for data outside its
    folder; UsageError (2) for a device that ONNX Runtime cannot use here; MemoryExhausted (6).
    """
    opened = open_session(Path(path), device, threads)
    if latents and takes_latents(opened):
        return understand_latents(opened)
    return _understand(opened, photos)


def _understand(opened: Opened, photos: bool) -> OnnxModel:
    path, session, seen, said = opened.path, opened.session, opened.seen, opened.said
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if inputs else []
    if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or inputs[0].type not in TYPES:
        raise InputError(
            f"{path}: not an image-to-image model: {seen}; it must take one 4-dimensional float or uint8 image batch "
            "and give one."
        )
    ours = {"layout", "range", "multiple", "min_size"} <= set(said)
    dtype = TYPES[inputs[0].type]
    layout = said["layout"] if ours else "NCHW" if shape[1] in COLOURS else "NHWC"
    channels = shape[1] if layout == "NCHW" else shape[3]
    known = channels in COLOURS or (ours and not photos and isinstance(channels, int))
    if layout not in ("NCHW", "NHWC") or not known:
        raise InputError(f"{path}: takes no photos: {seen}; it must take images of 1, 3 or 4 channels.")
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
