"""Sensitivity of a loss to each channel: the mean absolute gradient of the kernel that reads it, as in CAGC and
DCP-GAN.
"""

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
    """`samples`: how many images are generated. `batch`: how many at a time. `seed`: seed of the latent vectors and
    noise. The defaults are CAGC's.
    """

    samples: int = Field(400, ge=1, le=1_000_000)
    batch: int = Field(10, ge=1, le=4096)
    seed: Seed = 0


def readers(network: Generator) -> dict[str, tuple[Group, Slot]]:
    """For each group read by a convolution's kernel, the first such kernel, as published for CAGC. In a StyleGAN2
    this is the next convolution's, and for the last group that of the last layer to RGB.
    """
    tensors, found = dict(network.named_parameters()), {}
    for group in network.groups():
        slots = (s for s in group.slots if s.role == "read" and s.tensor.endswith(".weight"))
        if slot := next((s for s in slots if s.tensor in tensors and tensors[s.tensor].dim() == 4), None):
            found[group.name] = group, slot
    return found


def by_channel(kernel: Tensor, group: Group, slot: Slot) -> Tensor:
    """The part of a kernel that belongs to a group: channels x values per channel."""
    found = kernel.movedim(slot.axis, 0)[slot.start : slot.start + group.size * slot.each]
    return found.reshape(group.size, -1)


class Sensitivity:
    """Measures sensitivities on a copy of a generator of latent vectors, so that the generator's own gradients do not
    change.

    Random numbers, including the noise in a StyleGAN2, come from a `seed` on the CPU, so that all devices generate the
    same images. For each group the kernel from `readers` is used.
    """

    def __init__(self, network: Generator, method: str, seed: int, device: torch.device | str = "cpu"):
        if network.takes.kind != "latent":
            raise UsageError(
                f"method {method}: scores channels by images generated from latent vectors, but this "
                f"{network.family} needs input images; use l1."
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
        """Whether there are weights. Networks on the meta device only have shapes."""
        return not any(kernel.is_meta for kernel in self.kernels.values())

    def zeros(self) -> dict[str, Tensor]:
        return {name: torch.zeros(group.size) for name, (group, _) in self.groups.items()}

    def latents(self, count: int) -> Tensor:
        """Random latent vectors from the network's prior, count x size."""
        shape = count, self.takes.size
        if self.takes.prior == "uniform":
            return (torch.rand(shape, generator=self.random) * 2 - 1).to(self.device)
        return torch.randn(shape, generator=self.random).to(self.device)

    def batches(self, settings: DrawnSettings, told: Callable[[int, int], None]) -> Iterator[Tensor]:
        """The latent vectors of all samples; none if there are no weights. `told` is called with the number done and
        the total.
        """
        for start in range(0, settings.samples if self.judges else 0, settings.batch):
            stop = min(settings.samples, start + settings.batch)
            yield self.latents(stop - start)
            told(stop, settings.samples)

    def images(self, z: Tensor) -> Tensor:
        """Images with new noise, if the network has noise."""
        return self.of_styles(self.network.styles(z)) if self.network.styled else self.network(z)

    def of_styles(self, w: Tensor) -> Tensor:
        return self.network.synthesise(w, noise=self.random)[0]

    def of(self, loss: Tensor) -> dict[str, Tensor]:
        """By group, for each channel the mean of |d loss / d kernel| over the kernel's other axes."""
        gradients = dict(zip(self.kernels, torch.autograd.grad(loss, list(self.kernels.values())), strict=True))
        return {
            name: by_channel(gradients[slot.tensor], group, slot).abs().mean(1).cpu()
            for name, (group, slot) in self.groups.items()
        }
