"""Online OMGD in step: whole steps against the published order and losses, written out in plain PyTorch.

The original's losses run in float32; here both sides run in double, so that only a difference in the mathematics shows.
"""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from gans_toys import CPU, adam, as_batch, assert_same_weights, batches, copies, statistics, toy_unet
from torch import nn
from toys import random, toy_teacher

from vemcompress.algorithms import Parts
from vemcompress.algorithms.omgd import OMGD
from vemcompress.gans import CycleGAN, Pix2PixTeachers
from vemcompress.gans.pool import ImagePool
from vemcompress.gans.teachers import Online
from vemcompress.information import build_information
from vemcompress.information.vem import VEM
from vemcompress.information.vid import VID
from vemcompress.networks.discriminators import PatchGANConfig, SharedPatchGANConfig
from vemcompress.networks.features import FeatureNetwork
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer

SIZE, EPOCH, CONSTANT, DECAYING = 32, 1, 1, 2  # in steps a epoch, and in epochs
LAMBDA = {"ssim": 10.0, "style": 1e4, "feature": 10.0, "tv": 1e-5, "channel": 50.0}
VEM_SETTINGS = {"weight": 0.2, "channels": 2, "steps": 3, "step_size": 50.0}


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Also where the losses ask for float32."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def trunk() -> nn.Sequential:
    """VGG's beginning, narrower: the maps after modules 1, 3, 6 and 8 count."""
    torch.manual_seed(5)
    convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 4), (4, 4), (4, 6), (6, 6))]
    a, b, c, d = (nn.Sequential(layer, nn.ReLU()) for layer in convolutions)
    return nn.Sequential(*a, *b, nn.MaxPool2d(2), *c, *d).double()


def features() -> FeatureNetwork:
    return FeatureNetwork(trunk(), (1, 3, 6, 8), 1, [0.5] * 3, [0.5] * 3).double()


def online(gan, student, information) -> OMGD:
    torch.manual_seed(4)
    parts = Parts(
        teacher=Online(gan),
        student=student,
        features=features(),
        information=build_information(information, image_channels=3, height=SIZE, width=SIZE),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
    )
    return OMGD(OMGD.Settings(**LAMBDA, recon=0.0), parts).double().train()


def two_teachers(information, n_dis: int = 2, n_share: int = 5) -> OMGD:
    torch.manual_seed(3)
    settings = Pix2PixTeachers.Settings(every=n_dis, discriminator=SharedPatchGANConfig(width=4, n_share=n_share))
    gan = Pix2PixTeachers(settings, wide=toy_unet(0), deep=toy_unet(1, "deep_unet"))
    student = toy_teacher("unet", 2, width=2, norm="batch").train()
    return online(gan, student, information)


def cyclegan_online(information, pool: int) -> OMGD:
    torch.manual_seed(3)
    a, b = (toy_teacher("mobile_resnet", seed).train() for seed in (0, 1))
    settings = CycleGAN.Settings(pool=pool, discriminator=PatchGANConfig(width=4))
    gan = CycleGAN(settings, generator_a=a, generator_b=b)
    return online(gan, toy_teacher("mobile_resnet", 2, width=2).train(), information)


def trained(algorithm: OMGD, given) -> list[dict[str, float]]:
    """As the loop does; the losses of each step."""
    runner, log, total = Runner(algorithm.updates(), CPU), [], EPOCH * (CONSTANT + DECAYING)
    for step, batch in enumerate(given, start=1):
        runner.schedule(*algorithm.clock(step, total), CONSTANT / (CONSTANT + DECAYING), EPOCH)
        out, losses = algorithm(as_batch(algorithm.teacher.gan, batch), random(step), step), {}
        for update in runner.updates:
            if update.due(step):
                losses |= runner.apply(update, out, step)
        log.append({name: value.item() for name, value in losses.items()})
    return log


# -- the published step ----------------------------------------------------------------------------------------------


def set_rate(step: int, *optimizers) -> None:
    epoch = (step - 1) // EPOCH
    factor = 1.0 - max(0, epoch + 1 - CONSTANT) / float(DECAYING + 1)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 2e-4 * factor


def published_ssim(x, y):
    line = torch.tensor([torch.exp(torch.tensor(-((i - 5) ** 2) / 4.5, dtype=torch.double)) for i in range(11)])
    line = (line / line.sum()).double()
    window = torch.outer(line, line).expand(3, 1, 11, 11).contiguous()

    def mean(z):
        return F.conv2d(z, window, padding=5, groups=3)

    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2, mean(x * y) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mu_x * mu_y + c1) * (2 * cov + c2)
    return (above / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))).mean()


