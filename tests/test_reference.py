"""The fast float32 step against the plain one: the same losses and weights after 20 steps."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from toys import random, toy_plan, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.commands.facts import teachers
from vemcompress.commands.parts import distillation
from vemcompress.data.batch import Batch
from vemcompress.networks.features import FeatureNetwork, squeezenet_lpips
from vemcompress.networks.lpips import LPIPS
from vemcompress.recipe.resolve import for_latents, resolve, with_shapes
from vemcompress.reference.step import PlainStep
from vemcompress.training.stepper import Stepper

CPU, STEPS, SIZE = torch.device("cpu"), 20, 32
MONITORED = {"energy_gap", "energy_scale", "langevin_move"}
LONG = ("train.steps=1000", "train.constant=1.0")
TRAINING = (
    "algorithm.style=100.0", "algorithm.feature=10.0", "algorithm.channel=50.0", "algorithm.recon=0.0", *LONG,
)  # fmt: skip
VEM = ("information.channels=4", "information.steps=3", "information.weight=0.2")
UNETS = (
    "data.size=32", "teacher.network.width=4", "teacher.network.downs=4", "teacher.deep.width=2",
    "teacher.deep.downs=4", "student.width=2", "student.downs=4", "gan.discriminator.width=4", "train.batch=2",
)  # fmt: skip
ONE_TEACHER = (
    *(o for o in UNETS if "deep" not in o), "gan.name=pix2pix", "gan.discriminator.family=patchgan",
    "gan.discriminator.norm=batch",
)  # fmt: skip
RESNETS = (
    "data.size=32", "teacher.network.width=4", "teacher.network.blocks=3", "student.width=2", "student.blocks=3",
    "gan.discriminator.width=4", "algorithm.phase_steps=4",
)  # fmt: skip


def trunk() -> FeatureNetwork:
    torch.manual_seed(5)
    convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 4), (4, 4), (4, 6), (6, 6))]
    a, b, c, d = (nn.Sequential(layer, nn.ReLU()) for layer in convolutions)
    layers = nn.Sequential(*a, *b, nn.MaxPool2d(2), *c, *d)
    return FeatureNetwork(layers, (1, 3, 6, 8), 1, [0.5] * 3, [0.5] * 3)


def online(recipe: str, *overrides: str):
    plan = recipes.read(recipe, [*overrides, *TRAINING])
    plan = with_shapes(plan, gan := teachers(plan, None, (3, 3)))
    first = next(iter(gan.teachers().values()))
    plan = resolve(plan, first, 100)
    return plan, distillation(plan, first, trunk(), gan=gan)


def frozen(family: str, *overrides: str):
    teacher = toy_teacher(family, norm="batch" if family == "unet" else "instance")
    plan = toy_plan(teacher, *overrides, "algorithm.features=vgg16", "data.size=32", *TRAINING)
    return plan, distillation(plan, teacher, trunk())


def with_adversary(name: str, *overrides: str):
    teacher = toy_teacher("resnet")
    toy = ("train.batch=2", "algorithm.adversary.discriminator.width=2", "algorithm.adversary.discriminator.layers=2")
    plan = recipes.defaults(["data.size=32", "student.width=2", f"algorithm.name={name}", *toy, *overrides, *LONG])
    plan = resolve(plan, teacher, 3)
    return plan, distillation(plan, teacher)


def gcc(*overrides: str):
    shapes = ("teacher.network.family=sagan", "teacher.network.width=8", "teacher.network.levels=3", "student.width=8")
    names = ("algorithm.name=gcc", "gan.name=latent", "data.size=32", "data.flip=false", "train.batch=4")
    rates = ("train.lr=1e-4", "train.betas=[0.0, 0.9]", "algorithm.image=0.5")
    plan = recipes.defaults([*names, *shapes, *rates, *overrides, *LONG])
    gan = teachers(plan, None, (3, 3))
    plan = resolve(with_shapes(plan, gan), first := gan.generator, 100)
    algorithm = distillation(plan, first, gan=gan)
    for name, gamma in algorithm.named_parameters():
        if name.endswith("gamma"):
            gamma.data.fill_(0.5)
    return plan, algorithm


def cagc(*overrides: str):
    shape = {"size": SIZE, "latent": 128, "style": 16, "mapping": 2}
    teacher = toy_teacher("stylegan2", width=6, **shape)
    names = ("algorithm.name=cagc", "train.batch=4", "train.lr=2e-3")
    student = ("student.family=stylegan2", "student.width=4", *(f"student.{k}={v}" for k, v in shape.items()))
    plan = recipes.defaults([*names, *student, "train.betas=[0.0, 0.99]", *overrides, *LONG])
    plan = plan.but(algorithm=plan.algorithm.but(adversary=plan.algorithm.adversary.but(source=None)))
    plan = resolve(for_latents(plan, teacher.takes), teacher, 100)
    torch.manual_seed(5)
    features = LPIPS(squeezenet_lpips(caffe=True)) if plan.algorithm.perceptual else None
    algorithm = distillation(plan, teacher, features)
    for name, strength in algorithm.named_parameters():
        if name.endswith("strength"):
            strength.data.normal_()
    return plan, algorithm


def with_latents(batch: int, dtype: torch.dtype):
    generator = random(7)
    for _ in range(STEPS):
        z = torch.randn(2, batch, 128, generator=generator, dtype=dtype)
        x = torch.rand(2, batch, 3, SIZE, SIZE, generator=generator, dtype=dtype) * 2 - 1
        yield Batch(z[0], real=x[0], second=Batch(z[1], real=x[1]))


def batches(batch: int, kind: str, dtype: torch.dtype):
    generator = random(7)
    for _ in range(STEPS):
        a, b = torch.rand((2, batch, 3, SIZE, SIZE), generator=generator, dtype=dtype) * 2 - 1
        yield Batch(a) if kind == "single" else Batch(a, real=b) if kind == "unpaired" else Batch(a, target=b)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm().clamp(min=1e-3)).item()


def agd(student: dict, *overrides: str):
    teacher = toy_teacher("resnet")
    names = ("algorithm.name=agd", "data.size=32", "train.batch=2", "algorithm.features=vgg16", "train.lr=1e-3")
    shape = (f"student.{key}={value}" for key, value in student.items())
    plan = recipes.defaults([*names, *shape, "algorithm.style=100.0", *overrides, *LONG])
    plan = resolve(plan, teacher, 100)
    return plan, distillation(plan, teacher, trunk())


def with_second(batch: int, dtype: torch.dtype):
    for one, two in zip(batches(batch, "single", dtype), batches(batch, "unpaired", dtype), strict=True):
        yield Batch(one.input, second=Batch(two.real))


SUBJECTS = {
    "pix2pix, two teachers, VEM": lambda: online("omgd_online", *UNETS, *VEM, "gan.every=2"),
    "pix2pix, n_share 3": lambda: online("omgd_online", *UNETS, *VEM, "gan.discriminator.n_share=3"),
    "pix2pix, n_share 0, lsgan": lambda: online(
        "omgd_online",
        *UNETS,
        *VEM,
        "gan.discriminator.n_share=0",
        "gan.mode=lsgan",
        "algorithm.recon=2.0",
        "algorithm.squared=3.0",
    ),
    "pix2pix, vanilla": lambda: online("omgd_online", *ONE_TEACHER, *VEM, "gan.mode=vanilla"),
    "pix2pix, one teacher, VEM": lambda: online("omgd_online", *ONE_TEACHER, *VEM),
    "cyclegan, phases, VEM": lambda: online("omgd_cyclegan", *RESNETS, *VEM, "algorithm.best_teacher=latest"),
    "frozen U-Net, VEM": lambda: frozen("unet", *VEM, "train.batch=2"),
    "frozen ResNet, no add-on": lambda: frozen("resnet", "information.name=none"),
    "frozen ResNet, VID": lambda: frozen("resnet", "information.name=vid"),
    "GAN-Compression, a supernet, VEM": lambda: with_adversary("gan_compression", *VEM, "algorithm.space=auto"),
    "GAN-Compression, pairs": lambda: with_adversary(
        "gan_compression", *VEM, "data.kind=paired", "algorithm.adversary.mode=hinge"
    ),
    "CAT, VEM": lambda: with_adversary("cat", *VEM),
    "CAT, two domains, VID": lambda: with_adversary("cat", "data.kind=unpaired", "information.name=vid"),
    "GCC, VEM": lambda: gcc(*VEM),
    "GCC, single steps": lambda: gcc("information.name=none", "algorithm.double_steps=false", "algorithm.mask_every=2"),
    "GCC without masks, VID": lambda: gcc("information.name=vid", "algorithm.masks=false"),
    "CAGC, VEM": lambda: cagc(*VEM),
    "CAGC without regularisers, VID": lambda: cagc(
        "information.name=vid", "algorithm.adversary.r1=0", "algorithm.adversary.path=0", "algorithm.perceptual=0"
    ),
    "AGD, search, VEM": lambda: agd(
        {"family": "agd_supernet", "width": 4, "cells": 3},
        *VEM,
        "algorithm.pretrain_steps=5",
        "algorithm.tv=1e-3",
        "algorithm.macs_weight=1e-8",
    ),
    "AGD, training, VID": lambda: agd(
        {"family": "agd", "width": 4, "cells": 2}, "information.name=vid", "train.lr=0.1"
    ),
    "frozen ResNet, CRD": lambda: frozen("resnet", "information.name=crd", "information.memory=4"),
}


# Some of the deep teacher's gradients are rounding from the first step on, and Adam makes full steps of these: in
# float32 the plain step parts even from itself with another number of threads. So do a student and its adversary.
DOUBLE = [
    name
    for name in SUBJECTS
    if any(part in name for part in ("two teachers", "n_share", "GAN-", "CAT", "GCC", "CAGC", "AGD"))
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_fast_step_does_what_the_plain_one_does(subject, monkeypatch):
    plan, algorithm = SUBJECTS[subject]()
    dtype = torch.double if subject in DOUBLE else torch.float
    if subject in DOUBLE:
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # also where the losses ask for float32
    algorithm.to(dtype)
    plain, fast = PlainStep(deepcopy(algorithm)), Stepper(algorithm, plan.train, CPU, 10)
    given = batches(plan.train.batch, plan.data.kind, dtype)
    if algorithm.student.takes.kind == "latent":
        given = with_latents(plan.train.batch, dtype)
    if algorithm.halves:
        given = with_second(plan.train.batch, dtype)
    for step, batch in enumerate(given, start=1):
        wanted = plain(batch, fast.random(step), step)
        found = fast(batch.to(CPU), step)
        assert found.keys() - MONITORED == wanted.keys()
        for name, value in wanted.items():
            assert found[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), (step, name)
    theirs = dict(plain.algorithm.named_parameters())
    cancelled = _cancelled(algorithm)
    for name, ours in algorithm.named_parameters():
        if name not in cancelled:
            assert relative(ours, theirs[name]) < 1e-4, name
    of_plain = dict(plain.algorithm.named_buffers())
    for name, ours in algorithm.named_buffers():  # running statistics and their counts, u and v, pools and memories
        assert relative(ours.double(), of_plain[name].double()) < 1e-3, name


def _cancelled(algorithm: nn.Module) -> set[str]:
    """Biases that an instance norm takes away again: their gradient is rounding, which Adam makes full steps of."""
    if not any(isinstance(module, nn.InstanceNorm2d) for module in algorithm.modules()):
        return set()
    return {name for name, _ in algorithm.named_parameters() if name.endswith("bias")}
