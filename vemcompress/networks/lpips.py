"""LPIPS, a perceptual distance between images (Zhang et al., CVPR 2018), version 0.1 with linear layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vemcompress.losses.adversarial import precise
from vemcompress.networks.features import FeatureNetwork

EPS = 1e-10


class LPIPS(nn.Module):
    """The squared difference of feature maps, each scaled to unit length along its channels, weighted by channel
    (`weights`: C non-negative values for each map), averaged over pixels and summed over maps.

    Without `weights` all channels count equally, summed. This is the published form without linear layers. Its values
    differ, so it must not be called LPIPS.
    """

    def __init__(self, trunk: FeatureNetwork, weights: Sequence[Tensor] | None = None):
        super().__init__()
        self.trunk, self.learned = trunk, weights is not None
        for n, weight in enumerate(weights or ()):
            self.register_buffer(f"weight_{n}", weight.reshape(1, -1, 1, 1).float(), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The scaled maps of images B x 3 x H x W, RGB in [-1, 1], at least float32."""
        found = [precise(x) for x in self.trunk(images)]
        return [x / (x.square().sum(1, keepdim=True).sqrt() + EPS) for x in found]

    def between(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """The distance for each image, B, from two results of `maps`."""
        return sum(self._weighted(n, (t - s).square()) for n, (t, s) in enumerate(zip(teacher, student, strict=True)))

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The distance of each image pair, B, with gradients to the student's images alone."""
        with torch.no_grad():
            targets = self.maps(teacher)
        return self.between(targets, self.maps(student))

    def _weighted(self, n: int, difference: Tensor) -> Tensor:
        if self.learned:
            difference = difference * getattr(self, f"weight_{n}")
        return difference.sum(1).mean((1, 2))
