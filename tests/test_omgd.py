"""OMGD's student loss: terms, taps, connectors, and the plain-weights form."""

import pytest
import torch
import torch.nn.functional as F
from toys import random, toy_algorithm, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms.match import paired_places
from vemcompress.algorithms.omgd import connector
from vemcompress.data.batch import Batch
from vemcompress.errors import NumericalError
from vemcompress.losses import features, image
from vemcompress.networks.features import squeezenet_features, vgg16_features
from vemcompress.recipe.resolve import resolve
from vemcompress.training.optimizers import Runner
from vemcompress.training.schedules import by_step


def teacher_of(blocks: int, family: str = "resnet"):
    return toy_teacher(family, blocks=blocks)


def test_taps_are_paired_at_the_same_relative_depth():
    pairs = paired_places(teacher_of(8, "cartoongan"), teacher_of(9, "mobile_resnet"))
    assert pairs == (("down2", "down2"), ("block3", "block3"), ("block5", "block6"), ("block8", "block9"))
    assert [t for t, _ in paired_places(teacher_of(6), teacher_of(6))] == ["down2", "block2", "block4", "block6"]


def test_unet_taps_are_the_published_four_at_eight_downs():
    unet = toy_teacher("unet", downs=8)
    assert [t for t, _ in paired_places(unet, unet)] == ["down2", "down4", "up4", "up2"]


def test_networks_of_different_kinds_have_no_pairs():
    assert paired_places(teacher_of(3), toy_teacher("unet")) == ()


def test_the_connector_is_convolution_batch_norm_and_relu():
    f, x = connector(2, 3), torch.randn(2, 2, 4, 4)
    expected = F.relu(F.batch_norm(F.conv2d(x, f[0].weight), None, None, f[1].weight, f[1].bias, training=True))
    assert torch.allclose(f(x), expected, atol=1e-6)
    assert f[0].bias is None


def test_terms_are_the_weighted_losses():
    network = squeezenet_features(caffe=True)
    algorithm = toy_algorithm(
        "algorithm.features=squeezenet1_1_caffe", "algorithm.style=3.0", "algorithm.feature=0.5", features=network
    )
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    terms = algorithm.student_terms(out)
    t, s = out.teacher, out.student
    assert set(terms) == {"ssim", "style", "feature", "tv", "recon", "channel"}
    assert terms["ssim"].item() == pytest.approx(10 * image.ssim_loss(t, s).item(), rel=1e-5)
    assert terms["style"].item() == pytest.approx(3 * features.style(network(t), network(s)).item(), rel=1e-4)
    assert terms["feature"].item() == pytest.approx(0.5 * (network(t)[1] - network(s)[1]).abs().mean().item(), rel=1e-4)
    assert terms["tv"].item() == pytest.approx(1e-5 * image.total_variation(s).item(), rel=1e-5)
    assert terms["recon"].item() == pytest.approx(10 * (t - s).abs().mean().item(), rel=1e-5)


def test_the_squared_term_is_the_weighted_mean_squared_difference():
    algorithm = toy_algorithm("algorithm.features=none", "algorithm.squared=100.0")
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    expected = 100 * (out.teacher - out.student).square().mean().item()
    assert algorithm.student_terms(out)["squared"].item() == pytest.approx(expected, rel=1e-5)


def test_vgg_has_no_pixel_term_and_the_published_weights():
    plan = toy_algorithm("algorithm.features=vgg16", features=vgg16_features()).settings
    assert (plan.ssim, plan.style, plan.feature, plan.tv, plan.recon) == (10, 1e4, 10, 1e-5, 0)


@pytest.mark.parametrize(
    ("family", "features", "channel", "batch", "width"),
    [("resnet", "vgg16", 500, 1, 8), ("unet", "vgg16", 10, 4, 32), ("resnet", "none", 10, 1, 8)],
)
def test_defaults_follow_the_teachers_family_and_the_features(family, features, channel, batch, width):
    teacher = toy_teacher(family)
    plan = resolve(recipes.read("omgd", ["data.size=32", f"algorithm.features={features}"]), teacher, 10)
    assert (plan.algorithm.channel, plan.train.batch, plan.information.channels) == (channel, batch, width)


def test_perceptual_networks_see_their_own_input_convention():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert vgg16_features().prepare(red).flatten().tolist() == [1, 0, 0]
    caffe = squeezenet_features(caffe=True).prepare(red).flatten().tolist()
    assert caffe == pytest.approx([-103.939, -116.779, 255 - 123.68], abs=1e-3)
    torchvision = squeezenet_features(caffe=False).prepare(red).flatten().tolist()
    assert torchvision == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-5)


def test_a_step_moves_student_and_connectors_and_nothing_else():
    algorithm = toy_algorithm()
    before = {k: v.clone() for k, v in algorithm.state_dict().items()}
    runner = Runner(algorithm.updates(), torch.device("cpu"))
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    for update in runner.updates:
        runner.apply(update, out, 1)
    moved = {k.split(".")[0] for k, v in algorithm.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"student", "connectors", "information"}


def test_nan_in_a_loss_stops_before_the_optimizer_moves():
    algorithm = toy_algorithm("information.name=none")
    runner = Runner(algorithm.updates(), torch.device("cpu"))
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    before = {k: v.clone() for k, v in algorithm.student.named_parameters()}
    out.teacher[0, 0, 0, 0] = float("nan")
    with pytest.raises(NumericalError, match="'ssim' is NaN"):
        runner.apply(runner.updates[0], out, 7)
    assert all(torch.equal(v, before[k]) for k, v in algorithm.student.named_parameters())


def test_the_learning_rate_is_constant_for_half_then_linear_to_zero():
    assert [by_step(step, 10, 0.5) for step in (1, 5)] == [1, 1]
    assert [by_step(step, 10, 0.5) for step in (6, 10)] == pytest.approx([5 / 6, 1 / 6])


def test_every_pair_of_taps_counts_when_a_shallow_teacher_gives_one_twice():
    algorithm = toy_algorithm("student.family=mobile_resnet", "student.width=4", "student.blocks=9", blocks=2)
    assert algorithm.teacher_taps == ("down2", "block1", "block1", "block2")
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    expected = sum(
        (f(out.student_taps[s]).mean((2, 3)) - out.teacher_taps[t].mean((2, 3))).square().mean()
        for f, s, t in zip(algorithm.connectors, algorithm.student_taps, algorithm.teacher_taps, strict=True)
    )
    assert algorithm.student_terms(out)["channel"].item() == pytest.approx(10 * expected.item(), rel=1e-4)
