"""GCC in whole iterations against the published ones, written out in plain PyTorch (`published_gcc`).

In double precision, as `gans_toys` says. The networks are those of `published_latent` and `published_gans`, but for the
U-Net and the mobile ResNet, which have tests of their own.
"""

from copy import deepcopy

import pytest
import torch
from gans_toys import CPU, assert_same_weights
from published_gans import NLayers
from published_gcc import (
    MaskedNLayers,
    Side,
    Weights,
    cycle_step,
    listed_by_type,
    mask_step,
    patch_features,
    two_player_step,
    weights_of,
)
from published_latent import SAGANDiscriminator, SAGANGenerator
from torch import nn
from torch.optim import Adam
from toys import random, toy_teacher

from vemcompress.algorithms import Parts
from vemcompress.algorithms.gcc import GCC, PUBLISHED
from vemcompress.data.batch import Batch
from vemcompress.gans import CycleGAN, LatentGAN, Pix2Pix
from vemcompress.gans.pool import ImagePool
from vemcompress.gans.teachers import Online
from vemcompress.information.base import Information
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer

STEPS, CONSTANT = 3, 1 / 3
FACTORS = (1.0, 2 / 3, 1 / 3)  # of the student's rates; the teacher's and the masks' stay
TAU, IMAGE = 0.4, 0.3


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Also where the losses ask for float32."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def gcc(gan, student, kind: str, lr: float, betas: tuple[float, float], **options) -> GCC:
    torch.manual_seed(4)
    own = {"image": IMAGE, "threshold": TAU, "mask_period": 1 / 3 if kind == "domains" else 0.0, **options}
    settings = GCC.Settings(**PUBLISHED[kind] | own)
    optimizer = Optimizer(lr, betas)
    parts = Parts(Online(gan), student, Information(), optimizer, paired=kind == "pairs", gan=gan)
    algorithm = GCC(settings, parts).double().train()
    for i, gate in enumerate(algorithm._gates()):  # open ones, shut ones, and some beyond the bounds
        gate.alpha.data = torch.rand(gate.alpha.shape, generator=random(i), dtype=torch.double) * 1.4 - 0.2
    return algorithm


def trained(algorithm: GCC, given: list[Batch]) -> list[dict[str, float]]:
    runner, log = Runner(algorithm.updates(), CPU), []
    for step, batch in enumerate(given, start=1):
        runner.schedule(*algorithm.clock(step, STEPS), CONSTANT)
        out, losses = algorithm(batch, random(step), step), {}
        for update in runner.updates:
            losses |= runner.apply(update, out, step)
        log.append({name: value.item() for name, value in losses.items()})
    return log


def slower(step: int, *optimizers: Adam) -> None:
    for optimizer in optimizers:
        optimizer.param_groups[0].setdefault("full", optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["full"] * FACTORS[step]


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=random(seed), dtype=torch.double) * 2 - 1


def assert_same_log(found, expected) -> None:
    for step, wanted in zip(found, expected, strict=True):
        assert step == pytest.approx(wanted, rel=1e-6)


# -- the same weights in both ----------------------------------------------------------------------------------------


