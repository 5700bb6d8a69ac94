"""Costs as arithmetic against the published figures and the built networks; taps."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import count_parameters, use_image_statistics

PUBLISHED = [  # parameters, true, paper, paper_norm; millions and G at 256 px; None where no table has it
    ({"family": "resnet", "width": 64}, 11.378, 49.55, 56.80, 56.83),
    ({"family": "mobile_resnet", "width": 16}, 0.1373, 0.955, 1.408, None),
    ({"family": "mobile_resnet", "width": 64}, 1.987, 11.07, 18.31, None),
    ({"family": "unet", "width": 64}, 54.414, 6.05, 18.14, 18.143),
    ({"family": "unet", "width": 16}, 3.4045, 0.406, 1.219, None),
]
SHAPES = [
    {"family": "resnet", "width": 4, "blocks": 2, "norm": "batch", "in_channels": 1},
    {"family": "mobile_resnet", "widths": [3, 5, 6, 7, 4], "blocks": [2, 9], "out_channels": 2},
    {"family": "unet", "width": 4, "downs": 3, "norm": "instance"},
    {"family": "unet", "down": [3, 5, 7], "up": [2, 4], "norm": "batch"},
    {"family": "cartoongan", "width": 4, "blocks": 2},
]


@pytest.mark.parametrize(("config", "parameters", "true", "paper", "paper_norm"), PUBLISHED)
def test_costs_are_the_published_ones(config, parameters, true, paper, paper_norm):
    cost = parse_config(config).cost(256, 256)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=5e-4)
    assert cost.true / 1e9 == pytest.approx(true, abs=5e-3)
    assert cost.paper / 1e9 == pytest.approx(paper, abs=5e-3)
    assert paper_norm is None or cost.paper_norm / 1e9 == pytest.approx(paper_norm, abs=5e-3)


def counted(network: nn.Module, run) -> dict[str, int]:
    """The MACs of what `run` computes with the network for one image, as `true` and `paper` count them, and the
    elements that norms give."""
    found, handles = {"true": 0, "paper": 0, "norm": 0}, []

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            macs = output[0].numel() * module.weight[0].numel()
            found["true"] += macs
            found["paper"] += macs
        elif isinstance(module, nn.ConvTranspose2d):
            found["true"] += inputs[0][0].numel() * module.weight[0].numel()
            found["paper"] += output[0].numel() * module.in_channels * module.weight[0, 0].numel()
        else:
            found["norm"] += output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d | nn.BatchNorm2d):
            handles.append(module.register_forward_hook(count))
    run()
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("config", SHAPES)
def test_costs_equal_those_of_the_built_network(config):
    shape = parse_config(config)
    network = build_generator(shape).eval()
    found = counted(network, lambda: network(torch.randn(1, shape.in_channels, 32, 48)))
    cost = shape.cost(32, 48)
    assert (cost.true, cost.paper, cost.norm) == (found["true"], found["paper"], found["norm"])
    assert cost.parameters == count_parameters(network)


@pytest.mark.parametrize("config", [*SHAPES, {"family": "agd", "width": 4, "cells": 3}])
def test_every_tap_can_be_read_and_leaves_the_image_as_it_is(config):
    network = build_generator(parse_config(config)).eval()
    x = torch.randn(2, network.config.in_channels, 32, 32)
    image, taps = network.forward_with_taps(x, network.taps)
    assert torch.equal(image, network(x))
    assert image.shape == (2, network.config.out_channels, 32, 32)
    assert {name: tap.shape[1] for name, tap in taps.items()} == {n: network.tap_channels(n) for n in network.taps}


def test_unet_taps_are_the_published_feature_maps():
    """OMGD's four places at 256 px: 2n at 64, 8n at 16, 16n at 16 and 4n at 64."""
    network = build_generator(parse_config({"family": "unet", "width": 2})).eval()
    _, taps = network.forward_with_taps(torch.randn(1, 3, 256, 256), ("down2", "down4", "up4", "up2"))
    assert [tuple(taps[n].shape[1:]) for n in ("down2", "down4", "up4", "up2")] == [
        (4, 64, 64), (16, 16, 16), (32, 16, 16), (8, 64, 64),
    ]  # fmt: skip
    assert taps["down2"].min() < 0 <= taps["up2"].min()


def test_image_statistics_are_those_of_batch_norm_in_training_at_batch_one():
    network = build_generator(parse_config({"family": "unet", "width": 4, "downs": 4})).train()
    x = torch.randn(1, 3, 32, 32)
    expected = network(x)
    use_image_statistics(network)
    assert torch.allclose(network.eval()(x), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [{"width": 0}, {"width": "16"}, {"widths": [1, 2, 3]}, {"width": 8, "depth": 3}])
def test_an_impossible_shape_is_refused(bad):
    with pytest.raises(ValueError):
        parse_config({"family": "mobile_resnet", **bad})


@pytest.mark.parametrize("family", ["mobile_resnet", "unet"])
def test_relu6_bounds_every_tap_and_is_another_network(family):
    torch.manual_seed(0)
    plain = build_generator(parse_config({"family": family, "width": 8}))
    bounded = build_generator(parse_config({"family": family, "width": 8, "activation": "relu6"}))
    bounded.load_state_dict(plain.state_dict())
    x = torch.zeros(1, 3, 256, 256)
    x[..., 100, 100] = 50.0  # a norm leaves a peak of many standard deviations
    names = tuple(name for name in plain.taps if not name.startswith(("block", "rise")))
    with torch.no_grad():
        _, free = plain.train().forward_with_taps(x, names)
        _, taps = bounded.train().forward_with_taps(x, names)
    assert max(tap.max() for tap in free.values()) > 6
    assert all(tap.min() >= 0 and tap.max() <= 6 for tap in taps.values())


def test_the_deep_teachers_keep_their_published_activation():
    with pytest.raises(ValidationError):
        parse_config({"family": "deep_unet", "width": 8, "activation": "relu6"})
