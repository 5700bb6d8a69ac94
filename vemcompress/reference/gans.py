"""Reference steps of GAN teachers, as in the original code: Pix2Pix, OMGD's two teachers, CycleGAN, latent GANs."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.gans import GAN, CycleGAN, LatentGAN, Pix2Pix, Pix2PixTeachers
from vemcompress.training.update import Optimizer


def judged(real: bool, mode: str, scores: Tensor) -> Tensor:
    """Eq. 11: the discriminator's loss from its scores of real images (`real`) or of generated ones."""
    wanted = torch.full_like(scores, float(real))
    match mode:
        case "hinge":
            return F.relu(1 - scores if real else 1 + scores).mean()
        case "lsgan":
            return F.mse_loss(scores, wanted)
    return F.binary_cross_entropy_with_logits(scores, wanted)


def for_generator(mode: str, scores: Tensor) -> Tensor:
    return -scores.mean() if mode == "hinge" else judged(True, mode, scores)


def adam(settings, *networks: nn.Module) -> torch.optim.Adam:
    parameters = [p for network in networks for p in network.parameters()]
    return torch.optim.Adam(parameters, lr=settings.lr, betas=settings.betas)


def adam_of(settings: Optimizer, parameters: list[Tensor], twice: tuple[nn.Module, ...] = ()) -> torch.optim.Adam:
    """An Adam that receives the parameters of the modules in `twice` a second time, so that it updates them twice."""
    again = [p for module in twice for p in module.parameters(recurse=False)]
    with warnings.catch_warnings(action="ignore"):  # about duplicates
        # One by one if some occur twice: in a batched update they would all be read before they are written.
        foreach = False if again else None
        return torch.optim.Adam([*parameters, *again], lr=settings.lr, betas=settings.betas, foreach=foreach)


class PlainPix2Pix:
    """One teacher, which learns from the discriminator after its update."""

    def __init__(self, gan: Pix2Pix):
        self.gan, self.settings = gan, gan.settings
        self.of_judge, self.of_teacher = adam(gan.settings, gan.discriminator), adam(gan.settings, gan.generator)

    def teach(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor], random) -> dict[str, Tensor]:
        judge, settings, fake = self.gan.discriminator, self.settings, fakes["teacher"]
        self.of_judge.zero_grad()
        half_fake = 0.5 * judged(False, settings.mode, judge(torch.cat((a, fake.detach()), 1)))
        half_real = 0.5 * judged(True, settings.mode, judge(torch.cat((a, b), 1)))
        (half_fake + half_real).backward()
        self.of_judge.step()
        judge.requires_grad_(False)
        self.of_teacher.zero_grad()
        passes = settings.lambda_gan * for_generator(settings.mode, judge(torch.cat((a, fake), 1)))
        recon = settings.lambda_recon * F.l1_loss(fake, b)
        (passes + recon).backward()
        self.of_teacher.step()
        judge.requires_grad_(True)
        names = ("teacher_d_fake", "teacher_d_real", "teacher_gan", "teacher_recon")
        return dict(zip(names, (half_fake, half_real, passes, recon), strict=True))


class PlainTeachers:
    """OMGD's wide and deep teacher: all gradients are computed before the discriminator's update, then all are
    updated."""

    def __init__(self, gan: Pix2PixTeachers):
        self.gan, self.settings = gan, gan.settings
        networks = {"discriminator": gan.discriminator, "wide": gan.wide, "deep": gan.deep}
        self.optimizers = [adam(gan.settings, network) for network in networks.values()]

    def teach(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor], random) -> dict[str, Tensor]:
        judge, settings, losses = self.gan.discriminator, self.settings, {}
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for name in ("wide", "deep"):
            half_fake = 0.5 * judged(False, settings.mode, judge(torch.cat((a, fakes[name].detach()), 1), name))
            half_real = 0.5 * judged(True, settings.mode, judge(torch.cat((a, b), 1), name))
            (half_fake + half_real).backward()
            losses |= {f"{name}_d_fake": half_fake, f"{name}_d_real": half_real}
        judge.requires_grad_(False)
        of_teachers = {}
        for name in ("wide", "deep"):  # the order in which the original's BatchNorm sees them
            passes = settings.lambda_gan * for_generator(settings.mode, judge(torch.cat((a, fakes[name]), 1), name))
            of_teachers[name] = passes, settings.lambda_recon * F.l1_loss(fakes[name], b)
        for name in ("deep", "wide"):
            passes, recon = of_teachers[name]
            (passes + recon).backward()
            losses |= {f"{name}_gan": passes, f"{name}_recon": recon}
        judge.requires_grad_(True)
        for optimizer in self.optimizers:
            optimizer.step()
        return losses


