"""How much a loss of a generator's images depends on each channel: the mean size of the gradient of the kernel that
reads it, as CAGC and DCP-GAN judge by."""

import copy
from collections.abc import Callable, Iterator

import torch
from pydantic import Field
from torch import Tensor

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.networks.slots import Group, Slot
from vemcompress.system.settings import BaseSettings, Seed


class DrawnSettings(BaseSettings):
    """`samples` images are drawn, `batch` at a time; the defaults are CAGC's."""

    samples: int = Field(400, ge=1, le=1_000_000)
    batch: int = Field(10, ge=1, le=4096)
    seed: Seed = 0


def readers(network: Generator) -> dict[str, tuple[Group, Slot]]:
    """Of each group that the kernel of a convolution reads, the first such kernel, as published for CAGC: in a
    StyleGAN2 the next convolution's, and for the last group that of the last layer to RGB."""
    tensors, found = dict(network.named_parameters()), {}
    for group in network.groups():
        slots = (s for s in group.slots if s.role == "read" and s.tensor.endswith(".weight"))
        if slot := next((s for s in slots if s.tensor in tensors and tensors[s.tensor].dim() == 4), None):
            found[group.name] = group, slot
    return found


def by_channel(kernel: Tensor, group: Group, slot: Slot) -> Tensor:
    """The part of a tensor that belongs to a group: channels x numbers of each."""
    found = kernel.movedim(slot.axis, 0)[slot.start : slot.start + group.size * slot.each]
    return found.reshape(group.size, -1)


class Sensitivity:
    """Of a generator that draws from latent vectors; a copy of it, so that its own gradients stay as they are. Random
    numbers, those of the noise within a StyleGAN2 included, come from a `seed`, on the CPU, so that all devices draw
    the same images.

    Of each group the kernel of `readers` counts.
    """

    def __init__(self, network: Generator, method: str, seed: int, device: torch.device | str = "cpu"):
        if network.takes.kind != "latent":
            raise UsageError(
                f"method {method}: judges channels by images that are drawn from latent vectors, and this "
                f"{network.family} takes images; use l1."
            )
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        if not any(parameter.is_meta for parameter in network.parameters()):
            self.network.to(device)
        self.device = torch.device(device)
        self.takes = network.takes
        self.groups, tensors = readers(network), dict(self.network.named_parameters())
        self.kernels = {slot.tensor: tensors[slot.tensor].requires_grad_(True) for _, slot in self.groups.values()}
        self.random = torch.Generator().manual_seed(seed)

    @property
    def judges(self) -> bool:
        """Whether there are weights to judge: those of a network on the meta device only have shapes."""
        return not any(kernel.is_meta for kernel in self.kernels.values())

    def zeros(self) -> dict[str, Tensor]:
        return {name: torch.zeros(group.size) for name, (group, _) in self.groups.items()}

    def latents(self, count: int) -> Tensor:
        """From the network's prior, count x size."""
        shape = count, self.takes.size
        if self.takes.prior == "uniform":
            return (torch.rand(shape, generator=self.random) * 2 - 1).to(self.device)
        return torch.randn(shape, generator=self.random).to(self.device)

    def batches(self, settings: DrawnSettings, told: Callable[[int, int], None]) -> Iterator[Tensor]:
        """The latent vectors of all samples; none where there are no weights to judge. `told` learns how many are
        done."""
        for start in range(0, settings.samples if self.judges else 0, settings.batch):
            stop = min(settings.samples, start + settings.batch)
            yield self.latents(stop - start)
            told(stop, settings.samples)

    def images(self, z: Tensor) -> Tensor:
        """With new noise, where the network has noise."""
        return self.of_styles(self.network.styles(z)) if self.network.styled else self.network(z)

    def of_styles(self, w: Tensor) -> Tensor:
        return self.network.synthesise(w, noise=self.random)[0]

    def of(self, loss: Tensor) -> dict[str, Tensor]:
        """By group, for each channel the mean of |d loss / d kernel| over its other axes."""
        gradients = dict(zip(self.kernels, torch.autograd.grad(loss, list(self.kernels.values())), strict=True))
        return {
            name: by_channel(gradients[slot.tensor], group, slot).abs().mean(1).cpu()
            for name, (group, slot) in self.groups.items()
        }
