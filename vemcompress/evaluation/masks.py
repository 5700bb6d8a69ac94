"""Content masks of a generator's images (CAGC), from a segmentation network or from a folder of masks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vemcompress.data.images import read_image
from vemcompress.data.latents import draw
from vemcompress.errors import InputError
from vemcompress.evaluation.segmenters import BiSeNetSegmenter, Segmenter
from vemcompress.networks.base import Generator
from vemcompress.system.names import shown
from vemcompress.system.settings import BaseSettings, Text

FACE_BACKGROUND = (0, 16)  # CelebAMask-HQ's classes for background and cloth
NAME = re.compile(r"(seed(\d{1,10})_(\d{6}))_mask")  # names that `generate` gives to images, and the names of masks
ALIKE = 6 / 255  # largest mean difference between an image file and its generator's image, both in [0, 1]
CHECKED = 16  # images of a folder that are drawn again for the check


class MaskSettings(BaseSettings):
    """`masks`: a segmentation network (an .onnx file or BiSeNet's published weights) or a folder of masks; None if all
    pixels are content. `background`: the classes that are not content; None for 0, or 0 and 16 with BiSeNet.

    The folder has images that `vemcompress generate TEACHER --out DIR` drew. Beside `seed0_000012.png` is its mask
    `seed0_000012_mask.png` of the same size, with content in white.
    """

    masks: Text | None = None
    background: tuple[Annotated[int, Field(ge=0, lt=1000)], ...] | None = Field(None, strict=False, max_length=1000)


class Masks:
    """Maps images B x 3 x H x W, RGB in [-1, 1], to masks B x 1 x H x W, float32, with 1 for content.

    `vectors`, N x size, are latent vectors whose images have `known` masks, N x 1 x H x W uint8. Both are None if a
    mask can be computed for any image. `protocol` describes the content in words.
    """

    protocol: str
    vectors: Tensor | None = None
    known: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def to(self, device: torch.device) -> None:
        """Work on this device from here on."""


class SegmentedMasks(Masks):
    """Content is every pixel whose class, by the segmenter, is not in `background`.

    As published for BiSeNet, images are clamped to [-1, 1] and resized to its input size (bilinear). The mask is
    resized back to the images' size (bilinear) and thresholded at one half. Channel scores use the same masks; for
    them, the published code uses 8-bit pictures and nearest-neighbour resizing.
    """

    def __init__(self, segmenter: Segmenter, background: Sequence[int] | None = None):
        if background is None:
            background = FACE_BACKGROUND if isinstance(segmenter, BiSeNetSegmenter) else (0,)
        if segmenter.classes is not None and (odd := [n for n in background if not 0 <= n < segmenter.classes]):
            raise InputError(
                f"{segmenter.name}: has classes from 0 to {segmenter.classes - 1}, and background names {odd[0]}; "
                "give classes that it has."
            )
        self.segmenter, self.background, self._device = segmenter, tuple(background), torch.device("cpu")
        self.protocol = f"all but the classes {', '.join(map(str, background))} of {segmenter.protocol}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        self.to(images.device)
        shape, x = images.shape[2:], (images.float().clamp(-1, 1) + 1) / 2
        if (side := self.segmenter.side) is not None and shape != (side, side):
            x = F.interpolate(x, (side, side), mode="bilinear")
        found = self.segmenter.read(x).to(images.device)
        labels = found.argmax(1) if found.is_floating_point() else found
        content = torch.ones_like(labels, dtype=torch.float32)
        for number in self.background:
            content = content * (labels != number)
        return (F.interpolate(content[:, None], shape, mode="bilinear") > 0.5).float()

    def to(self, device: torch.device) -> None:
        if device != self._device:
            self.segmenter, self._device = self.segmenter.on(device), device


class FolderMasks(Masks):
    """Masks for the images of a folder only. Raises InputError (4) for masks of another size, and for images that the
    generator did not draw."""

    def __init__(self, folder: Path, generator: Generator):
        takes, names = generator.takes, {}
        for path in sorted(folder.iterdir()):
            if match := NAME.fullmatch(path.stem):
                names[path] = match
        if not names:
            raise InputError(
                f"{folder}: has no masks, which are called seed0_000000_mask.png and lie beside the images that "
                "`vemcompress generate` drew; or give a segmentation network."
            )
        self.known = torch.from_numpy(np.stack([_mask(path, takes.image) for path in names]))[:, None]
        if not self.known.any():
            raise InputError(f"{folder}: its masks are all black, so no pixel is content; draw content in white.")
        drawn = [draw(takes.prior, takes.size, int(m[2]), [int(m[3])])[0] for m in names.values()]
        self.vectors = torch.from_numpy(np.stack(drawn))
        self.protocol = f"{len(names)} masks of the folder {shown(folder.absolute().name)}"
        _check_images(list(names.items()), self.vectors, generator)

    def to(self, device: torch.device) -> None:
        if self.vectors.device != device:
            self.vectors, self.known = self.vectors.to(device), self.known.to(device)


def _mask(path: Path, side: int) -> np.ndarray:
    """H x W uint8, 1 for pixels that are more white than black."""
    found = read_image(path)
    if found.shape[:2] != (side, side):
        raise InputError(
            f"{path}: is {found.shape[1]} x {found.shape[0]} px, and the generator's images are {side} x {side}; give "
            "masks of its own images."
        )
    return (found.mean(2) > 127).astype(np.uint8)


@torch.no_grad()
def _check_images(files: list[tuple[Path, re.Match]], vectors: Tensor, generator: Generator) -> None:
    """Check a few images beside the masks: they must be those that the generator draws."""
    own = next(generator.parameters())
    for n in sorted({round(i) for i in np.linspace(0, len(files) - 1, CHECKED)}):
        path, match = files[n]
        beside = next((p for p in path.parent.glob(f"{match[1]}.*") if p != path), None)
        if beside is None:
            raise InputError(f"{path}: the image {match[1]}.png is not beside its mask; put it there.")
        image = torch.from_numpy(read_image(beside)).permute(2, 0, 1).float() / 255
        drawn = (generator(vectors[n : n + 1].to(own))[0].float().cpu().clamp(-1, 1) + 1) / 2
        if image.shape != drawn.shape or (image - drawn).abs().mean() > ALIKE:
            raise InputError(
                f"{beside}: is not the image that this generator draws for that vector, so the masks do not fit; draw "
                "the images again with `vemcompress generate`, without --truncation."
            )


def open_masks(settings: MaskSettings, generator: Generator, device: torch.device | str = "cpu") -> Masks | None:
    """Open the masks of `settings`; None if there are none. `generator` drew the images of the masks.

    Raises InputError (4) for files that are neither masks nor a segmentation network.
    """
    if settings.masks is None:
        return None
    path = Path(settings.masks)
    if path.is_dir():
        return FolderMasks(path, generator)
    from vemcompress.evaluation.onnx_segmenter import segmenter_on  # imported late: not everybody needs ONNX Runtime

    return SegmentedMasks(segmenter_on(path, torch.device(device)), settings.background)
