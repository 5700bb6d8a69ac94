"""The energy network against its plain form, spectral normalisation, and Langevin dynamics."""

import pytest
import torch
import torch.nn.functional as F

from vemcompress.information.vem import langevin
from vemcompress.networks.energy import EnergyConfig, EnergyModel, SpectralLayer


def energy_model(size: int = 32, channels: int = 4, seed: int = 0) -> EnergyModel:
    """With second convolutions and biases that matter, as after training."""
    torch.manual_seed(seed)
    model = EnergyModel(EnergyConfig.for_size(channels, size, size))
    with torch.no_grad():
        for block in model.blocks:
            for layer in (block.conv1, block.conv2):
                layer.weight.normal_(0, 0.3)
                layer.bias.normal_(0, 0.1)
                layer.converge()
    return model


def normalised(layer: SpectralLayer) -> torch.Tensor:
    sigma = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).detach()
    return layer.weight / (sigma + 1e-6) * sigma.clamp(max=1) if layer.capped else layer.weight / sigma


def plain(model: EnergyModel, t, s):
    """Figure 4 layer by layer, with exact singular values."""

    def pooled(x):
        return F.avg_pool2d(x, 3, stride=2, padding=1)

    h = F.leaky_relu(F.conv2d(torch.cat((pooled(t), pooled(s)), 1), normalised(model.stem), model.stem.bias, padding=1))
    for block in model.blocks:
        y = F.leaky_relu(F.conv2d(h, normalised(block.conv1), block.conv1.bias, padding=1))
        y = F.conv2d(y, normalised(block.conv2), block.conv2.bias, padding=1)
        if block.shortcut is not None:
            h = F.conv2d(h, normalised(block.shortcut), block.shortcut.bias, padding=1)
        h = F.leaky_relu(F.avg_pool2d(h + y, 2))
    return F.linear(F.relu(h).mean((2, 3)), normalised(model.head), model.head.bias)


@pytest.mark.parametrize(("channels", "parameters"), [(8, 107_473), (32, 1_708_609)])
def test_parameters_are_the_published_ones(channels, parameters):
    model = EnergyModel(EnergyConfig.for_size(channels, 256, 256))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "blocks"), [((256, 256), 7), ((64, 64), 5), ((128, 64), 5), ((512, 512), 7), ((8, 8), 2)]
)
def test_as_many_blocks_as_leave_a_pixel(size, blocks):
    config = EnergyConfig.for_size(2, *size)
    assert config.blocks == blocks
    assert EnergyModel(config)(torch.zeros(1, 3, *size), torch.zeros(1, 3, *size)).shape == (1, 1)


@pytest.mark.parametrize("size", [32, 45])
def test_the_folded_network_is_figure_4_layer_by_layer(size):
    model = energy_model(size)
    t, s = torch.rand(2, 3, size, size), torch.rand(2, 3, size, size, requires_grad=True)
    expected, seen = plain(model, t, s), model(t, s)
    assert torch.allclose(seen, expected, atol=1e-5)
    ours, theirs = (torch.autograd.grad(e.sum(), [s, *model.parameters()]) for e in (seen, expected))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_initial_weights_are_as_published():
    model = EnergyModel(EnergyConfig(channels=8, blocks=3))
    assert model.stem.weight.std().item() == pytest.approx(1, abs=0.2)
    assert all(block.conv2.weight.abs().max() < 1e-9 for block in model.blocks)
    assert all(not layer.bias.any() for layer in (model.stem, model.blocks[0].conv1, model.blocks[0].conv2))


def test_a_capped_layer_only_shrinks():
    small = SpectralLayer(torch.eye(3)[..., None, None] * 0.5, torch.zeros(3), capped=True)
    large = SpectralLayer(torch.eye(3)[..., None, None] * 4.0, torch.zeros(3), capped=True)
    assert torch.allclose(small.effective(), small.weight, atol=1e-4)
    assert torch.allclose(large.effective(), large.weight / 4, atol=1e-4)


def test_power_iteration_converges_on_the_largest_singular_value():
    layer = SpectralLayer(torch.randn(6, 4, 3, 3), torch.zeros(6))
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight))
    for _ in range(300):
        layer.power_iteration()
    assert torch.linalg.matrix_norm(layer.effective().flatten(1), 2).item() == pytest.approx(1, abs=1e-4)


def test_langevin_without_noise_descends_by_step_times_gradient():
    start = torch.tensor([[[[0.5, -0.5]]]])
    moved = langevin(lambda t: (t**2).sum((1, 2, 3)), start, steps=2, step_size=0.1, noise=0)
    assert torch.allclose(moved, start * 0.8**2)


def test_langevin_with_frozen_spectral_norm_equals_the_plain_form():
    model = energy_model()
    s = torch.rand(1, 3, 32, 32)
    options = {"steps": 5, "step_size": 100.0, "noise": 0.005}
    fast = langevin(model.given(s, frozen=True), s, **options, random=torch.Generator().manual_seed(1))
    slow = langevin(lambda t: plain(model, t, s), s, **options, random=torch.Generator().manual_seed(1))
    assert torch.allclose(fast, slow, atol=1e-4)
    assert not torch.allclose(fast, s, atol=1e-3)


def test_langevin_clamps_leaves_theta_alone_and_keeps_samples_apart():
    model = energy_model()
    s = torch.rand(2, 3, 32, 32)
    options = {"steps": 3, "step_size": 100.0, "noise": 0}
    both = langevin(model.given(s, frozen=True), s * 3, **options)
    one = langevin(model.given(s[:1], frozen=True), s[:1] * 3, **options)
    assert both.abs().max() <= 1
    assert all(p.grad is None for p in model.parameters())
    assert torch.allclose(both[:1], one, atol=1e-5)
