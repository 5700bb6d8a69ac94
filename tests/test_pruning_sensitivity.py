"""Channels judged by gradients of drawn images: CAGC's content and DCP-GAN's diversity."""

import json

import pytest
import torch
from toys import random, toy_teacher

from vemcompress.errors import UsageError
from vemcompress.networks import build_generator, parse_config
from vemcompress.pruning import PRUNERS
from vemcompress.pruning.budget import check_budget, narrow, prune_network
from vemcompress.pruning.content import noise_loss
from vemcompress.pruning.diversity import principal
from vemcompress.pruning.sensitivity import Sensitivity
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load_generator

WIDTHS = (6, 5, 7, 8, 4, 6)


def network():
    torch.manual_seed(3)
    return build_generator(parse_config({"family": "stylegan2", "widths": WIDTHS, "latent": 8, "mapping": 2})).eval()


def scores(method, network, **settings):
    kind = PRUNERS[method]
    return kind(kind.Settings(**settings)).scores(network)


def test_content_is_the_gradient_of_the_kernel_that_reads_a_channel():
    model = network()
    found = scores("content", model, samples=5, batch=3, seed=4)
    assert [len(found[name]) for name in model.config.widths_by_group()] == list(WIDTHS)
    draws, expected = random(4), {}
    kernels = [*(conv.weight for conv in model.convs), model.rgbs[-1].weight]
    for count in (3, 2):
        image = model.synthesise(model.styles(torch.randn(count, 8, generator=draws)), noise=draws)[0]
        pattern = torch.randint(0, 2, (count, 1, 16, 16), generator=draws) * 2.0 - 1
        gone = torch.rand(count, 1, 16, 16, generator=draws) < 0.05
        noisy = torch.where(gone, pattern, image)  # elsewhere the image itself, whose difference has no gradient
        loss = (noisy - image).abs().sum()
        for name, kernel in zip(found, kernels, strict=True):
            size = torch.autograd.grad(loss, kernel, retain_graph=True)[0].abs().mean((0, 2, 3))
            expected[name] = expected.get(name, 0) + size
    for name, value in found.items():
        assert value.min() > 0 and torch.allclose(value, expected[name], rtol=1e-4), name


