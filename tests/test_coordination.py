"""GCC's losses, its running average, sparse training, and updates that hold or move parts twice, by hand numbers."""

import pytest
import torch
from gans_toys import CPU
from torch import nn
from toys import random, toy_teacher

from vemcompress.algorithms import Parts
from vemcompress.algorithms.gcc import GCC, PUBLISHED, Balance
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans import CycleGAN, LatentGAN, Pix2Pix, Start
from vemcompress.gans.sparsity import Sparsity
from vemcompress.gans.teachers import Online
from vemcompress.information.base import Information
from vemcompress.losses.coordination import content, difference, style
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer, Update

# Of one image, C = 2, H x W = 1 x 2: the Grams are F F^T / 4.
TEACHER = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])  # Gram [[1, 0], [0, 4]] / 4
STUDENT = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])  # Gram [[5, 0], [0, 0]] / 4


@pytest.mark.parametrize(
    ("loss", "root", "wanted"),
    [(content, False, 2.0), (content, True, 2**0.5), (style, False, 0.5), (style, True, 0.5**0.5)],
)
def test_distances_are_means_or_their_roots_summed_over_the_maps(loss, root, wanted):
    """Differences (0, -2, 0, 2): mean square 8 / 4; of the Grams (1, 0, 0, -1): 2 / 4."""
    student = STUDENT.clone().requires_grad_(True)
    teacher = TEACHER.clone().requires_grad_(True)
    assert loss([teacher], [student], root=root).item() == pytest.approx(wanted)
    loss([teacher, teacher], [student, student], root=root).backward()
    assert loss([teacher] * 2, [student] * 2, root=root).item() == pytest.approx(2 * wanted)
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [content, style])
def test_equal_maps_have_finite_gradients(loss):
    student = TEACHER.clone().requires_grad_(True)
    found = loss([TEACHER], [student], root=True)
    found.backward()
    assert 0 <= found.item() < 1e-5 and torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [  # scores 0.5 and -3: L_G = 1.25, L_D = (1.5 + 0) / 2; squared: (0.25 + 16) / 2 and (0.25 + 9) / 2
        ("hinge", 0.5),
        ("lsgan", 3.5),
    ],
)
def test_a_difference_is_between_fooling_and_being_fooled(mode, wanted):
    assert difference(mode, torch.tensor([0.5, -3.0])).item() == pytest.approx(wanted)


def test_the_first_differences_are_taken_whole_and_later_ones_by_their_share():
    balance = Balance(2)
    balance.newest = 0.25
    assert balance(torch.tensor([4.0, 8.0])).tolist() == [4.0, 8.0]
    assert balance(torch.tensor([8.0, 0.0])).tolist() == [5.0, 6.0]
    balance.newest = 1.0
    assert balance(torch.tensor([2.0, 3.0])).tolist() == [2.0, 3.0]


def gcc(**options) -> GCC:
    torch.manual_seed(0)
    gan = LatentGAN(LatentGAN.Settings(), generator=toy_teacher("sagan", width=8))
    parts = Parts(Online(gan), toy_teacher("sagan", 1, width=8), Information(), Optimizer(1e-4, (0.0, 0.9)), gan=gan)
    return GCC(GCC.Settings(**PUBLISHED["latent"] | options), parts).train()


@pytest.mark.parametrize(("average", "shares"), [(True, [1.0, 0.75, 0.5, 0.25]), (False, [1.0] * 4)])
def test_with_an_average_the_newest_share_falls_over_the_run(average, shares):
    algorithm, found = gcc(average=average), []
    for step in range(1, 5):
        algorithm.clock(step, 4)
        found.append(algorithm.balance.newest)
    assert found == shares


def test_the_students_discriminator_is_of_the_teachers_width():
    gan = LatentGAN(LatentGAN.Settings(), generator=toy_teacher("sagan", width=8))
    own = gan.twin(toy_teacher("sagan", 1, width=5), Start("toy", {}, {}))
    assert own.discriminator.config == gan.discriminator.config


# -- updates ---------------------------------------------------------------------------------------------------------


def test_parts_moved_twice_go_twice_the_rate_at_the_first_step_and_no_others():
    """An Adam's first step is of its rate, whatever the gradient is."""
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = [p.detach().clone() for p in module.parameters()]
    x = torch.randn(4, 3, generator=random())
    terms = lambda out: {"loss": module(x).square().sum()}  # noqa: E731
    update = Update("u", {"m": module}, terms, Optimizer(0.01, (0.0, 0.9)), twice=(module[0],))
    runner = Runner([update], CPU)
    runner.apply(update, None, 1)
    for i, (old, new) in enumerate(zip(before, module.parameters(), strict=True)):
        wanted = 0.02 if i < 2 else 0.01
        assert torch.allclose((new - old).abs(), torch.full_like(old, wanted), rtol=1e-3), i
    assert {n.split(".")[1]: runner.state()[n].item() for n in runner.state() if n.endswith("step")} == {"0": 2, "1": 1}


