"""Reference step of CAGC, as in the original code without its CUDA kernels: a convolution kernel for each image, and
filters on maps with zeros between the pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import UsageError
from vemcompress.gans.stylegan2 import chance_of, paths_of
from vemcompress.networks.equalised import GAIN, SLOPE, EqualConv2d
from vemcompress.networks.generators.stylegan2 import StyleGAN2
from vemcompress.networks.modulated import ModulatedConv2d, StyledConv, ToRGB
from vemcompress.reference.gans import adam_of


def filtered(x: Tensor, up: int, pads: tuple[int, int], gain: float) -> Tensor:
    """Filter maps by [1, 3, 3, 1] in both directions, with the sum `gain`, after inserting up - 1 zeros behind each
    pixel."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (torch.outer(row, row) * (gain / 64)).to(x)
    b, c, h, w = x.shape
    x = F.pad(x.reshape(-1, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(-1, 1, h * up, w * up)
    x = F.conv2d(F.pad(x, (*pads, *pads)), kernel[None, None])
    return x.reshape(b, c, *x.shape[2:])


def modulated(layer: ModulatedConv2d, x: Tensor, w: Tensor) -> Tensor:
    b, (outputs, inputs, size, _) = len(x), layer.weight.shape
    weight = layer.scale * layer.weight * layer.modulation(w).view(b, 1, inputs, 1, 1)
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(b, outputs, 1, 1, 1)
    x = x.reshape(1, b * inputs, *x.shape[2:])
    if layer.up:
        weight = weight.transpose(1, 2).reshape(b * inputs, outputs, size, size)
        x = F.conv_transpose2d(x, weight, stride=2, groups=b)
        return filtered(x.view(b, outputs, *x.shape[2:]), 1, (1, 1), 4.0)
    x = F.conv2d(x, weight.view(b * outputs, inputs, size, size), padding=size // 2, groups=b)
    return x.view(b, outputs, *x.shape[2:])


class PlainStyledConv(StyledConv):
    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = modulated(self, x, w) + self.strength * noise
        return F.leaky_relu(x + self.bias.view(1, -1, 1, 1), SLOPE) * GAIN


class PlainToRGB(ToRGB):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return modulated(self, x, w) + self.bias.view(1, -1, 1, 1)


class PlainConv(EqualConv2d):
    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[2]
        weight = self.weight * (1 / math.sqrt(self.weight[0].numel()))
        if self.stride == 1:
            return F.conv2d(x, weight, self.bias, padding=kernel // 2)
        pad = 2 + kernel - 1
        x = filtered(x, 1, ((pad + 1) // 2, pad // 2), 1.0)
        return F.conv2d(x, weight, self.bias, stride=2)


class PlainGenerator(StyleGAN2):
    def synthesise(self, w: Tensor, names: tuple[str, ...] = (), noise=None) -> tuple[Tensor, dict[str, Tensor]]:
        if w.dim() == 2:
            w = w.unsqueeze(1).repeat(1, self.config.layers, 1)
        taps, image = {}, None
        x = self.constant.weight.repeat(len(w), 1, 1, 1)
        for i, conv in enumerate(self.convs):
            x = taps[f"conv{i + 1}"] = conv(x, w[:, i], noise[i])
            if i % 2 == 0:
                found = self.rgbs[i // 2](x, w[:, i + 1])
                image = found if image is None else found + filtered(image, 2, (2, 1), 4.0)
                taps[f"rgb{self.config.side(i)}"] = image
        return image, {name: taps[name] for name in names}


_PLAIN = {StyledConv: PlainStyledConv, ToRGB: PlainToRGB, EqualConv2d: PlainConv, StyleGAN2: PlainGenerator}


class Whole:
    """The whole step, with the student's optimiser and the add-on of the `PlainStep`. Raises UsageError for settings
    that the original lacks."""

    def __init__(self, plain):
        self.plain, self.algorithm = plain, plain.algorithm
        algorithm, settings = self.algorithm, self.algorithm.settings
        if settings.on != "output" or settings.feature or settings.relation or settings.mapping != "own":
            raise UsageError("--against reference: CAGC has a plain form only with its default terms; omit --against.")
        own = algorithm.own
        for network in (algorithm.student, algorithm.teacher, own.discriminator):
            for module in network.modules():
                module.__class__ = _PLAIN.get(type(module), type(module))
        algorithm.teacher.requires_grad_(False)
        self.judge = own.discriminator
        self.of_judge = adam_of(own.updates()[0].optimizer, list(self.judge.parameters()))
        self.decay = settings.ema

    def __call__(self, batch: Batch, random: torch.Generator, step: int) -> dict[str, Tensor]:
        algorithm, plain, own = self.algorithm, self.plain, self.algorithm.own
        settings, z, chance = own.settings, batch.input, chance_of(random)
        judged = own.normal(random, *z.shape).to(z)
        noise = own.noise(z, random)
        mixture = own.mixture(judged, random, chance)
        of_student, of_judge = algorithm.student, self.judge
        self._learns(of_judge)
        with torch.no_grad():
            fake, _ = of_student.synthesise(mixture.styles(of_student), (), noise)
        noise, mixture = own.noise(z, random), own.mixture(z, random, chance)
        of_teacher = own.noise(z, random)
        on_real, on_fake = F.softplus(-of_judge(batch.real)).mean(), F.softplus(of_judge(fake)).mean()
        losses = {"adversary_real": on_real, "adversary_fake": on_fake}
        self._move(self.of_judge, on_real + on_fake)
        if settings.r1 and (step - 1) % settings.r1_every == 0:
            losses["adversary_r1"] = self._r1(batch.real)
        self._learns(of_student)
        image, _ = of_student.synthesise(mixture.styles(of_student), (), noise)
        with torch.no_grad():
            shown, _ = plain.generator.synthesise(mixture.styles(plain.generator), (), of_teacher)
        if plain.vem is not None:
            losses |= plain.vem.tighten(shown, image, random)
        losses |= self._student(image, shown, random)
        if settings.path and (step - 1) % settings.path_every == 0:
            losses["path"] = self._path(z, random, chance)
        self._average()
        return losses

    def _student(self, image: Tensor, shown: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        algorithm, settings = self.algorithm, self.algorithm.settings
        terms = {"gan": algorithm.own.settings.lambda_gan * F.softplus(-self.judge(image)).mean()}
        mine, theirs = image, shown
        if algorithm.masks is not None:
            mask = algorithm.masks(shown)
            mine, theirs = mask * image, mask * shown
        terms["recon"] = settings.recon * F.l1_loss(theirs, mine)
        if algorithm.distance is not None:
            terms[algorithm.perceptual] = settings.perceptual * self._perceptual(theirs, mine).mean()
        terms |= self.plain.added(shown, image, shown, random)
        self._move(self.plain.optimizer, sum(terms.values()))
        return terms

    def _perceptual(self, theirs: Tensor, mine: Tensor) -> Tensor:
        distance, side = self.algorithm.distance, theirs.shape[2]
        if not 32 <= side <= 256:
            theirs, mine = (F.interpolate(x, 2 * (min(max(side, 32), 256),), mode="bilinear") for x in (theirs, mine))
        total = 0.0
        for n, (t, s) in enumerate(zip(distance.trunk(theirs), distance.trunk(mine), strict=True)):
            t, s = (x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10) for x in (t, s))
            found = (t - s) ** 2
            found = (
                F.conv2d(found, getattr(distance, f"weight_{n}")) if distance.learned else found.sum(1, keepdim=True)
            )
            total = total + found.mean([2, 3])
        return total

    def _r1(self, real: Tensor) -> Tensor:
        settings, real = self.algorithm.own.settings, real.detach().requires_grad_(True)
        scores = self.judge(real)
        (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = gradient.pow(2).reshape(len(real), -1).sum(1).mean()
        term = settings.r1 / 2 * penalty * settings.r1_every
        self._move(self.of_judge, term + 0 * scores.flatten()[0])
        return term

    def _path(self, z: Tensor, random: torch.Generator, chance: torch.Generator) -> Tensor:
        own, student = self.algorithm.own, self.algorithm.student
        settings = own.settings
        random = paths_of(random)
        z = own.normal(random, max(1, len(z) // settings.path_share), z.shape[1]).to(z)
        w = own.mixture(z, random, chance).styles(student)
        image, _ = student.synthesise(w, (), own.noise(z, random))
        weights = own.normal(random, *image.shape).to(image) / math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * weights).sum(), w, create_graph=True)
        lengths = torch.sqrt(gradient.pow(2).sum(2).mean(1))
        before = own.path.value
        mean = before + settings.path_decay * (lengths.mean() - before)
        term = settings.path * settings.path_every * (lengths - mean).pow(2).mean()
        self._move(self.plain.optimizer, term + 0 * image[0, 0, 0, 0])
        own.path.value = mean.detach()
        return term

    @torch.no_grad()
    def _average(self) -> None:
        """Update the moving average, one parameter after the other."""
        if self.algorithm.average is None:
            return
        learning = dict(self.algorithm.student.named_parameters())
        for name, parameter in self.algorithm.average.average.named_parameters():
            parameter.mul_(self.decay).add_(learning[name], alpha=1 - self.decay)

    def _learns(self, network: nn.Module) -> None:
        """Let only this one of the two networks receive gradients."""
        for other in (self.algorithm.student, self.judge):
            other.requires_grad_(other is network)

    def _move(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
