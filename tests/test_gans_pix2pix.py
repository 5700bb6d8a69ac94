"""Pix2Pix: whole steps against the published order written out in plain PyTorch; the inputs of each discriminator; what
is refused."""

import pytest
import torch
import torch.nn.functional as F
from gans_toys import (
    CPU,
    adam,
    as_batch,
    assert_same_weights,
    batches,
    copies,
    save_discriminator,
    statistics,
    steps,
    toy_unet,
)
from toys import toy_teacher

from vemcompress.errors import NumericalError, RecipeError
from vemcompress.gans import Pix2Pix, Pix2PixTeachers
from vemcompress.networks.discriminators import PatchGANConfig, SharedPatchGANConfig, build_discriminator
from vemcompress.training.optimizers import Runner
from vemcompress.weights.discriminator import load_discriminator


def one_teacher(**settings) -> Pix2Pix:
    settings = {"discriminator": PatchGANConfig(width=4), **settings}
    torch.manual_seed(3)
    return Pix2Pix(Pix2Pix.Settings(**settings), generator=toy_unet(0)).double()


def two_teachers(n_share: int = 5, **settings) -> Pix2PixTeachers:
    settings = {"discriminator": SharedPatchGANConfig(width=4, n_share=n_share), **settings}
    torch.manual_seed(3)
    settings = Pix2PixTeachers.Settings(**settings)
    return Pix2PixTeachers(settings, wide=toy_unet(0), deep=toy_unet(1, "deep_unet")).double()


def published_pix2pix(generator, discriminator, given, loss_d, loss_g) -> list[dict[str, float]]:
    """The discriminator moves, then the generator through the moved one."""
    of_g, of_d, log = adam(generator), adam(discriminator), []
    for a, b in given:
        fake = generator(a)
        of_d.zero_grad()
        on_fake = discriminator(torch.cat((a, fake), 1).detach())
        on_real = discriminator(torch.cat((a, b), 1))
        fake_half, real_half = loss_d(on_fake, on_real)
        ((fake_half + real_half) * 0.5).backward()
        of_d.step()
        of_g.zero_grad()
        passes = loss_g(discriminator(torch.cat((a, fake), 1)))
        recon = F.l1_loss(fake, b) * 100
        (passes + recon).backward()
        of_g.step()
        log.append({
            "teacher_d_fake": fake_half.item() / 2, "teacher_d_real": real_half.item() / 2,
            "teacher_gan": passes.item(), "teacher_recon": recon.item(),
        })  # fmt: skip
    return log


def hinge_d(fake, real):
    return -torch.min(-fake - 1, torch.zeros_like(fake)).mean(), -torch.min(real - 1, torch.zeros_like(real)).mean()


def hinge_g(fake):
    return -fake.mean()


def vanilla_d(fake, real):
    criterion = torch.nn.BCEWithLogitsLoss()
    return criterion(fake, torch.zeros_like(fake)), criterion(real, torch.ones_like(real))


def vanilla_g(fake):
    return torch.nn.BCEWithLogitsLoss()(fake, torch.ones_like(fake))


def assert_same_log(found, expected):
    for step, wanted in zip(found, expected, strict=True):
        assert step == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("mode", "loss_d", "loss_g"), [("hinge", hinge_d, hinge_g), ("vanilla", vanilla_d, vanilla_g)])
def test_three_steps_of_pix2pix_are_the_published_ones(mode, loss_d, loss_g):
    gan = one_teacher(mode=mode)
    generator, discriminator = copies(gan.generator, gan.discriminator)
    expected = published_pix2pix(generator, discriminator, batches(3), loss_d, loss_g)
    assert_same_log(steps(gan, batches(3)), expected)
    assert_same_weights(gan.generator, generator)
    assert_same_weights(gan.discriminator, discriminator)


def published_teachers(wide, deep, discriminator, given, n_dis: int) -> None:
    """OMGD: all gradients, the discriminator's first, the deep teacher's before the wide one's; then all move. The wide
    one's image is judged first, which BatchNorm's running statistics keep."""
    of_w, of_d, of_judge = adam(wide), adam(deep), adam(discriminator)
    for step, (a, b) in enumerate(given, start=1):
        fakes = {"wide": wide(a), "deep": deep(a)}
        if step % n_dis:
            continue
        for optimizer in (of_w, of_d, of_judge):
            optimizer.zero_grad()
        for teacher in ("wide", "deep"):
            on_fake = discriminator(torch.cat((a, fakes[teacher]), 1).detach(), teacher)
            on_real = discriminator(torch.cat((a, b), 1), teacher)
            ((F.relu(1 + on_fake).mean() + F.relu(1 - on_real).mean()) * 0.5).backward()
        discriminator.requires_grad_(False)
        scores = {name: discriminator(torch.cat((a, fakes[name]), 1), name) for name in ("wide", "deep")}
        for teacher in ("deep", "wide"):
            (100 * F.l1_loss(fakes[teacher], b) - scores[teacher].mean()).backward()
        discriminator.requires_grad_(True)
        for optimizer in (of_judge, of_w, of_d):
            optimizer.step()