def test_weights_and_gates_learn_apart_and_sagans_double_layers_move_twice():
    algorithm = gcc()
    runner, draw = Runner(algorithm.updates(), CPU), random()
    z, x = torch.randn(2, 4, 128, generator=draw), torch.rand(2, 4, 3, 16, 16, generator=draw)
    out = algorithm(Batch(z[0], real=x[0], second=Batch(z[1], real=x[1])), random(), 1)
    updates = {update.name: update for update in runner.updates}
    assert list(updates) == ["discriminator", "teacher", "student_discriminator", "student", "masks"]
    for name, update in updates.items():
        before = {n: p.detach().clone() for n, p in algorithm.named_parameters()}
        runner.apply(update, out, 1)
        moved = {n: (p - before[n]).abs().max().item() for n, p in algorithm.named_parameters()}
        vectors = (".u", ".v")  # every pass moves them
        moved = {n: change for n, change in moved.items() if change and not n.endswith(vectors)}
        if name == "student_discriminator":
            assert moved["own.discriminator.convs.0.weight"] == pytest.approx(2 * 4e-4, rel=0.02)
            assert moved["own.discriminator.head.weight"] == pytest.approx(4e-4, rel=0.02)
        if name == "student":
            assert moved["student.ups.1.weight"] == pytest.approx(2e-4, rel=0.02)
            assert moved["student.norms.1.weight"] == pytest.approx(1e-4, rel=0.02)
            assert any(n.startswith("connectors.") for n in moved)
        gates = {n for n in moved if n.endswith("alpha")}
        assert (gates == moved.keys()) if name == "masks" else not gates, name


# -- sparse training -------------------------------------------------------------------------------------------------


def added(gan, name: str, terms) -> dict[str, torch.Tensor]:
    """The gradients of a generator that its `sparsity` adds."""
    generator, found = gan.generators()[name], []
    for sparsity in (gan.settings.sparsity, None):
        gan.settings = gan.settings.but(sparsity=sparsity)
        generator.zero_grad()
        torch.manual_seed(0)
        sum(terms().values()).backward()
        found.append({n: p.grad.clone() for n, p in generator.named_parameters() if p.grad is not None})
    return {n: (found[0][n] - found[1][n]) for n in found[0]}


@pytest.mark.parametrize("family", ["unet", "mobile_resnet"])
def test_sparsity_adds_lambda_sign_to_the_scales_of_all_norms(family):
    generator = toy_teacher(family, norm="batch").double()
    for n, p in generator.named_parameters():
        p.data = torch.randn(p.shape, generator=random(len(n)), dtype=torch.double)
    gan = Pix2Pix(Pix2Pix.Settings(sparsity=Sparsity(), discriminator=PatchGANConfig(width=4)), generator=generator)
    gan.double().train()
    a, b = torch.rand(2, 2, 3, 32, 32, generator=random(), dtype=torch.double)
    found = added(gan, "teacher", lambda: gan.generator_terms("teacher", gan(Batch(a, target=b), random())))
    scales = {f"{n}.weight" for n, m in generator.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, gradient in found.items():
        weight = dict(generator.named_parameters())[name]
        wanted = 0.01 * weight.sign() if name in scales else torch.zeros_like(weight)
        assert torch.allclose(gradient, wanted, atol=1e-9), name


def test_sparsity_of_cyclegan_adds_to_all_convolutions_with_published_factors():
    networks = [toy_teacher("mobile_resnet", seed).double() for seed in (0, 1)]
    settings = CycleGAN.Settings(sparsity=Sparsity(), discriminator=PatchGANConfig(width=4))
    gan = CycleGAN(settings, generator_a=networks[0], generator_b=networks[1]).double().train()
    a, b = torch.rand(2, 1, 3, 32, 32, generator=random(), dtype=torch.double)
    factors = {"stem": 2.0, "down1": 2.0, "up1": 1000.0, "up2": 2.0}
    for side in ("generator_a", "generator_b"):
        gan.settings = settings
        found = added(gan, side, lambda: gan.generator_terms(gan(Batch(a, real=b), random())))
        for name, weight in gan.generators()[side].named_parameters():
            factor = 0.0 if name.endswith("bias") else factors.get(name.split(".")[0], 1.0)
            assert torch.allclose(found[name], 1e-3 * factor * weight.sign(), atol=1e-9), name


def test_sparsity_of_scales_needs_norms_that_have_them():
    networks = [toy_teacher("mobile_resnet", seed) for seed in (0, 1)]
    settings = CycleGAN.Settings(sparsity=Sparsity(on="scales"), discriminator=PatchGANConfig(width=4))
    gan = CycleGAN(settings, generator_a=networks[0], generator_b=networks[1])
    with pytest.raises(RecipeError, match="norms of this mobile_resnet have no scales"):
        gan.sparse_terms("generator_a")
