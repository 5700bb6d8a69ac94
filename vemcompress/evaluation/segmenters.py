"""Segmentation networks for mIoU: DRN-D-105 and BiSeNet. `onnx_segmenter` adds those in ONNX files."""

import os
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.errors import InputError, UsageError
from vemcompress.networks.bisenet import BiSeNet
from vemcompress.networks.features import IMAGENET_MEAN, IMAGENET_STD
from vemcompress.networks.segmentation import DRN, bilinear_kernel
from vemcompress.weights.layouts import described
from vemcompress.weights.safe import read_state

# Mean and std of Cityscapes' training photos, RGB in [0, 1], as published with the weights.
CITYSCAPES_MEAN = (0.29010095242892997, 0.32808144844279574, 0.28696394422942517)
CITYSCAPES_STD = (0.1829540508368939, 0.18656561047509476, 0.18447508988480435)
FACE_SIDE = 512


class Segmenter:
    """Maps images to class maps. `name` is for messages; `protocol` describes the computation in words. `classes` is
    the number of classes, None if it is not known before the first run. `side` is the required side of images, None for
    any."""

    name: str
    classes: int | None
    protocol: str
    side: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Map B x 3 x H x W, RGB, uint8 or floats in [0, 1], to scores B x classes x h x w (float32) or class numbers
        B x h x w (int64)."""
        raise NotImplementedError

    def read(self, images: Tensor) -> Tensor:
        """As `__call__`, for float32 images known to be in [0, 1]: the check of the range would make a GPU wait."""
        return self(images)

    def on(self, device: torch.device) -> "Segmenter":
        """The same segmenter on a device."""
        return self


class OwnScores(Segmenter):
    """For networks that output class scores, B x classes x H x W, instead of images."""

    def __init__(self, classes: int):
        self.name, self.classes, self.protocol = "the network itself", classes, "the network's own scores"

    def __call__(self, images: Tensor) -> Tensor:
        return images.float()


class DRNSegmenter(Segmenter):
    """DRN with the published protocol: images keep their size and are normalised by Cityscapes' statistics."""

    def __init__(self, network: DRN, name: str = "DRN-D-105", device: torch.device | str = "cpu"):
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.name, self.classes, self._device = name, network.classes, device
        self.protocol = "DRN-D-105 (Cityscapes), fed the images at their own size"
        self._mean, self._std = (
            torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (CITYSCAPES_MEAN, CITYSCAPES_STD)
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        x = (to_unit(images).to(self._device) - self._mean) / self._std
        height, width = images.shape[-2:]
        # If a side is not a multiple of 8, the output is larger than the input.
        return self.network(x.contiguous(memory_format=torch.channels_last))[..., :height, :width]


class BiSeNetSegmenter(Segmenter):
    """BiSeNet for faces with the published protocol: images are resized to 512 px and normalised by ImageNet's
    statistics."""

    side = FACE_SIDE

    def __init__(self, network: BiSeNet, name: str = "BiSeNet", device: torch.device | str = "cpu"):
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.name, self.classes, self._device = name, network.classes, torch.device(device)
        self.protocol = f"BiSeNet (CelebAMask-HQ), fed the images at {FACE_SIDE} px"
        self._mean, self._std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def __call__(self, images: Tensor) -> Tensor:
        return self.read(to_unit(images))

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        x = images.to(self._device)
        if x.shape[2:] != (FACE_SIDE, FACE_SIDE):
            x = F.interpolate(x, (FACE_SIDE, FACE_SIDE), mode="bilinear")
        return self.network(((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last))

    def on(self, device: torch.device) -> "BiSeNetSegmenter":
        return self if device == self._device else BiSeNetSegmenter(self.network, self.name, device)


def load_drn(path: str | os.PathLike, device: torch.device | str = "cpu") -> DRNSegmenter:
    """DRN-D-105 with the weights of a file such as `drn-d-105_ms_cityscapes.pth`. Raises InputError (4) if the file
    cannot be read safely or holds the weights of another network."""
    return _drn(read_state(path).tensors, str(path), device)


def load_segmenter(path: str | os.PathLike, device: torch.device | str = "cpu") -> Segmenter:
    """A segmenter from published weights: DRN-D-105's for Cityscapes, or BiSeNet's for faces (`79999_iter.pth`). Errors
    as `load_drn`."""
    tensors = read_state(path).tensors
    return _bisenet(tensors, str(path), device) if is_bisenet(tensors) else _drn(tensors, str(path), device)


def is_bisenet(tensors: Mapping[str, Tensor]) -> bool:
    return "cp.resnet.conv1.weight" in tensors


def _drn(tensors: Mapping[str, Tensor], source: str, device: torch.device | str) -> DRNSegmenter:
    with torch.device("meta"):
        network = DRN()
    # It is never trained, and weights that were trained with PyTorch's own upsampling lack it.
    shape = network.state_dict()["up.weight"].shape
    tensors = {"up.weight": bilinear_kernel().expand(shape).clone(), **tensors}
    fill(network, tensors, source, f"DRN-D-105 for {network.classes} classes", "drn-d-105_ms_cityscapes.pth")
    return DRNSegmenter(network, source, device)


def _bisenet(tensors: Mapping[str, Tensor], source: str, device: torch.device | str) -> BiSeNetSegmenter:
    with torch.device("meta"):
        network = BiSeNet()
    fill(network, tensors, source, f"BiSeNet for {network.classes} classes", "79999_iter.pth")
    return BiSeNetSegmenter(network, source, device)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: str, what: str, file: str) -> None:
    """Load published tensors into a network on the meta device. Raises InputError (4) unless every key and shape fits.
    `what` names the network, and `file` the published file, in messages."""

    def unfit(key: str, why: str) -> InputError:
        return InputError(
            f"{source}: not the weights of {what}: '{key:.80}' {why}; give {file}, or another segmentation network as "
            "an .onnx file."
        )

    expected, tensors = network.state_dict(), dict(tensors)
    for key, wanted in expected.items():
        if key.endswith(".num_batches_tracked"):  # missing in files from before torch 0.4.1, and not used here
            tensors[key] = torch.zeros((), dtype=torch.int64)
        found = tensors.get(key)
        if found is None:
            raise unfit(key, "is missing")
        if found.shape != wanted.shape or found.is_floating_point() != wanted.is_floating_point():
            raise unfit(key, f"is {described(found)}, not {described(wanted)}")
    if surplus := next((key for key in tensors if key not in expected), None):
        raise unfit(surplus, "is surplus")
    network.load_state_dict(tensors, assign=True)


def to_unit(images: Tensor) -> Tensor:
    """Convert uint8, or floats in [0, 1], to float32 in [0, 1]. Raises UsageError for floats outside this range."""
    if images.ndim != 4 or images.shape[1] != 3:
        given = "x".join(map(str, images.shape)) or "a single number"
        raise UsageError(f"a segmenter takes images of 3 channels, B x 3 x H x W, and was given {given}.")
    if images.dtype == torch.uint8:
        return images.float() / 255
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise UsageError(f"a segmenter takes uint8, or floats in [0, 1], and was given {low:.3g} to {high:.3g}.")
    return images.float()


def class_map(scores: Tensor, height: int, width: int) -> Tensor:
    """Class numbers at another size, height x width int64, from one image's scores (classes x h x w, floats) or class
    numbers (h x w, integers). Scores are interpolated linearly (antialiased when they shrink, as in Pillow), and the
    first largest class is chosen. Class numbers use the nearest pixel."""
    if not scores.is_floating_point():
        return F.interpolate(scores[None, None].double(), (height, width), mode="nearest-exact")[0, 0].long()
    best = winner = None
    # One class at a time: 19 maps of Cityscapes' size would need 160 MB, and argmax over them is slow.
    for number, plane in enumerate(scores.float().contiguous()):
        plane = F.interpolate(plane[None, None], (height, width), mode="bilinear", antialias=True)[0, 0]
        if best is None:
            best, winner = plane, torch.zeros_like(plane, dtype=torch.int64)
        else:
            winner[plane > best] = number
            best = torch.maximum(best, plane)
    return winner
