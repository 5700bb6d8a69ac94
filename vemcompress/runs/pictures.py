"""Pictures of a run."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP, HEADER = 4, 18


def to_uint8(images: Tensor) -> np.ndarray:
    """B x C x H x W in [-1, 1] to B x H x W x 3 uint8, rounded; one channel becomes grey, others beyond 3 are cut."""
    images = images.detach().float().clamp(-1, 1).cpu()
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def image_grid(columns: list[Tensor], titles: list[str]) -> np.ndarray:
    """Columns of B images each (C x H x W in [-1, 1]) under their titles, as one H x W x 3 uint8 picture.

    Columns of smaller images, such as a super-resolution's inputs, are enlarged to the largest pixel by pixel.
    """
    pictures = [to_uint8(column) for column in columns]
    rows, (height, width) = len(pictures[0]), max(column.shape[1:3] for column in pictures)
    canvas = Image.new("RGB", (len(columns) * (width + GAP) + GAP, HEADER + rows * (height + GAP)), (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for i, (images, title) in enumerate(zip(pictures, titles, strict=True)):
        left = GAP + i * (width + GAP)
        draw.text((left, 2), title, fill=(60, 60, 60), font=font)
        for row, image in enumerate(images):
            shown = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(shown, (left, HEADER + row * (height + GAP)))
    return np.asarray(canvas)
