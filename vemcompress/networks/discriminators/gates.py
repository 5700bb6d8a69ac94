"""Learned gates that switch a discriminator's channels on and off (GCC's selective activation)."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Multiplies B x C x H x W by one mask per channel: (sign(alpha - threshold) + 1) / 2, so 1 above the threshold,
    0 below it, and 0.5 at it. alpha starts at 1; its gradient passes straight through the mask.
    """

    def __init__(self, channels: int, threshold: float):
        super().__init__()
        self.alpha, self.threshold = nn.Parameter(torch.ones(channels)), threshold

    def mask(self) -> Tensor:
        hard = (torch.sign(self.alpha.detach() - self.threshold) + 1) / 2
        return hard + (self.alpha - self.alpha.detach())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask().to(x.dtype).view(1, -1, 1, 1)

    @torch.no_grad()
    def clip(self) -> None:
        """Clip alpha to [0, 1], as published before each of its steps."""
        self.alpha.clamp_(0, 1)