def published_maps(image):
    h, maps = (image + 1) / 2, []
    for i, layer in enumerate(trunk()):
        h = layer(h)
        if i in (1, 3, 6, 8):
            maps.append(h)
    return maps


def published_gram(x):
    _, c, h, w = x.shape
    return torch.stack([m.reshape(c, -1) @ m.reshape(c, -1).t() for m in x]) / (c * h * w)


def published_student_loss(images, taps_t, student, taps_s, connectors) -> dict[str, torch.Tensor]:
    """All of it once for each teacher, channel distillation from the first teacher alone."""
    terms = dict.fromkeys(LAMBDA, 0.0)
    for image in images:
        terms["ssim"] += LAMBDA["ssim"] * (1 - published_ssim(student, image))
        of_s, of_t = published_maps(student), published_maps(image)
        for s, t in zip(of_s, of_t, strict=True):
            terms["style"] += LAMBDA["style"] * (published_gram(s) - published_gram(t)).abs().mean()
        terms["feature"] += LAMBDA["feature"] * (of_s[1] - of_t[1]).abs().mean()
        down, right = student[:, :, 1:] - student[:, :, :-1], student[:, :, :, 1:] - student[:, :, :, :-1]
        terms["tv"] += LAMBDA["tv"] * (down.abs().sum() + right.abs().sum())
    for f, s, t in zip(connectors, taps_s, taps_t, strict=True):
        difference = f(s).mean((2, 3)) - t.detach().mean((2, 3))
        terms["channel"] += LAMBDA["channel"] * (difference**2).mean()
    return terms


class PublishedVEM:
    """Langevin from the student's image, the energy's update, and the student's term by the updated energy."""

    def __init__(self, energy):
        self.energy = energy
        self.optimizer = torch.optim.Adam(energy.parameters(), lr=1e-4, betas=(0.0, 0.999))

    def tighten(self, t, s, draws) -> dict[str, float]:
        s, settings = s.detach(), VEM_SETTINGS
        noise = torch.randn((settings["steps"], *s.shape), generator=draws) * 0.005
        x = s.clone()
        for kick in noise:
            x.requires_grad_(True)
            gradient = torch.autograd.grad(self.energy(x, s).sum(), x)[0]
            x = (x - settings["step_size"] * gradient + kick).detach()
        self.samples = x.clamp(-1, 1)
        self.optimizer.zero_grad()
        positive, negative = self.energy(t, s), self.energy(self.samples, s)
        gap, size = positive.mean() - negative.mean(), 0.05 * (positive**2 + negative**2).mean()
        (gap + size).backward()
        self.optimizer.step()
        self.energy.power_iteration()
        return {"energy": gap.item(), "energy_magnitude": size.item()}

    def term(self, t, s):
        return VEM_SETTINGS["weight"] * (self.energy(t, s).mean() - self.energy(self.samples, s).mean())


def published_pix2pix_teachers(judge, fakes, a, b, optimizers) -> dict[str, float]:
    """All gradients before anything moves: the discriminator's, then the deep teacher's, then the wide one's. In the
    teachers' own passes it judges the wide one's image first, which its running statistics keep."""
    losses = {}
    for optimizer in optimizers:
        optimizer.zero_grad()
    for name in ("wide", "deep"):
        fake = F.relu(1 + judge(torch.cat((a, fakes[name].detach()), 1), name)).mean()
        real = F.relu(1 - judge(torch.cat((a, b), 1), name)).mean()
        (0.5 * (fake + real)).backward()
        losses |= {f"{name}_d_fake": fake.item() / 2, f"{name}_d_real": real.item() / 2}
    judge.requires_grad_(False)
    scores = {name: judge(torch.cat((a, fakes[name]), 1), name) for name in ("wide", "deep")}
    for name in ("deep", "wide"):
        passes = -scores[name].mean()
        recon = 100 * (fakes[name] - b).abs().mean()
        (passes + recon).backward()
        losses |= {f"{name}_gan": passes.item(), f"{name}_recon": recon.item()}
    judge.requires_grad_(True)
    for optimizer in optimizers:
        optimizer.step()
    return losses