def test_only_replaced_pixels_count():
    image = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = noise_loss(image, 0.3, random(0))
    (gradient,) = torch.autograd.grad(loss, image)
    replaced = gradient[:, 0] != 0
    assert loss.item() == 3 * replaced.sum().item() and 0.1 < replaced.float().mean() < 0.5
    assert (gradient == gradient[:, :1]).all() and set(gradient.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_diversity_is_the_spread_of_sensitivities_over_directions():
    model = network()
    for conv in model.convs:
        conv.strength.data.zero_()
    found = scores("diversity", model, samples=2, batch=2, directions=3, seed=4)
    draws = random(4)
    with torch.no_grad():
        components, shares = principal(model.styles(torch.randn(10_000, 8, generator=draws)))
    w = model.styles(torch.randn(2, 8, generator=draws)).detach()
    chosen = torch.multinomial(shares, 3, replacement=True, generator=draws)
    sizes = []
    for n in chosen:
        images = [model.synthesise(v)[0] for v in (w, w + 5 * components[:, n])]
        loss = (images[0] - images[1]).abs().sum()
        sizes.append(torch.autograd.grad(loss, model.convs[2].weight)[0].abs().mean((0, 2, 3)))
    sizes = torch.stack(sizes)
    assert torch.allclose(found["conv2"], (sizes - sizes.mean(0)).square().sum(0), rtol=1e-3)


def test_principal_components_are_those_of_the_data():
    w = torch.randn(5000, 3, generator=random(0)) * torch.tensor([1.0, 3.0, 0.1]) + 7
    components, shares = principal(w)
    assert torch.allclose(components[:, -1].abs(), torch.tensor([0.0, 1.0, 0.0]), atol=0.05)
    assert torch.allclose(shares, torch.tensor([0.01, 1.0, 9.0], dtype=torch.double) / 10.01, atol=0.02)
    assert torch.allclose(components.T @ components, torch.eye(3), atol=1e-5)


@pytest.mark.parametrize(("method", "settings"), [("content", {"samples": 4}), ("diversity", {"samples": 2})])
def test_equal_seeds_give_equal_channels_and_leave_the_network_alone(method, settings):
    model = network()
    first, again = (scores(method, model, seed=1, **settings) for _ in range(2))
    other = scores(method, model, seed=2, **settings)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", ["content", "diversity"])
def test_a_budget_is_kept_and_is_checked_without_weights(method):
    model, kind = network(), PRUNERS[method]
    pruner = kind(kind.Settings(samples=2))
    whole = model.config.cost(16, 16).true
    small, kept = prune_network(model, pruner, whole // 2, 16, 16)
    assert small.config.cost(16, 16).true <= whole // 2 and small.config.widths < WIDTHS
    assert torch.isfinite(small(torch.zeros(1, 8))).all() and sum(map(len, kept.values())) == sum(small.config.widths)
    check_budget(model.to("meta"), pruner, whole // 2, 16, 16, "true")


def test_cagcs_ratio_of_a_published_network_has_the_published_macs():
    with torch.device("meta"):
        whole = build_generator(parse_config({"family": "stylegan2", "size": 256}))
    small, _ = narrow(whole, PRUNERS["random"](), 0.7)
    assert small.config.widths == (154,) * 10 + (77, 77, 39, 39)
    assert small.config.cost(256, 256).true == 4_123_578_080


def test_a_ratio_keeps_the_channels_of_the_highest_scores():
    model, kind = network(), PRUNERS["content"]
    pruner = kind(kind.Settings(samples=2))
    small, kept = narrow(model, pruner, 0.5)
    assert small.config.widths == tuple(width - int(width * 0.5) for width in WIDTHS)
    for name, values in pruner.scores(model).items():
        gone = [n for n in range(len(values)) if n not in kept[name].tolist()]
        assert values[kept[name]].min() >= values[gone].max() and kept[name].tolist() == sorted(kept[name].tolist())


def test_the_command_prunes_by_ratio_or_by_macs_and_not_by_both(call, tmp_path):
    save_generator(tmp_path / "g.safetensors", network())
    small = tmp_path / "small.safetensors"
    code, out, err = call(
        "prune", tmp_path / "g.safetensors", "--method", "content", "--ratio", 0.5, "-o", small, "--json"
    )
    assert code == 0, err
    assert load_generator(small).config.widths == (3, 3, 4, 4, 2, 3)
    assert json.loads(out)["target"] == json.loads(out)["after"]["macs"]["true"]
    for more, told in (
        ((), "give either target_macs"), (("--ratio", 0.5, "--target-macs", "1M"), "give either"),
        (("--ratio", 1), "ratio 1.0: give the share"), (("--ratio", 0), "ratio 0.0: give the share"),
    ):  # fmt: skip
        code, _, err = call("prune", tmp_path / "g.safetensors", "-o", small, *more)
        assert code == 2 and told in err


def test_an_impossible_budget_is_told_before_any_image_is_drawn(call, tmp_path, monkeypatch):
    save_generator(tmp_path / "g.safetensors", network())
    monkeypatch.setattr(Sensitivity, "images", lambda *_: pytest.fail("drew images"))
    arguments = "--method", "content", "--target-macs", 1, "-o", tmp_path / "small.safetensors"
    code, _, err = call("prune", tmp_path / "g.safetensors", *arguments)
    assert code == 2 and "this method needs at least" in err


def test_content_judges_other_latent_generators_too():
    found = scores("content", toy_teacher("dcgan"), samples=2)
    assert found and all(values.min() > 0 for values in found.values())


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(UsageError, match="this resnet needs input images; use l1"):
        scores("content", toy_teacher("resnet"))
    with pytest.raises(UsageError, match="a resnet has no w"):
        scores("diversity", toy_teacher("resnet"))
    with pytest.raises(UsageError, match="a dcgan has no w; use content"):
        scores("diversity", toy_teacher("dcgan"))


def test_l1_out_is_the_norm_of_the_kernels_that_styles_make():
    model = network()
    found = scores("l1_out", model, samples=3, batch=2, seed=4)
    w = model.styles(random_latents(3, 2, seed=4))
    layers = [*model.convs, model.rgbs[-1]]
    for name, layer in zip(found, layers, strict=True):
        style = layer.modulation(w)
        kernel = layer.weight * layer.scale * style[:, None, :, None, None]
        if layer.demodulate:
            kernel = kernel / (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        assert torch.allclose(found[name], kernel.mean(0).abs().sum((0, 2, 3)), rtol=1e-4), name


def test_l1_style_is_the_size_of_the_mean_style():
    model = network()
    found = scores("l1_style", model, samples=3, batch=2, seed=4)
    w = model.styles(random_latents(3, 2, seed=4))
    assert torch.allclose(found["conv2"], model.convs[2].modulation(w).mean(0).abs(), rtol=1e-5)
    assert torch.allclose(found["conv5"], model.rgbs[-1].modulation(w).mean(0).abs(), rtol=1e-5)


def random_latents(count, batch, seed):
    draws = random(seed)
    return torch.cat([torch.randn(min(batch, count - n), 8, generator=draws) for n in range(0, count, batch)])


def test_l1_out_of_other_networks_is_that_of_the_weights_that_read():
    teacher = toy_teacher("resnet")
    found = scores("l1_out", teacher)
    stem = next(group for group in teacher.groups() if group.name in found)
    slot = next(slot for slot in stem.slots if slot.role == "read")
    kernel = teacher.get_parameter(slot.tensor).movedim(slot.axis, 0)
    assert torch.allclose(found[stem.name], kernel.abs().sum((1, 2, 3)))
    with pytest.raises(UsageError, match="a resnet has none; use l1"):
        scores("l1_style", teacher)
