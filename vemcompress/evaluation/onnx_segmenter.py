"""Segmentation networks in .onnx files (`--segmenter model.onnx`), run by ONNX Runtime.

The graph takes one batch of RGB images. It returns class scores N x classes x h x w (float), or class numbers N x h x w
or N x 1 x h x w (integers). A uint8 input (N x H x W x 3 or N x 3 x H x W) receives the pixels unchanged. For a float
input, the file's metadata (`onnx.helper.set_model_props`) describes the normalisation. Every key is optional:

    scale   the value for a pixel of 255: "1" (default) for pixels in [0, 1], "255" for unchanged pixels
    mean    three numbers for R, G and B, separated by commas, subtracted after scaling; default "0,0,0"
    std     three divisors in the same form; default "1,1,1"
"""

import math
import os
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.evaluation.segmenters import Segmenter, load_segmenter, to_unit
from vemcompress.weights.graphs.session import open_onnx, times


class OnnxSegmenter(Segmenter):
    """A segmenter that runs an ONNX graph. Images are resized (bilinear) only if the graph has a fixed size. Raises
    InputError (4) if the file is not a segmentation network, UsageError (2) for a device that cannot be used."""

    def __init__(self, path: str | os.PathLike, *, device: str = "cpu"):
        self._model = model = open_onnx(path, device=device, photos=False)
        self.name, said = str(path), model.metadata
        output = model.session.get_outputs()[0]
        self._gives_scores, shape = "float" in output.type, output.shape
        if "family" in said:
            raise self._unfit(f"it is a generator ({said['family']:.40})")
        if model.channels != 3 or len(shape) not in ((4,) if self._gives_scores else (3, 4)):
            raise self._unfit(f"it takes {model.channels} channels and gives {output.type} {times(shape)}")
        self.classes = shape[1] if self._gives_scores and isinstance(shape[1], int) else None
        if self.classes == 1:
            raise self._unfit("it gives one score a pixel")
        self._scale = self._numbers("scale", 1)
        self._mean, self._std = self._numbers("mean", 3), self._numbers("std", 3)
        if 0 in self._std or 0 in self._scale:
            raise InputError(f"{path}: its metadata has std or scale 0; write the numbers that it was trained with.")
        self.protocol = f"{Path(path).name} ({self._convention()})"

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores or class numbers. Raises InputError (4) if the graph fails on this size or returns neither."""
        x = to_unit(images).cpu()
        if self._model.fixed_size and tuple(x.shape[2:]) != self._model.fixed_size:
            x = F.interpolate(x, self._model.fixed_size, mode="bilinear", antialias=True)
        parts = x.split(1) if self._model.one_by_one else (x,)
        y = np.concatenate([self._model.run(self._fed(part)) for part in parts])
        if self._gives_scores:
            return torch.from_numpy(self._checked(y, len(x), 4)).float()
        y = y[:, 0] if y.ndim == 4 and y.shape[1] == 1 else y
        return torch.from_numpy(self._checked(y, len(x), 3).astype(np.int64))

    def on(self, device: torch.device) -> Segmenter:
        return segmenter_on(self.name, device)

    def _checked(self, y: np.ndarray, images: int, dimensions: int) -> np.ndarray:
        if y.ndim != dimensions or len(y) != images or 0 in y.shape:
            raise self._unfit(f"for {images} images it gave {times(y.shape)}")
        if np.isnan(y).any():
            raise InputError(f"{self.name}: gives NaN instead of scores; its weights are damaged, export it again.")
        return y

    def _fed(self, x: Tensor) -> np.ndarray:
        """Convert N x 3 x H x W in [0, 1] to the graph's input form."""
        if self._model.dtype == np.uint8:
            x = (x * 255).round().to(torch.uint8)
        else:
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self._mean, self._std))
            x = (x * self._scale[0] - mean) / std
        if self._model.layout == "NHWC":
            x = x.permute(0, 2, 3, 1)
        return np.ascontiguousarray(x.numpy().astype(self._model.dtype, copy=False))

    def _numbers(self, key: str, count: int) -> tuple[float, ...]:
        text = self._model.metadata.get(key)
        if text is None:
            return (float(key != "mean"),) * count
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(math.isfinite(v) for v in values):
            raise InputError(f"{self.name}: its metadata has {key} '{text:.60}'; it must be {count} number(s).")
        return values

    def _convention(self) -> str:
        size = "{}x{}".format(*self._model.fixed_size[::-1]) if self._model.fixed_size else "the images' own size"
        if self._model.dtype == np.uint8:
            return f"ONNX, uint8 RGB at {size}"
        told = {"scale", "mean", "std"} & set(self._model.metadata)
        numbers = (" ".join(f"{v:.6g}" for v in values) for values in (self._scale, self._mean, self._std))
        words = "scale {}, mean {}, std {}".format(*numbers)
        return f"ONNX, RGB at {size}, {words}{'' if told else ' assumed, because the metadata does not state them'}"

    def _unfit(self, what: str) -> InputError:
        return InputError(
            f"{self.name}: not a segmentation network: {what}; it must take N x 3 x H x W and give scores "
            "N x classes x h x w, or class numbers N x h x w."
        )


def open_segmenter(path: str | os.PathLike, *, device: str = "cpu") -> Segmenter:
    """Open a segmenter: an .onnx graph, or the weights of DRN-D-105 for Cityscapes or of BiSeNet for faces. Raises
    InputError (4) for a missing or unsuitable file, UsageError (2) for a device that cannot be used."""
    if Path(path).suffix.lower() == ".onnx":
        return OnnxSegmenter(path, device=device)
    return load_segmenter(path, device)


def segmenter_on(path: str | os.PathLike, device: torch.device) -> Segmenter:
    """Open a segmenter on the device. If ONNX Runtime cannot use the device, an ONNX file runs on the CPU, which gives
    the same classes."""
    on_gpu = device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    onnx = Path(path).suffix.lower() == ".onnx"
    return open_segmenter(path, device="cpu" if onnx and not on_gpu else str(device))