class PlainCycleGAN:
    """Update both generators by one loss, then both discriminators on real images and on pooled fakes."""

    def __init__(self, gan: CycleGAN):
        self.gan, self.settings = gan, gan.settings
        self.of_makers = adam(gan.settings, gan.generator_a, gan.generator_b)
        self.of_judges = adam(gan.settings, gan.discriminator_a, gan.discriminator_b)

    def teach(self, a: Tensor, b: Tensor, fakes: dict[str, Tensor], random) -> dict[str, Tensor]:
        gan, settings, losses = self.gan, self.settings, {}
        make_b, make_a, judge_b, judge_a = gan.generator_a, gan.generator_b, gan.discriminator_a, gan.discriminator_b
        fake_b = fakes["generator_a"]
        back_a, fake_a = make_a(fake_b), make_a(b)
        back_b = make_b(fake_a)
        for judge in (judge_a, judge_b):
            judge.requires_grad_(False)
        self.of_makers.zero_grad()
        if settings.identity:
            losses["a_identity"] = settings.identity * settings.lambda_b * F.l1_loss(make_b(b), b)
            losses["b_identity"] = settings.identity * settings.lambda_a * F.l1_loss(make_a(a), a)
        losses["a_gan"] = settings.lambda_gan * for_generator(settings.mode, judge_b(fake_b))
        losses["b_gan"] = settings.lambda_gan * for_generator(settings.mode, judge_a(fake_a))
        losses["a_cycle"] = settings.lambda_a * F.l1_loss(back_a, a)
        losses["b_cycle"] = settings.lambda_b * F.l1_loss(back_b, b)
        sum(losses.values()).backward()
        self.of_makers.step()
        for judge in (judge_a, judge_b):
            judge.requires_grad_(True)
        self.of_judges.zero_grad()
        for side, judge, pool, real, fake in (
            ("a", judge_b, gan.pool_b, b, fake_b),
            ("b", judge_a, gan.pool_a, a, fake_a),
        ):
            earlier = pool.query(fake.detach(), random)
            half_real = 0.5 * judged(True, settings.mode, judge(real))
            half_fake = 0.5 * judged(False, settings.mode, judge(earlier))
            (half_real + half_fake).backward()
            losses |= {f"{side}_d_real": half_real, f"{side}_d_fake": half_fake}
        self.of_judges.step()
        return losses


class PlainLatent:
    """Update the discriminator, then the generator. The discriminator's features stay in `features`, as hooks keep
    them."""

    def __init__(self, gan: LatentGAN):
        self.gan, self.settings = gan, gan.settings
        self.of_teacher = adam(gan.settings, gan.generator)
        self.of_judge = torch.optim.Adam(gan.discriminator.parameters(), gan.settings.lr_d, gan.settings.betas)

    def teach(self, z: Tensor, real: Tensor, fakes: dict[str, Tensor], random) -> dict[str, Tensor]:
        judge, settings, fake = self.gan.discriminator, self.settings, fakes["teacher"]
        losses = judge_step(judge, settings.mode, real, fake, self.of_judge)
        judge.requires_grad_(False)
        self.of_teacher.zero_grad()
        scores, taps = judge.forward_with_taps(fake, judge.places)
        passes = settings.lambda_gan * for_generator(settings.mode, scores)
        passes.backward()
        self.of_teacher.step()
        judge.requires_grad_(True)
        self.features = [taps[place].detach().clone() for place in judge.places]
        names = ("teacher_d_real", "teacher_d_fake", "teacher_gan")
        return dict(zip(names, (*losses, passes), strict=True))


def judge_step(judge: nn.Module, mode: str, real: Tensor, fake: Tensor, optimizer) -> tuple[Tensor, Tensor]:
    """Update an unconditional discriminator by its losses on real and on generated images, without a factor of a
    half."""
    optimizer.zero_grad()
    of_real, of_fake = judged(True, mode, judge(real)), judged(False, mode, judge(fake.detach()))
    (of_real + of_fake).backward()
    optimizer.step()
    return of_real, of_fake


_PLAIN = {Pix2Pix: PlainPix2Pix, Pix2PixTeachers: PlainTeachers, CycleGAN: PlainCycleGAN, LatentGAN: PlainLatent}


def plain_gan(gan: GAN):
    """The plain step of this GAN. Its `teach` takes A, B and the teachers' images of A with their autograd graph."""
    return _PLAIN[type(gan)](gan)
