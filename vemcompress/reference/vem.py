"""Reference form of VEM (sections 3 and 4.1), as in the original code: one energy after the other, layer by layer."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.errors import RecipeError
from vemcompress.information.vem import VEM
from vemcompress.networks.energy import EnergyModel, SpectralLayer


def normalised(layer: SpectralLayer) -> Tensor:
    """W / sigma with a constant sigma; in the capped form if the layer has it."""
    sigma = torch.dot(layer.u, torch.mv(layer.weight.detach().flatten(1), layer.v))
    if layer.capped:
        return layer.weight / (sigma + 1e-6) * torch.clamp(sigma, max=1.0)
    return layer.weight / sigma


def conv(layer: SpectralLayer, x: Tensor) -> Tensor:
    return F.conv2d(x, normalised(layer), layer.bias, padding=1)


def energy_of(model: EnergyModel, t: Tensor, s: Tensor) -> Tensor:
    """E(t, s), B x 1 (figure 4)."""
    h = torch.cat((F.avg_pool2d(t, 3, 2, 1), F.avg_pool2d(s, 3, 2, 1)), dim=1)
    h = F.leaky_relu(conv(model.stem, h))
    for block in model.blocks:
        inner = conv(block.conv2, F.leaky_relu(conv(block.conv1, h)))
        across = h if block.shortcut is None else conv(block.shortcut, h)
        h = F.leaky_relu(F.avg_pool2d(across + inner, 2))
    h = F.relu(h).mean((2, 3))
    return F.linear(h, normalised(model.head), model.head.bias)


class PlainVEM:
    """Langevin dynamics with a whole backward pass at each step, the energy's update, and the student's term.

    Raises RecipeError for settings that the original step does not have.
    """

    def __init__(self, vem: VEM):
        settings = vem.settings
        if settings.start != "student" or settings.power_iteration != "step":
            raise RecipeError(
                "the reference step supports only information.start = 'student' and power_iteration = 'step'; set "
                "these, or omit --against."
            )
        self.settings, self.model = settings, vem.energy
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr, betas=settings.betas)

    def langevin(self, s: Tensor, random: torch.Generator) -> Tensor:
        """Eq. 7 from the student's image, B x C x H x W. As in the original, unused gradients of the energy's
        parameters are computed too."""
        settings, t = self.settings, s.detach().clone()
        for _ in range(settings.steps):
            t.requires_grad_(True)
            energy_of(self.model, t, s.detach()).sum().backward()
            kick = torch.randn(t.shape, generator=random, device=t.device)
            t = (t - settings.step_size * t.grad + settings.noise * kick).detach()
        return t.clamp(-1, 1)

    def tighten(self, t: Tensor, s: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Eq. 5-6: draw the samples and update theta."""
        self.samples = self.langevin(s, random)
        self.optimizer.zero_grad()
        positive, negative = energy_of(self.model, t, s.detach()), energy_of(self.model, self.samples, s.detach())
        gap = positive.mean() - negative.mean()
        size = self.settings.l2 * (positive**2 + negative**2).mean()
        (gap + size).backward()
        self.optimizer.step()
        self.model.power_iteration()
        return {"energy": gap, "energy_magnitude": size}

    def student_term(self, t: Tensor, s: Tensor) -> Tensor:
        """Eq. 8-10."""
        gap = energy_of(self.model, t, s).mean() - energy_of(self.model, self.samples, s).mean()
        return self.settings.weight * gap
