"""OMGD's deep teachers and the published discriminators, written from their descriptions with their state-dict names.

References for our networks and loaders, as `published.py` is; nothing here imports vemcompress.
"""

import torch
from published import BATCH, INSTANCE, Block
from torch import Tensor, nn


class Widening(nn.Module):
    """1x1 to four times the channels behind a reflected border, 3x3, 1x1 back, 3x3; the input is added."""

    def __init__(self, channels: int, norm):
        super().__init__()
        bias, layers = norm is not BATCH, [nn.ReflectionPad2d(1)]
        for inputs, outputs, kernel in ((1, 4, 1), (4, 4, 3), (4, 1, 1)):
            layers.append(nn.Conv2d(inputs * channels, outputs * channels, kernel, bias=bias))
            layers += [norm(outputs * channels), nn.ReLU(True)]
        layers += [nn.Dropout(0.0), nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm(channels)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_block(x) + x


class DeepSkip(nn.Module):
    """One level of the deep U-Net; `level` 0 is the outermost, and the innermost has no `sub`."""

    def __init__(self, level: int, outer: int, inner: int, inputs: int, sub: nn.Module | None, norm):
        super().__init__()
        self.level, bias = level, norm is not BATCH
        down = nn.Conv2d(inputs, inner, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(inner * (2 if sub else 1), outer, 4, 2, 1, bias=bias or level == 0)
        leaky, relu = nn.LeakyReLU(0.2, True), nn.ReLU(True)

        def two(channels: int) -> list[nn.Module]:
            return [Widening(channels, norm), Widening(channels, norm)]

        if level == 0:
            order = [down, *two(inner), sub, *two(2 * inner), relu, up, nn.Tanh()]
        elif sub is None:
            order = [leaky, down, relu, up, norm(outer)]
        else:
            order = [leaky, down, norm(inner), *two(inner), sub, relu, up, norm(outer), *two(outer), nn.Dropout(0.0)]
        self.model = nn.Sequential(*order)

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return torch.cat((x, y), 1) if self.level else y


class DeepUnet(nn.Module):
    """`unet_deepest` of `downs` levels."""

    def __init__(self, width: int, downs: int, *, channels=(3, 3), norm=BATCH):
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(downs)]
        skip = None
        for level in range(downs - 1, 0, -1):
            skip = DeepSkip(level, widths[level - 1], widths[level], widths[level - 1], skip, norm)
        self.model = DeepSkip(0, channels[1], width, channels[0], skip, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class DeepMobile(nn.Module):
    """`mobile_deepest_resnet`: every step is followed by a widening block and a dense 3x3."""

    def __init__(self, width: int, blocks: int = 9, *, channels=(3, 3), norm=INSTANCE):
        super().__init__()
        bias, n = norm is not BATCH, width

        def step(first: nn.Module, outputs: int) -> list[nn.Module]:
            dense = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
            start = [first, norm(outputs), nn.ReLU(True)]
            return [*start, Widening(outputs, norm), dense, norm(outputs), nn.ReLU(True)]

        def down(inputs: int) -> list[nn.Module]:
            return step(nn.Conv2d(inputs, 2 * inputs, 3, 2, 1, bias=bias), 2 * inputs)

        def up(inputs: int) -> list[nn.Module]:
            first = nn.ConvTranspose2d(inputs, inputs // 2, 3, 2, 1, output_padding=1, bias=bias)
            return step(first, inputs // 2)

        def mobile(count: int) -> list[nn.Module]:
            blocks = [Block(4 * n, 4 * n, norm, True, True) for _ in range(count)]
            for block in blocks:
                block.conv_block[4].p = 0.0  # the dropout is there and does nothing, in every published script
            return blocks

        stem = [nn.ReflectionPad2d(3), nn.Conv2d(channels[0], n, 7, bias=bias), norm(n), nn.ReLU(True)]
        middle = [Widening(4 * n, norm), Widening(4 * n, norm)]
        trunk = [*mobile(blocks // 2), *middle, *mobile(blocks - blocks // 2)]
        head = [nn.ReflectionPad2d(3), nn.Conv2d(n, channels[1], 7), nn.Tanh()]
        self.model = nn.Sequential(*stem, *down(n), *down(2 * n), *trunk, *up(4 * n), *up(2 * n), *head)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, True)


class NLayers(nn.Module):
    """`n_layers`."""

    def __init__(self, channels: int, width: int, layers: int = 3, norm=INSTANCE):
        super().__init__()
        bias, previous = norm is not BATCH, width
        modules = [nn.Conv2d(channels, width, 4, 2, 1), leaky()]
        for n in range(1, layers + 1):
            current = width * min(2**n, 8)
            stride = 1 if n == layers else 2
            modules += [nn.Conv2d(previous, current, 4, stride, 1, bias=bias), norm(current), leaky()]
            previous = current
        self.model = nn.Sequential(*modules, nn.Conv2d(previous, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Pixels(nn.Module):
    """`pixel`."""

    def __init__(self, channels: int, width: int, norm=INSTANCE):
        super().__init__()
        n, bias = width, norm is not BATCH
        middle = [nn.Conv2d(n, 2 * n, 1, bias=bias), norm(2 * n), leaky()]
        self.net = nn.Sequential(nn.Conv2d(channels, n, 1), leaky(), *middle, nn.Conv2d(2 * n, 1, 1, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Part(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class MultiNLayers(nn.Module):
    """`multi_n_layers`; the teacher (1 wide, 2 deep) is an argument here, a global flag in the original."""

    def __init__(self, channels: int, width: int, n_share: int, norm=INSTANCE):
        super().__init__()
        self.n_share, n, bias = n_share, width, norm is not BATCH

        def middle(inputs: int, outputs: int, stride: int) -> nn.Module:
            return Part(nn.Conv2d(inputs, outputs, 4, stride, 1, bias=bias), norm(outputs), leaky())

        makers = (
            lambda: Part(nn.Conv2d(channels, n, 4, 2, 1), leaky()),
            lambda: middle(n, 2 * n, 2),
            lambda: middle(2 * n, 4 * n, 2),
            lambda: middle(4 * n, 8 * n, 1),
            lambda: Part(nn.Conv2d(8 * n, 1, 4, 1, 1)),
        )
        for number, make in enumerate(makers, start=1):
            self.add_module(f"block{number}s", nn.ModuleList((make(), make())))

    def forward(self, x: Tensor, teacher_id: int) -> Tensor:
        for number in range(1, 6):
            copies = getattr(self, f"block{number}s")
            x = copies[-1 if self.n_share > number - 1 else teacher_id - 1](x)
        return x