@pytest.mark.parametrize(("n_share", "n_dis"), [(5, 1), (3, 1), (5, 3)])
def test_three_steps_of_two_teachers_are_the_published_ones(n_share, n_dis):
    gan = two_teachers(n_share, every=n_dis)
    wide, deep, discriminator = copies(gan.wide, gan.deep, gan.discriminator)
    published_teachers(wide, deep, discriminator, batches(3), n_dis)
    steps(gan, batches(3))
    assert_same_weights(gan.discriminator, discriminator)
    assert_same_weights(gan.deep, deep)
    assert_same_weights(gan.wide, wide)


def test_teachers_learn_through_the_discriminator_before_it_moves():
    gan, (batch,) = two_teachers(), batches(1)
    before = copies(gan.discriminator)[0]
    image = copies(gan.wide)[0](batch[0])
    before.eval(), gan.discriminator.eval()
    losses = {}
    runner, out = Runner(gan.updates(), CPU), gan(as_batch(gan, batch), None)
    for update in runner.updates:
        losses |= runner.apply(update, out, 1)
    assert losses["wide_gan"].item() == pytest.approx(-before(torch.cat((batch[0], image), 1)).mean().item(), rel=1e-5)
    assert not torch.equal(gan.discriminator.stages[0][1].conv.weight, before.stages[0][1].conv.weight)


def test_nan_in_one_teacher_moves_none_of_those_that_move_together():
    gan, (batch,) = two_teachers(), batches(1)
    before = {name: value.clone() for name, value in gan.named_parameters()}
    runner, out = Runner(gan.updates(), CPU), gan(as_batch(gan, batch), None)
    out.images["wide"] = out.images["wide"] * float("nan")
    with pytest.raises(NumericalError, match="update's loss term 'wide_d_fake'"):
        runner.apply(runner.updates[0], out, 1)
    runner.apply(runner.updates[1], out, 1)
    with pytest.raises(NumericalError, match="the wide update's loss term 'wide_gan'"):
        runner.apply(runner.updates[2], out, 1)
    assert all(torch.equal(value, before[name]) for name, value in gan.named_parameters())


def test_batchnorm_of_the_discriminator_sees_each_pass_of_the_published_step():
    """Two for its own loss and one for the teacher's, fake and real apart."""
    gan, (batch,) = one_teacher(), batches(1)
    steps(gan, [batch])
    assert {int(v) for k, v in statistics(gan.discriminator).items() if k.endswith("num_batches_tracked")} == {3}
    gan = two_teachers()
    steps(gan, [batch])
    shared = [pair[1].norm for pair in gan.discriminator.stages if pair[1].norm is not None]
    assert {int(norm.num_batches_tracked) for norm in shared} == {6}


def test_teachers_see_every_batch_though_they_learn_at_each_third():
    gan = two_teachers(every=3)
    before = [p.clone() for p in gan.parameters()]
    assert steps(gan, batches(2)) == [{}, {}]
    assert all(torch.equal(a, b) for a, b in zip(before, gan.parameters(), strict=True))
    assert {int(v) for k, v in statistics(gan.wide).items() if k.endswith("num_batches_tracked")} == {2}


def test_taps_are_of_the_wide_teacher():
    gan, (batch,) = two_teachers(), batches(1)
    out = gan(as_batch(gan, batch), None, taps=("down2",))
    assert out.taps["down2"].shape[1] == gan.wide.tap_channels("down2")
    assert out.images["deep"].requires_grad


def test_bf16_networks_have_float32_images_scores_and_gradients():
    gan, (batch,) = one_teacher().float(), batches(1)
    gan.bf16 = True
    out = gan(as_batch(gan, batch).map(torch.Tensor.float), None)
    assert out.images["teacher"].dtype == torch.float32
    terms = gan.generator_terms("teacher", out)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    sum(terms.values()).backward()
    assert gan.generator.downs[0].weight.grad.dtype == torch.float32


def test_a_discriminator_in_a_checkpoint_is_one_that_can_be_loaded(tmp_path):
    gan = two_teachers(n_share=3).float()
    path = tmp_path / "discriminator.safetensors"
    save_discriminator(path, gan.artifacts()["discriminator"])
    assert load_discriminator(path).config == gan.discriminator.config


def test_a_discriminator_takes_channels_and_norm_from_the_teacher_unless_they_are_stated():
    assert one_teacher().discriminator.config == PatchGANConfig(width=4, in_channels=6, norm="batch")
    stated = one_teacher(discriminator=PatchGANConfig(width=4, in_channels=6, norm="instance"))
    assert stated.discriminator.config.norm == "instance"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: one_teacher(discriminator=PatchGANConfig(width=4, in_channels=3)),
            "in_channels is 3, but its images have 6 channels",
        ),
        (lambda: one_teacher(discriminator=SharedPatchGANConfig(width=4)), "is a shared_patchgan; .* for one teacher"),
        (lambda: two_teachers(discriminator=PatchGANConfig(width=4)), "is a patchgan; .* for two teachers"),
        (
            lambda: Pix2Pix(
                Pix2Pix.Settings(), generator=toy_unet(0), discriminator=build_discriminator(PatchGANConfig(width=4))
            ),
            "takes 3 channels",
        ),
        (
            lambda: Pix2PixTeachers(
                Pix2PixTeachers.Settings(), wide=toy_unet(0), deep=toy_teacher("deep_unet", 1, in_channels=1)
            ),
            "the deep generator has 1 input and 3 output channels",
        ),
        (lambda: one_teacher().check_size(16), "data.size 16 is too small .* at least 24 px"),
    ],
)
def test_networks_that_do_not_fit_are_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
