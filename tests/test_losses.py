"""The losses against hand numbers and plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from vemcompress.losses import features, image
from vemcompress.losses import information as energy


def plain_ssim(a, b):
    g = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(g / g.sum(), g / g.sum()).expand(3, 1, 11, 11)

    def mean(x):
        return F.conv2d(x, window, padding=5, groups=3)

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean()


def test_ssim_is_the_two_dimensional_gaussian_form():
    a, b = torch.rand(2, 3, 24, 20) * 2 - 1, torch.rand(2, 3, 24, 20) * 2 - 1
    assert image.ssim(a, b).item() == pytest.approx(plain_ssim(a, b).item(), abs=1e-5)
    assert image.ssim(a, a).item() == pytest.approx(1, abs=1e-6)
    assert image.ssim_loss(1 + 0.4 * a, 1 - 0.4 * a) > 1


def test_total_variation_sums_over_batch_and_pixels():
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).expand(2, 3, 2, 2)
    assert image.total_variation(x).item() == pytest.approx(6 * (1.0 + 0 + 0.5 + 0.5))


def test_gram_divides_by_channels_and_pixels():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    assert torch.allclose(features.gram(x), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_style_sums_layers_and_averages_entries():
    one, zero = torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    assert features.style([one, one], [zero, zero]).item() == pytest.approx(2 * 0.5)


def test_channel_distillation_compares_spatial_means():
    teacher = [torch.full((1, 2, 4, 4), 3.0)]
    student = [torch.arange(32.0).view(1, 2, 4, 4)]
    expected = ((7.5 - 3) ** 2 + (23.5 - 3) ** 2) / 2
    assert features.channel_distillation(teacher, student).item() == pytest.approx(expected)


def test_the_teachers_side_is_a_constant():
    teacher, student = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16, requires_grad=True)
    total = image.ssim_loss(teacher, student) + image.reconstruction(teacher, student)
    total = total + features.style([teacher], [student]) + features.feature(teacher, student)
    (total + features.channel_distillation([teacher], [student])).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_energy_losses_by_hand():
    positive, negative = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [-1.0]])
    assert energy.contrast(positive, negative).item() == pytest.approx(1.5)
    assert energy.magnitude(positive, negative).item() == pytest.approx((1 + 9 + 4 + 1) / 2)
