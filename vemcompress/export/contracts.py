"""What goes into an exported network and what comes out: how its graph is traced, checked and described.

`ImageContract` is that of a network from images to images, `LatentContract` that of one from latent vectors to images.
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
    """The channels of an image-to-image network, and the sizes it takes. H and W must be divisible by `multiple` and
    at least `min_size` (pixels) for an output of the input's size, or of `scale` times that; both are `only_size` where
    that is told."""

    in_channels: int
    out_channels: int
    multiple: int
    min_size: int
    only_size: int | None = None
    scale: int = 1

    name = "x"  # of the graph's input

    @property
    def unit(self) -> int:
        """The smallest side, a multiple of `multiple`, that is worth a numerical check (at least 64 px); or the only
        one."""
        if self.only_size is not None:
            return self.only_size
        least = max(self.min_size, 64)
        return -(-least // self.multiple) * self.multiple

    def traced(self) -> tuple[Tensor, dict]:
        """An input to trace with, and which of its sides stay dynamic."""
        # Multiples let the tracer see that halves meet again (U-Net skips); a plain Dim would be refused for no reason.
        multiple, unit = self.multiple, self.unit
        if self.only_size is not None:
            return torch.zeros(2, self.in_channels, unit, unit), {0: Dim("n")}
        sides = (multiple * Dim("h"), multiple * Dim("w")) if multiple > 1 else (Dim.AUTO, Dim.AUTO)
        return torch.zeros(2, self.in_channels, 2 * unit, 3 * unit), {0: Dim("n"), 2: sides[0], 3: sides[1]}

    def shapes(self, size: tuple[int, int] | None = None) -> list[Shape]:
        """N x C x H x W of the checks: two batch sizes, two image sizes where it takes them, one not square, none
        the sample's; `size`."""
        unit, channels = self.unit, self.in_channels
        if self.only_size is not None:
            return [(1, channels, unit, unit), (3, channels, unit, unit)]
        shapes = [(1, channels, unit, unit), (2 if unit > 128 else 3, channels, unit, 2 * unit)]
        if size is not None and size != (unit, unit):
            shapes.append((1, channels, *size))
        return shapes

    def noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        """An input of a check: uniform in [-1, 1]."""
        return torch.rand(shape, generator=generator) * 2 - 1

    def uint8_shapes(self) -> list[Shape]:
        """N x H x W x C of the checks, odd on purpose: no side is a multiple of what the network takes, one is smaller
        than its least."""
        unit, channels = self.unit, self.in_channels
        return [(1, 7, 5, channels), (2, unit - 3, unit // 2 + 1, channels), (1, unit + 1, unit - 1, channels)]

    def uint8_noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    @property
    def _grown(self) -> str:
        return "H x W" if self.scale == 1 else f"{self.scale} H x {self.scale} W"

    @property
    def values(self) -> str:
        """What the numbers of a float input are."""
        return "-1..1" if self.in_channels in COLOURS else "as in training (0 and 1 for one-hot label maps)"

    def facts(self, uint8: bool) -> dict[str, str]:
        """What the file says of its input and output."""
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

    With `styled` it has w between the two; its graph then has a second input, `truncation`, that may be left out.
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
        """N x size of the checks: batches of one vector, of more, and of the sample's two."""
        return [(1, self.size), (3, self.size), (2, self.size)]

    def noise(self, shape: Shape, generator: torch.Generator) -> Tensor:
        """Vectors from the prior, others for each number of them."""
        return torch.from_numpy(latents.draw(self.prior, self.size, shape[0], range(shape[0])))

    uint8_shapes, uint8_noise = shapes, noise

    @property
    def values(self) -> str:
        """What the vectors' numbers are drawn from."""
        return "N(0, 1)" if self.prior == "normal" else "uniform in -1..1"

    def facts(self, uint8: bool) -> dict[str, str]:
        side, channels = self.image, self.out_channels
        given = f"y: float32 N x {channels} x {side} x {side}, -1..1"
        if uint8:
            given = f"result: uint8 N x {side} x {side} x {channels}, 0..255"
        taken = f"z: float32 N x {self.size}, {self.values}"
        numbers = {"latent": str(self.size), "prior": self.prior, "image": str(side)}
        if self.styled:
            numbers[TRUNCATION] = "float32, 1 where it is left out: the share of the way from the mean of w to w"
            taken += f"; {TRUNCATION}: float32, may be left out"
        return {"input_kind": "latent", **numbers, "input": taken, "output": given}


Contract = ImageContract | LatentContract
