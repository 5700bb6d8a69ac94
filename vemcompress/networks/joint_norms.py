"""Norms with statistics over all channels: layer norm of images, and U-GAT-IT's AdaILN and ILN (Kim et al., ICLR
2020, eq. 1), which mix it with instance norm.
"""

import torch
from torch import Tensor, nn

from vemcompress.networks.slots import Slot, passes


class JointNorm(nn.Module):
    """Base class for B x C x H x W. `counted`, C ones that no file stores, weighs the channels in the joint
    statistics, so that masking a channel removes it from them, as cutting it does.
    """

    counted: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.num_features, self.eps = num_features, eps
        # Allocated even if the network is built without memory, because loading only fills what files hold.
        self.register_buffer("counted", torch.ones(num_features, device="cpu"), persistent=False)

    def moments(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Means and population variances in float32 or better: of each channel, B x C, and of all channels, B x 1."""
        # In two passes: `torch.var_mean` is up to 80 times slower on a CPU.
        mean = x.mean((2, 3))
        variance = (x - _broad(mean)).square().mean((2, 3))
        share = self.counted.to(mean) / self.counted.to(mean).sum()
        joint = (share * mean).sum(1, keepdim=True)
        return (mean, variance), (joint, (share * (variance + (mean - joint).square())).sum(1, keepdim=True))


class LayerNorm2d(JointNorm):
    """`nn.GroupNorm` with a single group, and with a scale and a shift for each channel."""

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__(num_features, eps)
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        exact = _precise(x)
        _, (mean, variance) = self.moments(exact)
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul(_broad(self.bias - mean * scale), exact, _broad(scale)).to(x.dtype)


class AdaptiveNorm(JointNorm):
    """AdaILN: rho times the instance norm plus (1 - rho) times the layer norm, with unbiased variances as published;
    then times gamma plus beta, which are given, B x C. During training rho is kept within [0, 1], as the published
    code does after each step; a loaded rho is used as it is.
    """

    initial_rho = 0.9

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__(num_features, eps)
        self.rho = nn.Parameter(torch.full((1, num_features, 1, 1), self.initial_rho))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        if self.training:
            self.rho.data.clamp_(0, 1)
        exact, pixels = _precise(x), x.shape[2] * x.shape[3]
        (mean, variance), (joint, of_all) = self.moments(exact)
        values = self.counted.to(exact).sum() * pixels
        own = (variance * (pixels / (pixels - 1)) + self.eps).rsqrt()
        layer = (of_all * (values / (values - 1)) + self.eps).rsqrt()
        rho = self.rho.flatten(1)
        scale = rho * own + (1 - rho) * layer
        shift = beta - gamma * (rho * mean * own + (1 - rho) * joint * layer)
        return torch.addcmul(_broad(shift), exact, _broad(gamma * scale)).to(x.dtype)


class LayerInstanceNorm(AdaptiveNorm):
    """ILN: AdaILN with a learned gamma and beta."""

    initial_rho = 0.0

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__(num_features, eps)
        self.gamma = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, num_features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, self.gamma.flatten(1), self.beta.flatten(1))


def passes_jointly(layer: str) -> tuple[Slot, ...]:
    """The channels of such a norm. They are also read, for its statistics."""
    counted = Slot(f"{layer}.counted", 0, role="read")
    return (*passes(layer), *(Slot(f"{layer}.{leaf}", 1) for leaf in ("rho", "gamma", "beta")), counted)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.double else x.float()


def _broad(channels: Tensor) -> Tensor:
    return channels[:, :, None, None]
