"""Toy networks for the tests of exports."""

import torch
from torch import nn

from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.attention import SelfAttention
from vemcompress.networks.spectral import Spectral

TOYS = {
    "resnet": {"family": "resnet", "width": 8, "blocks": 1, "norm": "batch"},
    "mobile_resnet": {"family": "mobile_resnet", "width": 8, "blocks": 1},
    "unet_batch": {"family": "unet", "width": 8, "downs": 4, "norm": "batch"},
    "unet_instance": {"family": "unet", "width": 8, "downs": 4, "norm": "instance", "in_channels": 1},
    "cartoongan": {"family": "cartoongan", "width": 8, "blocks": 1},
    "srgan": {"family": "srgan", "width": 8, "blocks": 1},
    "srvgg": {"family": "srvgg", "width": 8, "blocks": 1, "scale": 3},
    "rrdb_by_2": {"family": "rrdb", "width": 8, "blocks": 1, "scale": 2},
    "of_labels": {"family": "mobile_resnet", "width": 8, "blocks": 1, "in_channels": 11, "out_channels": 3},
}


def toy(name: str) -> nn.Module:
    """With lively weights and statistics: an output near zero would agree with anything."""
    torch.manual_seed(0)
    model = build_generator(parse_config(TOYS[name]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.05, 0.3)
    return model.eval()


LATENTS = {
    "dcgan": {"family": "dcgan", "width": 8, "levels": 2, "latent": 6, "prior": "uniform"},
    "sagan": {"family": "sagan", "width": 8, "levels": 2, "latent": 6},
    "stylegan2": {"family": "stylegan2", "width": 8, "size": 16, "latent": 6, "mapping": 2},
}


def latent_toy(name: str) -> nn.Module:
    """From latent vectors, with images that are not grey, and self-attention at work."""
    return as_trained(LATENTS[name], variance=(0.01, 0.03))


def as_trained(config: dict, *, variance: tuple[float, float] = (0.5, 1.5)) -> nn.Module:
    """A generator of random weights whose norms and self-attention are at work, as after training; its BatchNorms'
    variances lie within `variance`."""
    torch.manual_seed(0)
    model = build_generator(parse_config(config))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, *variance)
        elif isinstance(module, SelfAttention):
            nn.init.constant_(module.gamma, 0.7)
        elif isinstance(module, Spectral):
            module.converge()
    return model.eval()


class Small(nn.Module):
    """A foreign network: no Config, no contract."""

    def __init__(self, extra: nn.Module | None = None):
        super().__init__()
        self.conv, self.extra = nn.Conv2d(3, 3, 3, padding=1), extra or nn.Identity()

    def forward(self, x):
        return self.extra(self.conv(x))
