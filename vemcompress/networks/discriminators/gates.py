"""Gates on a discriminator's channels, which learn to be open or shut (GCC's selective activation)."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """B x C x H x W times one mask for each channel: (sign(alpha - threshold) + 1) / 2, so 1 above the threshold, 0
    below it, a half on it. alpha begins at 1; the gradient goes straight through the mask to it."""

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
        """Bring alpha into [0, 1], as published before each of its steps."""
        self.alpha.clamp_(0, 1)