def published_online(wide, deep, judge, student, connectors, energy, given, n_dis, taps) -> list[dict[str, float]]:
    of_w, of_d, of_j, of_s, log = adam(wide), adam(deep), adam(judge), adam(student, *connectors), []
    vem = PublishedVEM(energy)
    for step, (a, b) in enumerate(given, start=1):
        set_rate(step, of_w, of_d, of_j, of_s)
        losses = {}
        from_wide, maps_t = wide.forward_with_taps(a, taps)
        fakes = {"wide": from_wide, "deep": deep(a)}
        image, maps_s = student.forward_with_taps(a, taps)
        shown = [fake.detach().clone() for fake in fakes.values()]
        if step % n_dis == 0:
            losses |= published_pix2pix_teachers(judge, fakes, a, b, (of_j, of_w, of_d))
        losses |= vem.tighten(b, image, random(step))
        terms = published_student_loss(shown, maps_t.values(), image, maps_s.values(), connectors)
        terms["information"] = vem.term(b, image)
        of_s.zero_grad()
        sum(terms.values()).backward()
        of_s.step()
        log.append(losses | {name: term.item() for name, term in terms.items()})
    return log


# -- the same ones? --------------------------------------------------------------------------------------------------


def assert_same_log(found, expected) -> None:
    extra = {"energy_gap", "energy_scale", "langevin_move"}  # monitored alone
    for step, wanted in zip(found, expected, strict=True):
        assert {k: v for k, v in step.items() if k not in extra} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("n_dis", "n_share"), [(1, 3), (2, 5)])
def test_three_online_steps_of_pix2pix_with_vem_are_the_published_ones(n_dis, n_share):
    algorithm = two_teachers(VEM.Settings(**VEM_SETTINGS), n_dis, n_share)
    gan, taps = algorithm.teacher.gan, algorithm.teacher_taps
    ours = (gan.wide, gan.deep, gan.discriminator, algorithm.student, algorithm.connectors)
    theirs = [*copies(*ours), deepcopy(algorithm.information.energy)]
    assert taps == algorithm.student_taps == ("down2", "up2")
    expected = published_online(*theirs, batches(3), n_dis, taps)
    assert_same_log(trained(algorithm, batches(3)), expected)
    for found, wanted in zip((*ours, algorithm.information.energy), theirs, strict=True):
        assert_same_weights(found, wanted)


def lsgan(scores, real: float):
    return ((scores - real) ** 2).mean()


def published_cyclegan_step(g_a, g_b, d_a, d_b, a, b, made, pools, draws, of_g, of_d) -> dict[str, float]:
    """Generators, then discriminators on real and pooled images; the student's turn comes after."""
    fake_b, fake_a = made
    of_g.zero_grad()
    terms = {
        "a_identity": 5 * (g_a(b) - b).abs().mean(),
        "b_identity": 5 * (g_b(a) - a).abs().mean(),
        "a_gan": lsgan(d_a(fake_b), 1),
        "b_gan": lsgan(d_b(fake_a), 1),
        "a_cycle": 10 * (g_b(fake_b) - a).abs().mean(),
        "b_cycle": 10 * (g_a(fake_a) - b).abs().mean(),
    }
    sum(terms.values()).backward()
    of_g.step()
    of_d.zero_grad()
    for side, judge, real, fake, pool in (("a", d_a, b, fake_b, pools[1]), ("b", d_b, a, fake_a, pools[0])):
        earlier = pool.query(fake.detach(), draws)
        terms |= {f"{side}_d_real": 0.5 * lsgan(judge(real), 1), f"{side}_d_fake": 0.5 * lsgan(judge(earlier), 0)}
        (terms[f"{side}_d_real"] + terms[f"{side}_d_fake"]).backward()
    of_d.step()
    return {name: term.item() for name, term in terms.items()}


def published_cyclegan_online(g_a, g_b, d_a, d_b, student, connectors, variance, given, pool, taps) -> list[dict]:
    """VID's variances learn with the student; t is the image that the teacher made before it moved."""
    of_g, of_d, log = adam(g_a, g_b), adam(d_a, d_b), []
    of_s = torch.optim.Adam([*student.parameters(), *connectors.parameters(), variance], lr=2e-4, betas=(0.5, 0.999))
    pools = ImagePool(pool), ImagePool(pool)
    for step, (a, b) in enumerate(given, start=1):
        set_rate(step, of_g, of_d, of_s)
        fake_b, maps_t = g_a.forward_with_taps(a, taps)
        image, maps_s = student.forward_with_taps(a, taps)
        t, maps_t = fake_b.detach().clone(), [value.detach().clone() for value in maps_t.values()]
        made = fake_b, g_b(b)
        losses = published_cyclegan_step(g_a, g_b, d_a, d_b, a, b, made, pools, random(step), of_g, of_d)
        terms = published_student_loss([t], maps_t, image, maps_s.values(), connectors)
        var = (F.softplus(variance) + 1e-5).view(3, 1, 1)
        terms["information"] = 0.1 * (0.5 * ((image - t) ** 2 / var + var.log())).mean()
        of_s.zero_grad()
        sum(terms.values()).backward()
        of_s.step()
        log.append(losses | {name: term.item() for name, term in terms.items()})
    return log


