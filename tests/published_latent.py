"""GCC's SAGAN and pytorch/examples' DCGAN, written from their descriptions with their state-dict names.

References for our networks and loaders, as `published.py` is; nothing here imports vemcompress.
"""

import torch
from torch import Tensor, nn


class SpectralNorm(nn.Module):
    """Around a convolution: its `weight` becomes an attribute that each forward sets, in either mode, after one power
    iteration; the matrix has dimension 0 as its rows, also of a transposed convolution."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.module = layer
        weight = layer.weight
        del layer._parameters["weight"]
        rows = weight.shape[0]
        for name, size in (("weight_u", rows), ("weight_v", weight.numel() // rows)):
            vector = torch.randn(size)
            layer.register_parameter(name, nn.Parameter(vector / vector.norm(), requires_grad=False))
        layer.register_parameter("weight_bar", nn.Parameter(weight.data))

    def forward(self, x: Tensor) -> Tensor:
        layer = self.module
        bar = layer.weight_bar
        matrix = bar.reshape(bar.shape[0], -1)
        for vector, other, of in (("v", "u", matrix.t()), ("u", "v", matrix)):
            found = of.data.mv(getattr(layer, f"weight_{other}").data)
            # A new storage under the same parameter: a graph of an earlier pass has it too.
            getattr(layer, f"weight_{vector}").data = found / (found.norm() + 1e-12)
        layer.weight = bar / layer.weight_u.dot(matrix.mv(layer.weight_v))
        return layer.forward(x)


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        keys = channels // 8
        self.query_conv = nn.Conv2d(channels, keys, 1)
        self.key_conv = nn.Conv2d(channels, keys, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.query_conv(x).view(b, -1, h * w).permute(0, 2, 1)
        k = self.key_conv(x).view(b, -1, h * w)
        shares = torch.softmax(torch.bmm(q, k), dim=-1)  # a row for each query
        v = self.value_conv(x).view(b, c, h * w)
        return self.gamma * torch.bmm(v, shares.permute(0, 2, 1)).view(b, c, h, w) + x


class SAGANGenerator(nn.Module):
    """Latent vectors B x 128 to B x 3 x 64 x 64; `widths` of l1 to l4, pruned or not."""

    def __init__(self, width: int = 64, latent: int = 128, widths: list[int] | None = None):
        super().__init__()
        c1, c2, c3, c4 = widths or (8 * width, 4 * width, 2 * width, width)

        def level(inputs: int, outputs: int, stride: int, padding: int) -> nn.Sequential:
            layer = SpectralNorm(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding))
            return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())

        self.l4 = level(c3, c4, 2, 1)
        self.l1 = level(latent, c1, 1, 0)
        self.l2 = level(c1, c2, 2, 1)
        self.l3 = level(c2, c3, 2, 1)
        self.last = nn.Sequential(nn.ConvTranspose2d(c4, 3, 4, 2, 1), nn.Tanh())
        self.attn1, self.attn2 = Attention(c3), Attention(c4)

    def forward(self, z: Tensor) -> Tensor:
        return self.with_features(z)[0]

    def with_features(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Also what hooks at `l2` and `attn2` see."""
        l2 = self.l2(self.l1(z.view(z.shape[0], -1, 1, 1)))
        attended = self.attn2(self.l4(self.attn1(self.l3(l2))))
        return self.last(attended), [l2, attended]


class Masked(nn.Module):
    """A 0/1 mask by channel of alpha, whose gradient passes the mask unchanged. Only the threshold's side counts."""

    def __init__(self, channels: int, threshold: float):
        super().__init__()
        self.alpha, self.threshold = nn.Parameter(torch.ones(channels)), threshold

    def forward(self, x: Tensor) -> Tensor:
        return x * _Straight.apply(self.alpha, self.threshold)[None, :, None, None]


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, alpha: Tensor, threshold: float) -> Tensor:
        return ((alpha - threshold).sign() + 1) / 2

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


class SAGANDiscriminator(nn.Module):
    """B x 3 x 64 x 64 to B scores; with masks between convolution and LeakyReLU where there is a threshold."""

    def __init__(self, width: int = 64, threshold: float | None = None):
        super().__init__()

        def level(inputs: int, outputs: int) -> nn.Sequential:
            gate = [] if threshold is None else [Masked(outputs, threshold)]
            return nn.Sequential(SpectralNorm(nn.Conv2d(inputs, outputs, 4, 2, 1)), *gate, nn.LeakyReLU(0.1))

        self.l4 = level(4 * width, 8 * width)
        self.l1 = level(3, width)
        self.l2 = level(width, 2 * width)
        self.l3 = level(2 * width, 4 * width)
        self.last = nn.Sequential(nn.Conv2d(8 * width, 1, 4))
        self.attn1, self.attn2 = Attention(4 * width), Attention(8 * width)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_features(x)[0]

    def with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        l2 = self.l2(self.l1(x))
        attended = self.attn2(self.l4(self.attn1(self.l3(l2))))
        return self.last(attended).squeeze(), [l2, attended]


def dcgan_generator(width: int, latent: int = 100, *, bias: bool = False) -> nn.Sequential:
    """pytorch/examples' for 64 px: with `main` as its only attribute."""
    layers, inputs = [], latent
    for i, outputs in enumerate((8 * width, 4 * width, 2 * width, width)):
        layer = nn.ConvTranspose2d(inputs, outputs, 4, *((2, 1) if i else (1, 0)), bias=False)
        layers += [layer, nn.BatchNorm2d(outputs), nn.ReLU(True)]
        inputs = outputs
    return nn.Sequential(*layers, nn.ConvTranspose2d(inputs, 3, 4, 2, 1, bias=bias), nn.Tanh())


def dcgan_discriminator(width: int, *, bias: bool = False) -> nn.Sequential:
    """Its discriminator without the last sigmoid, which has no weights."""
    layers, leaky = [nn.Conv2d(3, width, 4, 2, 1, bias=bias), nn.LeakyReLU(0.2, True)], nn.LeakyReLU(0.2, True)
    for i in range(3):
        n = width * 2**i
        layers += [nn.Conv2d(n, 2 * n, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * n), leaky]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=bias))


def trained_like(network: nn.Module, seed: int = 0) -> nn.Module:
    """With weights, biases, statistics and gammas that are nothing special, so that a swap of any two shows."""
    draws = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if not name.endswith(("weight_u", "weight_v", "alpha")):
            noise = torch.randn(parameter.shape, generator=draws)
            parameter.data = parameter.data + 0.3 * noise if parameter.dim() == 1 else parameter.data + 0.05 * noise
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=draws) + 0.2)
    return network