def with_names_of_gcc(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of a SAGAN, or of its discriminator, by the published names."""
    spectral, found = {"weight": "weight_bar", "u": "weight_u", "v": "weight_v"}, {}
    for name, value in network.state_dict().items():
        kind, number, *leaf = name.split(".")
        leaf = ".".join(leaf)
        match kind:
            case "ups" | "convs":
                theirs = f"l{int(number) + 1}.0.module.{spectral.get(leaf, leaf)}"
            case "norms" | "gates":
                theirs = f"l{int(number) + 1}.1.{leaf}"
            case "attentions":
                theirs = f"attn{int(number) + 1}.{leaf.replace('.', '_conv.')}"
            case "head":
                theirs = f"last.0.{number}"
        found[theirs] = value.clone()
    return found


def same_leaves(ours: nn.Module, theirs: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Layers with weights, one by one in the order of a pass."""
    leaves = [[m for m in network.modules() if list(m.parameters(recurse=False))] for network in (ours, theirs)]
    return list(zip(*leaves, strict=True))


def copied(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    theirs.double().train()
    if isinstance(theirs, SAGANGenerator | SAGANDiscriminator):
        theirs.load_state_dict(with_names_of_gcc(ours))
    else:
        for mine, their in same_leaves(ours, theirs):
            their.load_state_dict(mine.state_dict())
    return theirs


def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    if isinstance(theirs, SAGANGenerator | SAGANDiscriminator):
        found, wanted = with_names_of_gcc(ours), theirs.state_dict()
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.allclose(found[name], value, rtol=1e-6, atol=1e-8), name
    else:
        for mine, their in same_leaves(ours, theirs):
            assert_same_weights(mine, their)


# -- one test for each kind of GAN -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("double_steps", "vector_steps", "average"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_iterations_of_sagan_are_the_published_ones(double_steps, vector_steps, average):
    torch.manual_seed(3)
    gan = LatentGAN(LatentGAN.Settings(), generator=toy_teacher("sagan", 0, levels=4, width=8))
    student = toy_teacher("sagan", 1, levels=4, width=8).train()
    for gamma in [p for net in (gan, student) for n, p in net.named_parameters() if n.endswith("gamma")]:
        gamma.data.fill_(0.5)
    options = {"double_steps": double_steps, "vector_steps": vector_steps, "average": average}
    algorithm = gcc(gan, student, "latent", 1e-4, (0.0, 0.9), **options)
    for i, judge in enumerate(algorithm.own.discriminators().values()):
        for j, attention in enumerate(judge.attentions):
            attention.gamma.data.fill_(0.3 + 0.1 * (i + j))
    ours = [gan.generator, gan.discriminator, student, algorithm.own.discriminator]
    shapes = (SAGANGenerator(8), SAGANDiscriminator(8), SAGANGenerator(8), SAGANDiscriminator(8, TAU))
    g_t, d_t, g_s, d_s = theirs = [copied(*pair) for pair in zip(ours, shapes, strict=True)]
    if vector_steps:  # as published switching a discriminator on switches its vectors on
        for vector in (p for judge in (d_t, d_s) for p in judge.parameters()):
            vector.requires_grad_(True)
    connectors = deepcopy(algorithm.connectors[0])
    listed, betas = listed_by_type if double_steps else weights_of, (0.0, 0.9)
    teacher = Side([g_t], [d_t], [g_t.with_features], Adam(weights_of(g_t), 1e-4, betas), None)
    teacher.of_judges = Adam(weights_of(d_t), 4e-4, betas)
    of_student = Adam([*connectors.parameters(), *listed(g_s)], 1e-4, betas, foreach=False)
    student_side = Side([g_s], [d_s], [g_s.with_features], of_student, Adam(listed(d_s), 4e-4, betas, foreach=False))
    of_masks = Adam([p for n, p in d_s.named_parameters() if n.endswith("alpha")], 1e-4)
    weights, averages, given, expected = Weights("hinge", 1.0, 1.0, image=IMAGE), [0.0], [], []
    for step in range(STEPS):
        z = torch.randn(2, 2, 128, generator=random(step), dtype=torch.double)
        x = images(step, 2, 2, 3, 64, 64)
        given.append(Batch(z[0], real=x[0], second=Batch(z[1], real=x[1])))
        slower(step, of_student, student_side.of_judges)
        losses = two_player_step(teacher, student_side, d_t.with_features, connectors, weights, z[0], None, x[0])
        beta = 1 - step / STEPS if average else 1.0
        losses |= mask_step(teacher, student_side, weights, of_masks, [z[1]], None, [x[1]], averages, beta)
        expected.append(losses)
    assert_same_log(trained(algorithm, given), expected)
    for mine, their in zip(ours, theirs, strict=True):
        assert_same(mine, their)
    assert_same_weights(algorithm.connectors[0], connectors)


def test_iterations_of_pix2pix_are_the_published_ones():
    torch.manual_seed(3)
    shape = {"norm": "batch", "downs": 6}
    settings = Pix2Pix.Settings(discriminator=PatchGANConfig(width=4))
    gan = Pix2Pix(settings, generator=toy_teacher("unet", 0, **shape).train())
    algorithm = gcc(gan, toy_teacher("unet", 1, width=2, **shape).train(), "pairs", 2e-4, (0.5, 0.999))
    assert algorithm.student_taps == ("down2", "down3", "up3", "up2")
    g_t, g_s, connectors = (deepcopy(m) for m in (gan.generator, algorithm.student, algorithm.connectors[0]))
    d_t = copied(gan.discriminator, NLayers(6, 4, norm=nn.BatchNorm2d))
    d_s = copied(algorithm.own.discriminator, MaskedNLayers(6, 4, TAU))
    sides = []
    for g, d, extra in ((g_t, d_t, []), (g_s, d_s, connectors.parameters())):
        optimizers = [Adam(p, 2e-4, (0.5, 0.999)) for p in ([*extra, *g.parameters()], weights_of(d))]
        sides.append(Side([g], [d], [lambda x, g=g: with_maps(g, x, algorithm.student_taps)], *optimizers))
    of_masks = Adam([p for n, p in d_s.named_parameters() if n.endswith("alpha")], 1e-4)
    weights, averages, given, expected = Weights("hinge", 50.0, 1e4, IMAGE, 100.0, 0.5), [0.0], [], []
    for step in range(STEPS):
        a, b = images(step, 2, 2, 2, 3, 64, 64)
        given.append(Batch(a[0], target=b[0], second=Batch(a[1], target=b[1])))
        slower(step, sides[1].of_makers, sides[1].of_judges)
        losses = two_player_step(*sides, patch_features(d_t), connectors, weights, a[0], a[0], b[0])
        losses |= mask_step(*sides, weights, of_masks, [a[1]], a[1], [b[1]], averages, 1.0)
        expected.append(losses)
    assert_same_log(trained(algorithm, given), expected)
    for mine, their in ((gan.generator, g_t), (algorithm.student, g_s), (algorithm.connectors[0], connectors)):
        assert_same_weights(mine, their)
    assert_same(gan.discriminator, d_t)
    assert_same(algorithm.own.discriminator, d_s)


def with_maps(network, x, taps):
    image, maps = network.forward_with_taps(x, taps)
    return image, [maps[tap] for tap in taps]


@pytest.mark.parametrize("detached", [True, False])
def test_iterations_of_cyclegan_are_the_published_ones(detached):
    torch.manual_seed(3)
    settings = CycleGAN.Settings(pool=2, discriminator=PatchGANConfig(width=4))
    networks = [toy_teacher("mobile_resnet", seed).train() for seed in (0, 1)]
    gan = CycleGAN(settings, generator_a=networks[0], generator_b=networks[1])
    student = toy_teacher("mobile_resnet", 2, width=2).train()
    algorithm = gcc(gan, student, "domains", 2e-4, (0.5, 0.999), detached=detached)
    own, taps = algorithm.own, algorithm.student_taps
    assert taps == ("down2", "block1", "block2", "block3")
    connectors, sides = deepcopy(algorithm.connectors), []
    for part, extra in ((gan, []), (own, connectors.parameters())):
        makers = [deepcopy(g) for g in part.generators().values()]
        shape = (lambda: NLayers(3, 4)) if part is gan else (lambda: MaskedNLayers(3, 4, TAU))
        judges = [copied(d, shape()) for d in part.discriminators().values()]
        learned = [*extra, *(p for g in makers for p in g.parameters())], [p for d in judges for p in weights_of(d)]
        make = [lambda x, g=g: with_maps(g, x, taps) for g in makers]
        pools = [ImagePool(2).query for _ in judges]
        sides.append(Side(makers, judges, make, *(Adam(p, 2e-4, (0.5, 0.999)) for p in learned), pools))
    of_masks = Adam([p for d in sides[1].judges for n, p in d.named_parameters() if n.endswith("alpha")], 1e-4)
    weights = Weights("lsgan", 0.01, 10.0, IMAGE, half=0.5, root=False)
    averages, given, expected = [0.0, 0.0], [], []
    features = [patch_features(d) for d in sides[0].judges]
    for step in range(STEPS):
        a, b = images(step, 2, 2, 2, 3, 32, 32)
        given.append(Batch(a[0], real=b[0], second=Batch(a[1], real=b[1])))
        slower(step, sides[1].of_makers, sides[1].of_judges)
        of_masks.param_groups[0]["lr"] = 1e-4 * 0.1**step
        losses = cycle_step(*sides, features, connectors, weights, a[0], b[0], random(step + 1), detached)
        losses |= mask_step(*sides, weights, of_masks, (a[1], b[1]), None, (b[1], a[1]), averages, 1.0)
        expected.append(losses)
    assert_same_log(trained(algorithm, given), expected)
    for part, side in zip((gan, own), sides, strict=True):
        for mine, their in zip(part.generators().values(), side.makers, strict=True):
            assert_same_weights(mine, their)
        for mine, their in zip(part.discriminators().values(), side.judges, strict=True):
            assert_same(mine, their)
    assert_same_weights(algorithm.connectors, connectors)