def test_three_online_steps_of_cyclegan_with_vid_are_the_published_ones():
    algorithm = cyclegan_online(VID.Settings(weight=0.1), pool=1)
    gan = algorithm.teacher.gan
    judges = gan.discriminator_a, gan.discriminator_b
    ours = (gan.generator_a, gan.generator_b, *judges, algorithm.student, algorithm.connectors)
    theirs, given = copies(*ours), batches(3, batch=1)
    variance = torch.nn.Parameter(algorithm.information.a.detach().clone())
    expected = published_cyclegan_online(*theirs, variance, given, 1, algorithm.teacher_taps)
    assert_same_log(trained(algorithm, given), expected)
    assert torch.allclose(algorithm.information.a, variance, rtol=1e-9)
    for found, wanted in zip(ours, theirs, strict=True):
        assert_same_weights(found, wanted)


# -- what a step touches ---------------------------------------------------------------------------------------------


def tracked(network: nn.Module) -> set[int]:
    return {int(v) for name, v in statistics(network).items() if name.endswith("num_batches_tracked")}


def test_teachers_see_the_batch_without_a_graph_at_steps_that_update_no_network():
    algorithm, (batch,) = two_teachers(VEM.Settings(**VEM_SETTINGS), n_dis=3), batches(1)
    grown = []
    for network in (algorithm.teacher.gan.wide, algorithm.teacher.gan.deep):
        network.ups[0].register_forward_hook(lambda module, inputs, made: grown.append(made.requires_grad))
    out = algorithm(as_batch(algorithm.teacher.gan, batch), random(), 1)
    assert (out.gan, grown) == (None, [False, False])
    assert tracked(algorithm.teacher.gan.wide) == tracked(algorithm.teacher.gan.deep) == {1}
    assert algorithm(as_batch(algorithm.teacher.gan, batch), random(), 3).gan is not None
    assert grown[2:] == [True, True]


@pytest.mark.parametrize("step", [1, 2])
def test_what_the_student_learns_from_is_constant(step):
    algorithm, (batch,) = two_teachers(VEM.Settings(**VEM_SETTINGS)), batches(1)
    out = algorithm(as_batch(algorithm.teacher.gan, batch), random(), step)
    constants = (out.teacher, *out.others, out.target, *out.teacher_taps.values())
    assert len(out.others) == 1
    assert not any(tensor.requires_grad for tensor in constants)
    assert torch.equal(out.target, batch[1])  # the ground truth


def test_the_students_update_moves_no_teacher_and_the_teachers_none_of_the_student():
    algorithm, (batch,) = two_teachers(VEM.Settings(**VEM_SETTINGS), n_dis=1), batches(1)
    runner, out = Runner(algorithm.updates(), CPU), algorithm(as_batch(algorithm.teacher.gan, batch), random(), 1)
    assert [u.name for u in runner.updates] == ["discriminator", "deep", "wide", "energy", "student"]
    *teaching, energy, student = runner.updates
    before = {name: p.clone() for name, p in algorithm.named_parameters()}

    def moved() -> set[str]:
        changed = {name.split(".")[0] for name, p in algorithm.named_parameters() if not torch.equal(p, before[name])}
        before.update({name: p.clone() for name, p in algorithm.named_parameters()})
        return changed

    for update in teaching:
        runner.apply(update, out, 1)
    assert moved() == {"teacher"}
    runner.apply(energy, out, 1)
    assert moved() == {"information"}
    runner.apply(student, out, 1)
    assert moved() == {"student", "connectors"}


def test_pictures_show_every_teacher_as_in_evaluation_beside_the_student():
    algorithm, (batch,) = two_teachers(VEM.Settings(**VEM_SETTINGS)), batches(1)
    with torch.no_grad():
        shown = algorithm.eval().pictures(batch[0])
    assert list(shown) == ["wide", "deep", "student"]
    assert tracked(algorithm.teacher.gan.wide) == {0}
    assert torch.allclose(shown["wide"][:1], deepcopy(algorithm.teacher.gan.wide).eval()(batch[0][:1]))
