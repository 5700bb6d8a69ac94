"""Steps of StyleGAN2's training as the rosinality code and CAGC's make them, of the networks of published_stylegan2."""

import math

import torch
import torch.nn.functional as F
from published_stylegan2 import Discriminator, Generator
from toys import random

from vemcompress.data.batch import Batch
from vemcompress.training.optimizers import Runner
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load_generator

WIDTHS = [8, 8, 8, 8, 6, 6]
LAYERS, SIDES, SIZE = 6, (4, 8, 8, 16, 16), 4  # the batch's
DECAY = 0.5 ** (32 / 10_000)
STEPS = 6  # R1 at steps 1 and 5, path lengths at 1, 4
R1_EVERY, PATH_EVERY = 4, 3


def checkpoint(path, g, d, g_ema):
    torch.save({"g": g.state_dict(), "d": d.state_dict(), "g_ema": g_ema.state_dict()}, path)
    return path


def published(seed: int = 0):
    torch.manual_seed(seed)
    g, d = Generator(WIDTHS), Discriminator([6, 8, 8])
    for network in (g, d):  # noise and biases take part
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return g, d


class Draws:
    """The random numbers of some steps, in the order in which both take them."""

    def __init__(self):
        self.source, self.indices = random(5), iter([3, 6, 1] * 20)

    def normal(self, *shape):
        return torch.randn(shape, generator=self.source, dtype=torch.float64)

    def index(self):
        return next(self.indices)


def mixture(draws, z):
    """z, a second z, and from which of the 6 layers on its styles serve."""
    index = draws.index()
    return z, None if index == LAYERS else draws.normal(*z.shape), index


def mapped(g, mixed):
    z, other, index = mixed
    first = g.style(z)[:, None]
    if other is None:
        return first.repeat(1, LAYERS, 1)
    return torch.cat([first.repeat(1, index, 1), g.style(other)[:, None].repeat(1, LAYERS - index, 1)], 1)


def noises(draws, count):
    return [draws.normal(count, 1, side, side) for side in SIDES]


def image_of(g, draws, z):
    """Noise first, then what mixes: the order of the draws alone."""
    noise = noises(draws, len(z))
    return g.synthesis(mapped(g, mixture(draws, z)), noise)


def published_steps(g, d, batches, draws, distilled=None):
    """The trainer's loop; returns the averaged generator's parameters, and the mean path length. `distilled` gives
    what a student's loss has besides, from its z, w of them, and image."""
    ema = {name: p.detach().clone() for name, p in g.named_parameters()}
    g_ratio, d_ratio = PATH_EVERY / (PATH_EVERY + 1), R1_EVERY / (R1_EVERY + 1)
    g_optim = torch.optim.Adam(g.parameters(), lr=0.002 * g_ratio, betas=(0**g_ratio, 0.99**g_ratio))
    d_optim = torch.optim.Adam(d.parameters(), lr=0.002 * d_ratio, betas=(0**d_ratio, 0.99**d_ratio))
    mean_path = torch.zeros((), dtype=torch.float64)
    for i, (z, real) in enumerate(batches):
        judged_z = draws.normal(*z.shape)
        with torch.no_grad():
            judged = image_of(g, draws, judged_z)
        noise = noises(draws, len(z))
        mixed = mixture(draws, z)
        w = mapped(g, mixed)
        loss = F.softplus(-d(real)).mean() + F.softplus(d(judged)).mean()
        d.zero_grad()
        loss.backward()
        d_optim.step()
        if i % R1_EVERY == 0:
            image = real.clone().requires_grad_(True)
            scores = d(image)
            (grad,) = torch.autograd.grad(scores.sum(), image, create_graph=True)
            penalty = grad.pow(2).reshape(len(grad), -1).sum(1).mean()
            d.zero_grad()
            (10 / 2 * penalty * R1_EVERY + 0 * scores[0, 0]).backward()
            d_optim.step()
        fake = g.synthesis(w, noise)
        # The teacher's draws come before those of the path lengths.
        loss = F.softplus(-d(fake)).mean() + (distilled(i, mixed, w, fake) if distilled else 0)
        g.zero_grad()
        loss.backward()
        g_optim.step()
        if i % PATH_EVERY == 0:
            z = draws.normal(max(1, len(z) // 2), z.shape[1])
            w = mapped(g, mixture(draws, z))
            fake = g.synthesis(w, noises(draws, len(z)))
            weights = draws.normal(*fake.shape) / math.sqrt(fake.shape[2] * fake.shape[3])
            (grad,) = torch.autograd.grad((fake * weights).sum(), w, create_graph=True)
            lengths = torch.sqrt(grad.pow(2).sum(2).mean(1))
            path_mean = mean_path + 0.01 * (lengths.mean() - mean_path)
            loss, mean_path = (lengths - path_mean).pow(2).mean(), path_mean.detach()
            g.zero_grad()
            (2 * PATH_EVERY * loss + 0 * fake[0, 0, 0, 0]).backward()
            g_optim.step()
        for name, parameter in g.named_parameters():
            ema[name] = ema[name] * DECAY + parameter.detach() * (1 - DECAY)
    return ema, mean_path


def our_steps(learner, gan, monkeypatch):
    """Of a learner whose StyleGAN2GAN is `gan`, by the draws of `Draws`: the batches, and each step's losses."""
    data, draws = Draws(), Draws()
    monkeypatch.setattr(gan, "normal", lambda random, *shape: draws.normal(*shape))
    monkeypatch.setattr(gan, "mixing_index", lambda chance: draws.index())
    batches = [(data.normal(SIZE, 8), data.normal(SIZE, 3, 16, 16)) for _ in range(STEPS)]
    runner, logged = Runner(learner.updates(), torch.device("cpu")), []
    for step, (z, real) in enumerate(batches, start=1):
        runner.schedule(step, STEPS, 1.0)
        out, losses = learner(Batch(z, real=real), random(step), step), {}
        for update in runner.updates:
            if update.due(step):
                losses |= runner.apply(update, out, step)
        logged.append({name: value.item() for name, value in losses.items()})
    return batches, logged


def networks_after(path, g, d, batches, draws, distilled=None):
    """The published networks, averaged generator and discriminator, after their steps, and the mean path length."""
    ema, mean_path = published_steps(g, d, batches, draws, distilled)
    averaged = Generator(WIDTHS)
    averaged.load_state_dict(g.state_dict() | ema)
    after = checkpoint(path, g, d, averaged)
    return load_generator(after), load_discriminator(after), mean_path.item()


def assert_alike(mine, theirs):
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.allclose(p.float(), q, atol=1e-6), name
