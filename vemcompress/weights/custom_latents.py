"""Generators of the user's own class that make images from latent vectors: found by their attributes, and tried."""

import torch
from torch import Tensor, nn

from vemcompress.data import latents
from vemcompress.errors import InputError, UsageError, summary
from vemcompress.networks.base import LatentInput, Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.slots import Group
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.ranges import Ranges, is_far
from vemcompress.weights.traced import macs_of

ATTRIBUTES = ("latent", "latent_dim", "z_dim", "nz", "latent_size", "dim_z")  # each a whole number
MOST = 2**16  # the largest size of a vector


class CustomLatents(CustomGenerator):
    """Any network from latent vectors to square images of one size. It has no Config, no taps and no channel groups.

    Its latent size is the first of `ATTRIBUTES` that it has. Vectors are drawn from N(0, 1) or, if its attribute
    `prior` is "uniform", from [-1, 1]. It is tried with vectors, B x size, and if that fails, with maps of one pixel.
    """

    def _find(self) -> None:
        attribute = latent_attribute(self.module)
        self.in_channels = getattr(self.module, attribute)
        prior = "uniform" if getattr(self.module, "prior", "") == "uniform" else "normal"
        z = torch.from_numpy(latents.draw(prior, self.in_channels, 0, range(2)))
        reasons = []
        for self.flat in (True, False):
            try:
                images = self._drawn(z)
                break
            except InputError as error:
                reasons.append(error)
        else:
            said = f"its attribute {attribute} says that its latent vectors have {self.in_channels} numbers"
            raise InputError(f"{reasons[0]}: {said}") from reasons[0]
        self.out_channels, self.side = images.shape[1], images.shape[2]
        self._takes = LatentInput(self.in_channels, self.side, prior)
        if not self.trusted:
            self.warning = is_far(self.name, images.min().item(), images.max().item())

    @property
    def takes(self) -> LatentInput:
        return self._takes

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        if names:
            return super().forward_with_taps(x, names)
        z = x.flatten(1) if self.flat else x.flatten(1)[:, :, None, None]
        return self.ranges.back(self.module(z)), {}

    def groups(self) -> tuple[Group, ...]:
        raise UsageError(
            f"{self.name}: the channels of a class with latent vectors cannot be removed; distil it instead."
        )

    def cost(self, height: int, width: int) -> Cost:
        return macs_of(self, torch.zeros(1, self.in_channels))

    def check(self, size: int) -> None:
        """Nothing to do: it has been tried at its only size."""

    @torch.no_grad()
    def _drawn(self, z: Tensor) -> Tensor:
        """Its images of these vectors; sets eval mode. Raises InputError."""
        self.module.eval()
        count, size = z.shape
        try:
            images = self(z)
        except Exception as error:  # the user's own code may raise anything
            if is_exhausted(error):
                raise
            raise InputError(f"{self.name}: failed on {count} x {size} latent vectors ({summary(error)})") from error
        if not isinstance(images, Tensor):
            raise InputError(f"{self.name}: returned a {type(images).__name__}: let forward return the images alone")
        square = images.dim() == 4 and images.shape[2] == images.shape[3] > 1
        if not square or images.shape[0] != count or not images.shape[1]:
            found = "x".join(map(str, images.shape))
            raise InputError(f"{self.name}: returned {found} for {count} x {size}: it must return square images")
        return images


def latent_attribute(module: nn.Module) -> str | None:
    """The attribute of a module that holds its latent size, or None."""
    sizes = {name: getattr(module, name, None) for name in ATTRIBUTES}
    return next((name for name, size in sizes.items() if type(size) is int and 1 <= size <= MOST), None)


def of_latents(module: nn.Module, name: str) -> CustomLatents | None:
    """A generator from a module with a latent size; None if it has none or does not accept such vectors."""
    try:
        return CustomLatents(module, name).eval() if latent_attribute(module) else None
    except InputError:
        return None


def own_generator(module: nn.Module, name: str, ranges: Ranges | None = None) -> CustomGenerator:
    """A module of the user's own class as a generator in eval mode: from latent vectors if it has their size as an
    attribute and accepts them, else from images; with these `ranges` if they are stated. Raises InputError (4).
    """
    if latent_attribute(module) is None:
        return CustomGenerator(module, name, ranges).eval()
    try:
        return CustomLatents(module, name, ranges).eval()
    except InputError as error:
        try:
            return CustomGenerator(module, name, ranges).eval()
        except InputError:
            raise error from None
