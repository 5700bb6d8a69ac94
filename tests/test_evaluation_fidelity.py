"""SSIM, PSNR and L1 against torchmetrics and hand numbers."""

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from vemcompress.errors import UsageError
from vemcompress.evaluation.fidelity import l1, psnr, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 24, 40, generator=generator)
    noise = torch.randn(a.shape, generator=generator) * torch.tensor([0.01, 0.1, 0.5]).view(3, 1, 1, 1)
    return a, (a + noise).clamp(0, 1)


def test_ssim_is_torchmetrics_map_where_the_window_lies_inside(pair):
    # torchmetrics pads by reflection and averages the whole map; Wang et al. take the valid places alone.
    _, whole = structural_similarity_index_measure(*pair, data_range=1.0, reduction="none", return_full_image=True)
    expected = whole[..., 5:-5, 5:-5].mean((1, 2, 3))
    torch.testing.assert_close(ssim(*pair).float(), expected, rtol=1e-4, atol=1e-5)


def test_psnr_is_torchmetrics_for_each_image(pair):
    expected = peak_signal_noise_ratio(*pair, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(*pair).float(), expected, rtol=1e-4, atol=1e-4)


def test_l1_is_the_mean_absolute_difference_of_each_image():
    a = torch.zeros(2, 3, 16, 16)
    b = torch.stack((torch.full((3, 16, 16), 0.25), torch.ones(3, 16, 16)))
    assert l1(a, b).tolist() == [0.25, 1.0]


def test_equal_images_have_the_best_values(pair):
    a, _ = pair
    assert ssim(a, a).tolist() == pytest.approx([1.0] * 3)
    assert psnr(a, a).tolist() == [100.0] * 3


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(UsageError, match="at least 11 px"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
