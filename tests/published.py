"""The published generators, written from their descriptions with their published state-dict names.

They are references for the loader: our networks must give the same images from the same files. Nothing here imports
vemcompress.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INSTANCE, BATCH = nn.InstanceNorm2d, nn.BatchNorm2d


class Separable(nn.Module):
    """GAN-Compression's separable convolution: depthwise, instance norm whatever the network's norm is, pointwise."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, groups=inputs), nn.InstanceNorm2d(inputs), nn.Conv2d(inputs, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Block(nn.Module):
    def __init__(self, width: int, inner: int, norm, dropout: bool, mobile: bool):
        super().__init__()
        bias = norm is not BATCH

        def conv(inputs: int, outputs: int) -> nn.Module:
            return Separable(inputs, outputs) if mobile else nn.Conv2d(inputs, outputs, 3, bias=bias)

        middle = [nn.Dropout(0.5)] if dropout else []
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), conv(width, inner), norm(inner), nn.ReLU(True)),
            *middle,
            *(nn.ReflectionPad2d(1), conv(inner, width), norm(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """CycleGAN's generator; `widths` are those of stem, down, down, up, up and `inner` those of the blocks."""

    def __init__(self, widths, inner, *, channels=(3, 3), norm=INSTANCE, dropout=False, mobile=False):
        super().__init__()
        stem, down, trunk, up, last = widths
        bias = norm is not BATCH

        def upsample(inputs: int, outputs: int) -> nn.Module:
            return nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=bias)

        self.model = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(channels[0], stem, 7, bias=bias), norm(stem), nn.ReLU(True)),
            *(nn.Conv2d(stem, down, 3, 2, 1, bias=bias), norm(down), nn.ReLU(True)),
            *(nn.Conv2d(down, trunk, 3, 2, 1, bias=bias), norm(trunk), nn.ReLU(True)),
            *(Block(trunk, width, norm, dropout, mobile) for width in inner),
            *(upsample(trunk, up), norm(up), nn.ReLU(True)),
            *(upsample(up, last), norm(last), nn.ReLU(True)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(last, channels[1], 7), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Inception(nn.Module):
    """CAT's block: `res` and `dw` are the branches' (kernel size, width); no branch, no change."""

    def __init__(self, trunk: int, res, dw, norm, bias: bool):
        super().__init__()

        def step(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Module:
            conv = nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=bias)
            return nn.Sequential(conv, norm(outputs), nn.ReLU(True))

        def pad(kernel: int) -> nn.Module:
            return nn.ReflectionPad2d(kernel // 2)

        self.res_ops = nn.ModuleList(
            nn.Sequential(
                *(pad(k), step(trunk, m, k), nn.Dropout(0), pad(k), nn.Conv2d(m, trunk, k, bias=bias)),
            )
            for k, m in res
        )
        self.dw_ops = nn.ModuleList(
            nn.Sequential(
                *(step(trunk, m, 1), pad(k), step(m, m, k, m), nn.Dropout(0), nn.Conv2d(m, trunk, 1, bias=bias)),
            )
            for k, m in dw
        )
        self.pw_bn = norm(trunk)

    def forward(self, x: Tensor) -> Tensor:
        branches = [*self.res_ops, *self.dw_ops]
        return x + self.pw_bn(sum(branch(x) for branch in branches)) if branches else x


class InceptionGenerator(nn.Module):
    """CAT's generator; `blocks` has (res, dw) as of `Inception`."""

    def __init__(self, widths, blocks, *, norm, bias: bool):
        super().__init__()
        stem, down, trunk, up, last = widths
        more = {"stride": 2, "padding": 1, "bias": bias}
        self.down_sampling = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(3, stem, 7, bias=bias), norm(stem), nn.ReLU(True)),
            *(nn.Conv2d(stem, down, 3, **more), norm(down), nn.ReLU(True)),
            *(nn.Conv2d(down, trunk, 3, **more), norm(trunk), nn.ReLU(True)),
        )
        self.features = nn.Sequential(*(Inception(trunk, res, dw, norm, bias) for res, dw in blocks))
        self.up_sampling = nn.Sequential(
            *(nn.ConvTranspose2d(trunk, up, 3, output_padding=1, **more), norm(up), nn.ReLU(True)),
            *(nn.ConvTranspose2d(up, last, 3, output_padding=1, **more), norm(last), nn.ReLU(True)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(last, 3, 7), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.up_sampling(self.features(self.down_sampling(x)))


class Blur(nn.Module):
    """CUT's blur pools: down by [1, 2, 1] and stride 2, up by a transposed convolution with [1, 3, 3, 1]."""

    def __init__(self, channels: int, up: bool):
        super().__init__()
        self.up, line = up, torch.tensor([1.0, 3, 3, 1] if up else [1.0, 2, 1])
        self.register_buffer("filt", (line[:, None] * line / 16).expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        groups = len(self.filt)
        if not self.up:
            return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=groups)
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(x, self.filt, stride=2, padding=2, groups=groups)[:, :, 1:-1, 1:-1]


class CutGenerator(nn.Module):
    """CUT's generator; each side is anti-aliased or CycleGAN's."""

    def __init__(self, width: int, blocks: int, *, down: bool = True, up: bool = True):
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), INSTANCE(width), nn.ReLU()]
        for n in (width, 2 * width):
            layers += [nn.Conv2d(n, 2 * n, 3, 1 if down else 2, 1), INSTANCE(2 * n), nn.ReLU()]
            layers += [Blur(2 * n, False)] if down else []
        layers += [Block(4 * width, 4 * width, INSTANCE, False, False) for _ in range(blocks)]
        for n in (4 * width, 2 * width):
            plain = nn.ConvTranspose2d(n, n // 2, 3, 2, 1, output_padding=1)
            layers += [Blur(n, True), nn.Conv2d(n, n // 2, 3, 1, 1)] if up else [plain]
            layers += [INSTANCE(n // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class UpsampleGenerator(nn.Module):
    """PyTorch-GAN's CycleGAN generator: `nn.Upsample` and a convolution, blocks with `block`."""

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.block = Block(width, width, INSTANCE, False, False).conv_block

        def forward(self, x: Tensor) -> Tensor:
            return x + self.block(x)

    def __init__(self, width: int, blocks: int, channels: int = 3):
        super().__init__()
        layers = [nn.ReflectionPad2d(channels), nn.Conv2d(channels, width, 7), INSTANCE(width), nn.ReLU()]
        for n in (width, 2 * width):
            layers += [nn.Conv2d(n, 2 * n, 3, 2, 1), INSTANCE(2 * n), nn.ReLU()]
        layers += [self.Block(4 * width) for _ in range(blocks)]
        for n in (4 * width, 2 * width):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(n, n // 2, 3, 1, 1), INSTANCE(n // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(channels), nn.Conv2d(width, channels, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class NamedGenerator(nn.Module):
    """The CycleGAN generator of a much used tutorial: named parts, reflection within the convolutions that do not go
    up."""

    class Conv(nn.Module):
        def __init__(self, inputs: int, outputs: int, down: bool = True, act: bool = True, **options):
            super().__init__()
            kind = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect", **options) if down else None
            kind = kind or nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)
            self.conv = nn.Sequential(kind, INSTANCE(outputs), nn.ReLU() if act else nn.Identity())

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            conv = NamedGenerator.Conv
            self.block = nn.Sequential(conv(width, width), conv(width, width, act=False))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.block(x)

    def __init__(self, width: int, blocks: int, channels: int = 3):
        super().__init__()
        first = nn.Conv2d(channels, width, 7, padding=3, padding_mode="reflect")
        self.initial = nn.Sequential(first, INSTANCE(width), nn.ReLU())
        self.down_blocks = nn.ModuleList(self.Conv(n, 2 * n, stride=2) for n in (width, 2 * width))
        self.res_blocks = nn.Sequential(*(self.Block(4 * width) for _ in range(blocks)))
        self.up_blocks = nn.ModuleList(self.Conv(n, n // 2, down=False) for n in (4 * width, 2 * width))
        self.last = nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        h = self.initial(x)
        for layer in self.down_blocks:
            h = layer(h)
        h = self.res_blocks(h)
        for layer in self.up_blocks:
            h = layer(h)
        return self.last(h).tanh()


class Skip(nn.Module):
    """One level of the pix2pix U-Net. Its LeakyReLU works in place, so the skip carries the activated map."""

    def __init__(
        self, outer: int, inner: int, inputs: int, sub: nn.Module | None, norm, dropout: bool, outermost: bool
    ):
        super().__init__()
        self.outermost, bias = outermost, norm is not BATCH
        down = nn.Conv2d(inputs, inner, 4, 2, 1, bias=bias)
        leaky, relu = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        if outermost:
            parts = [down, sub, relu, nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1), nn.Tanh()]
        elif sub is None:
            parts = [leaky, down, relu, nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias), norm(outer)]
        else:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1, bias=bias)
            parts = [leaky, down, norm(inner), sub, relu, up, norm(outer), *([nn.Dropout(0.5)] if dropout else [])]
        self.model = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    """The pix2pix U-Net of `downs` levels (at least 2), widths n, 2n, 4n, 8n, 8n, ..."""

    def __init__(self, width: int, downs: int, *, channels=(3, 3), norm=BATCH, dropout=False):
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(downs)]
        block = None
        for level in reversed(range(1, downs)):
            block = Skip(widths[level - 1], widths[level], widths[level - 1], block, norm, dropout, False)
        self.model = Skip(channels[1], widths[0], channels[0], block, norm, False, True)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class ScaleShift(nn.Module):
    """CartoonGAN's instance norm: population variance, eps 1e-9, a scale and a shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        normal = (x - mean) / torch.sqrt(variance + 1e-9)
        return normal * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


class CartoonGenerator(nn.Module):
    """CartoonGAN as published: BGR in, BGR out."""

    def __init__(self, width: int = 64):
        super().__init__()
        n, m, k = width, 2 * width, 4 * width
        self.conv01_1, self.in01_1 = nn.Conv2d(3, n, 7), ScaleShift(n)
        for stage, inputs, outputs in (("02", n, m), ("03", m, k)):
            self.add_module(f"conv{stage}_1", nn.Conv2d(inputs, outputs, 3, 2, 1))
            self.add_module(f"conv{stage}_2", nn.Conv2d(outputs, outputs, 3, 1, 1))
            self.add_module(f"in{stage}_1", ScaleShift(outputs))
        for number in range(4, 12):
            for layer in (1, 2):
                self.add_module(f"conv{number:02}_{layer}", nn.Conv2d(k, k, 3))
                self.add_module(f"in{number:02}_{layer}", ScaleShift(k))
        for stage, norm, inputs, outputs in (("01", "12", k, m), ("02", "13", m, n)):
            self.add_module(f"deconv{stage}_1", nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1))
            self.add_module(f"deconv{stage}_2", nn.Conv2d(outputs, outputs, 3, 1, 1))
            self.add_module(f"in{norm}_1", ScaleShift(outputs))
        self.deconv03_1 = nn.Conv2d(n, 3, 7)

    def _padded(self, x: Tensor, name: str, padding: int) -> Tensor:
        return getattr(self, name)(F.pad(x, (padding,) * 4, mode="reflect"))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.in01_1(self._padded(x, "conv01_1", 3)))
        for stage, norm in (("conv02", "in02_1"), ("conv03", "in03_1")):
            h = getattr(self, f"{stage}_2")(getattr(self, f"{stage}_1")(h))
            h = F.relu(getattr(self, norm)(h))
        for n in range(4, 12):
            r = F.relu(getattr(self, f"in{n:02}_1")(self._padded(h, f"conv{n:02}_1", 1)))
            h = h + getattr(self, f"in{n:02}_2")(self._padded(r, f"conv{n:02}_2", 1))
        for stage, norm in (("deconv01", "in12_1"), ("deconv02", "in13_1")):
            h = getattr(self, f"{stage}_2")(getattr(self, f"{stage}_1")(h))
            h = F.relu(getattr(self, norm)(h))
        return self._padded(h, "deconv03_1", 3).tanh()


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and BatchNorm statistics that make every layer matter, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter.numel() / parameter.shape[0] if parameter.dim() == 4 else 25
            parameter.normal_(0.0, fan_in**-0.5, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
    return network.eval()
