"""Input and output of an exported network: their shapes and ranges, and how its graph is traced, checked and described.

`ImageContract` is for networks from images to images, `LatentContract` for networks from latent vectors to images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim

from vemcompress.data import latents
from vemcompress.weights.graphs.latent_session import TRUNCATION
from vemcompress.weights.graphs.pixels import COLOURS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ImageContract:
    """Channels and sizes of an image-to-image network. H and W must be multiples of `multiple` and at least `min_size`
    pixels. If `only_size` is set, both must be exactly that. The output is `scale` times as large as the input."""

    in_channels: int
    out_channels: int
    multiple: int
    min_size: int
    only_size: int | None = None
    scale: int = 1

    name = "x"  # of the graph's input

    @property
    def unit(self) -> int:
        """The side of images in numerical checks: the smallest permitted one of at least 64 px, or `only_size`."""
        if self.only_size is not None:
            return self.only_size
        least = max(self.min_size, 64)
        return -(-least // self.multiple) * self.multiple

    def traced(self) -> tuple[Tensor, dict]:
        """An input to trace with, and its dynamic dimensions."""
        # With multiples the tracer can prove that the sides of U-Net skips are equal; it refuses a plain Dim.
        multiple, unit = self.multiple, self.unit
        if self.only_size is not None:
            return torch.zeros(2, self.in_channels, unit, unit), {0: Dim("n")}
        sides = (multiple * Dim("h"), multiple * Dim("w")) if multiple > 1 else (Dim.AUTO, Dim.AUTO)
        return torch.zeros(2, self.in_channels, 2 * unit, 3 * unit), {0: Dim("n"), 2: sides[0], 3: sides[1]}

    def shapes(self, size: tuple[int, int] | None = None) -> list[Shape]:
        """Shapes N x C x H x W for the checks: two batch sizes and, if the network allows it, two image sizes, of which
        one is not square and none is that of the traced sample; and `size`."""
        unit, channels = self.unit, self.in_channels
        if self.only_size is not None:
            return [(1, channels, unit, unit), (3, channels, unit, unit)]
        shapes = [(1, channels, unit, unit), (2 if unit > 128 else 3, channels, unit, 2 * unit)]
        if size is not None and size != (unit, unit):
            shapes.append((1, channels, *size))
        return shapes

    def noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        """An input for a check: uniform in [-1, 1]."""
        return torch.rand(shape, generator=generator) * 2 - 1

    def uint8_shapes(self) -> list[Shape]:
        """Shapes N x H x W x C for the checks of uint8 graphs, which must accept any size: no side is a permitted
        multiple, and one is below the minimum."""
        unit, channels = self.unit, self.in_channels
        return [(1, 7, 5, channels), (2, unit - 3, unit // 2 + 1, channels), (1, unit + 1, unit - 1, channels)]

    def uint8_noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    @property
    def _grown(self) -> str:
        return "H x W" if self.scale == 1 else f"{self.scale} H x {self.scale} W"

    @property
    def values(self) -> str:
        """The range of a float input, in words."""
        return "-1..1" if self.in_channels in COLOURS else "as in training (0 and 1 for one-hot label maps)"

    def facts(self, uint8: bool) -> dict[str, str]:
        """Metadata that describes the file's input and output."""
        inputs, outputs = self.in_channels, self.out_channels
        if uint8:
            ends = (("image", inputs, "H x W"), ("result", outputs, self._grown))
            forms = [f"{name}: uint8 N x {sides} x {count}, 0..255, any size" for name, count, sides in ends]
        else:
            rule = f"H and W multiples of {self.multiple}, at least {self.min_size}"
            rule = rule if self.only_size is None else f"H and W {self.only_size}"
            ends = (("x", inputs, "H x W", self.values), ("y", outputs, self._grown, "-1..1"))
            forms = [f"{name}: float32 N x {count} x {sides}, {values}, {rule}" for name, count, sides, values in ends]
        sizes = {"multiple": str(self.multiple), "min_size": str(self.min_size)}
        sizes |= {"scale": str(self.scale)} if self.scale > 1 else {}
        return {"input_kind": "image", **sizes, "input": forms[0], "output": forms[1]}


@dataclass(frozen=True)
class LatentContract:
    """A network from latent vectors of `size` numbers, drawn from `prior`, to images of `image` x `image` pixels.

    `styled`: the network maps z to w first (StyleGAN2). Its graph then has a second, optional input `truncation`.
    """

    size: int
    image: int
    prior: str
    out_channels: int
    styled: bool = False

    name = "z"

    def traced(self) -> tuple[Tensor, dict]:
        return torch.zeros(2, self.size), {0: Dim("n")}

    def shapes(self, size: tuple[int, int] | None = None) -> list[Shape]:
        """Shapes N x size for the checks: one vector, several, and two as in the traced sample."""
        return [(1, self.size), (3, self.size), (2, self.size)]

    def noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        """Vectors from the prior; a different number of vectors gives different ones."""
        return torch.from_numpy(latents.draw(self.prior, self.size, shape[0], range(shape[0])))

    uint8_shapes, uint8_noise = shapes, noise

    @property
    def values(self) -> str:
        """The prior of the vectors, in words."""
        return "N(0, 1)" if self.prior == "normal" else "uniform in -1..1"

    def facts(self, uint8: bool) -> dict[str, str]:
        side, channels = self.image, self.out_channels
        given = f"y: float32 N x {channels} x {side} x {side}, -1..1"
        if uint8:
            given = f"result: uint8 N x {side} x {side} x {channels}, 0..255"
        taken = f"z: float32 N x {self.size}, {self.values}"
        numbers = {"latent": str(self.size), "prior": self.prior, "image": str(side)}
        if self.styled:
            numbers[TRUNCATION] = "float32, 1 by default: the factor of w's distance from its mean"
            taken += f"; {TRUNCATION}: float32, optional"
        return {"input_kind": "latent", **numbers, "input": taken, "output": given}


Contract = ImageContract | LatentContract
