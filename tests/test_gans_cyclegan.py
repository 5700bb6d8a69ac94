"""CycleGAN: whole steps against the published order written out in plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from gans_toys import adam, as_batch, assert_same_weights, batches, copies, steps
from toys import random, toy_teacher

from vemcompress.errors import RecipeError
from vemcompress.gans import CycleGAN
from vemcompress.gans.pool import ImagePool
from vemcompress.networks.discriminators import PatchGANConfig


def toy_cyclegan(**settings) -> CycleGAN:
    settings = {"discriminator": PatchGANConfig(width=4), **settings}
    torch.manual_seed(3)
    a, b = (toy_teacher("mobile_resnet", seed).train() for seed in (0, 1))
    return CycleGAN(CycleGAN.Settings(**settings), generator_a=a, generator_b=b).double()


def lsgan(scores, real: bool):
    return F.mse_loss(scores, torch.full_like(scores, float(real)))


def published_cyclegan(g_a, g_b, d_a, d_b, given, pool: int, identity: float) -> list[dict[str, float]]:
    of_g, of_d, log = adam(g_a, g_b), adam(d_a, d_b), []
    pool_a, pool_b = ImagePool(pool), ImagePool(pool)
    for step, (real_a, real_b) in enumerate(given, start=1):
        draws = random(step)
        fake_b = g_a(real_a)
        rec_a = g_b(fake_b)
        fake_a = g_b(real_b)
        rec_b = g_a(fake_a)
        of_g.zero_grad()
        losses = {}
        if identity:
            losses["a_identity"] = F.l1_loss(g_a(real_b), real_b) * 10 * identity
            losses["b_identity"] = F.l1_loss(g_b(real_a), real_a) * 10 * identity
        losses["a_gan"] = lsgan(d_a(fake_b), True)
        losses["b_gan"] = lsgan(d_b(fake_a), True)
        losses["a_cycle"] = F.l1_loss(rec_a, real_a) * 10
        losses["b_cycle"] = F.l1_loss(rec_b, real_b) * 10
        sum(losses.values()).backward()
        of_g.step()
        of_d.zero_grad()
        for side, judge, kept, real, fake in (("a", d_a, pool_b, real_b, fake_b), ("b", d_b, pool_a, real_a, fake_a)):
            old = kept.query(fake, draws)
            on_real = lsgan(judge(real), True)
            on_fake = lsgan(judge(old.detach()), False)
            ((on_real + on_fake) * 0.5).backward()
            losses |= {f"{side}_d_fake": on_fake / 2, f"{side}_d_real": on_real / 2}
        of_d.step()
        log.append({name: value.item() for name, value in losses.items()})
    return log


@pytest.mark.parametrize(("pool", "identity"), [(50, 0.5), (1, 0.0)])
def test_three_steps_of_cyclegan_are_the_published_ones(pool, identity):
    gan, given = toy_cyclegan(pool=pool, identity=identity), batches(3, batch=1)
    networks = copies(gan.generator_a, gan.generator_b, gan.discriminator_a, gan.discriminator_b)
    expected = published_cyclegan(*networks, given, pool, identity)
    for found, wanted in zip(steps(gan, given), expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-6)
    ours = (gan.generator_a, gan.generator_b, gan.discriminator_a, gan.discriminator_b)
    for found, wanted in zip(ours, networks, strict=True):
        assert_same_weights(found, wanted)


def test_discriminators_judge_pooled_fakes_of_their_own_domain():
    gan, given = toy_cyclegan(), batches(2, batch=1)
    fakes = gan(as_batch(gan, given[0]), random())
    steps(gan, given)
    assert torch.equal(gan.pool_b.images[:1], fakes.fake_b.detach())
    assert torch.equal(gan.pool_a.images[:1], fakes.fake_a.detach())
    assert len(gan.pool_a) == len(gan.pool_b) == 2


def test_the_generators_move_by_nothing_of_the_discriminators_update():
    gan, (batch,) = toy_cyclegan(), batches(1, batch=1)
    generators, discriminators = gan.updates()
    assert generators.name == "generators"
    out = gan(as_batch(gan, batch), random())
    terms = discriminators.terms(out)
    found = torch.autograd.grad(sum(terms.values()), list(gan.generator_a.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_generators_that_do_not_lead_back_are_refused():
    there, back = toy_teacher("mobile_resnet", out_channels=1), toy_teacher("mobile_resnet")
    with pytest.raises(RecipeError, match=r"the second generator has 3 input and 3 output .* needs 1 and 3"):
        CycleGAN(CycleGAN.Settings(), generator_a=there, generator_b=back)


def test_domains_may_differ_in_channels():
    there, back = toy_teacher("mobile_resnet", out_channels=1), toy_teacher("mobile_resnet", in_channels=1)
    settings = CycleGAN.Settings(identity=0, discriminator=PatchGANConfig(width=4))
    gan = CycleGAN(settings, generator_a=there, generator_b=back)
    assert (gan.discriminator_a.config.in_channels, gan.discriminator_b.config.in_channels) == (1, 3)
    with pytest.raises(RecipeError, match=r"gan\.identity 0\.5 needs two domains with equal channels"):
        CycleGAN(CycleGAN.Settings(), generator_a=there, generator_b=back)


def test_a_checkpoint_of_cyclegan_holds_what_its_next_step_needs():
    gan, other, given = toy_cyclegan(pool=1), toy_cyclegan(pool=1), batches(3, batch=1)
    steps(gan, given[:2])
    for name, (module, _) in gan.companions().items():
        other.companions()[name][0].load_state_dict(module.state_dict())
    for name, network in gan.artifacts().items():
        other.artifacts()[name].load_state_dict(network.state_dict())
    assert steps(gan, given[2:]) == steps(other, given[2:])
