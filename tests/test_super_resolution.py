"""Generators for super-resolution: their costs, their published files, and what such a file may not be."""

import pytest
import torch
import torch.nn.functional as F
from super_resolution_toys import PLAIN, published
from test_networks import counted

from vemcompress.errors import InputError
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import count_parameters
from vemcompress.weights.loading import load_generator
from vemcompress.weights.recognise import recognise

SHAPES = [
    {"family": "srgan", "trunk": 4, "blocks": [3, 5], "scale": 8},
    {"family": "srgan", "width": 4, "blocks": 2, "scale": 2},
    {"family": "srvgg", "stem": 4, "blocks": [3, 5], "scale": 3},
    {"family": "rrdb", "trunk": 4, "blocks": [2, 3], "scale": 2},
    {"family": "rrdb", "width": 4, "blocks": 1, "scale": 8},
    {"family": "rrdb", "width": 4, "blocks": 1, "scale": 1},
]


@pytest.mark.parametrize("values", SHAPES)
def test_an_image_is_enlarged_by_the_scale_and_costs_what_the_config_says(values):
    config = parse_config(values)
    network, scale = build_generator(config).eval(), config.scale
    found = counted(network, lambda: network(torch.randn(1, 3, 16, 24)))
    cost = config.cost(16, 24)
    assert (cost.true, cost.paper, cost.norm) == (found["true"], found["paper"], found["norm"])
    assert cost.parameters == count_parameters(network)
    assert network.takes.scale == scale
    image, taps = network.forward_with_taps(torch.randn(1, 3, 16, 24), network.taps)
    assert image.shape == (1, 3, scale * 16, scale * 24)
    assert {name: tap.shape[1] for name, tap in taps.items()} == {n: network.tap_channels(n) for n in network.taps}


@pytest.mark.parametrize("layout", PLAIN)
def test_published_weights_give_the_published_image(layout):
    tensors, plain = published(layout)
    network, _ = recognise(tensors, "file")
    x = torch.rand(2, 3, 12, 16)
    assert torch.allclose(network(x * 2 - 1), plain(tensors, x) * 2 - 1, atol=1e-4)
    assert not torch.allclose(network(x * 2 - 1)[:, :, ::2, ::2], network(1 - x * 2)[:, :, ::2, ::2], atol=0.01)


def test_a_trained_srgan_restores_more_than_bicubic_enlargement(test_data):
    """The real file, on real faces of 128 px that were made small."""
    from vemcompress.data.squares import test_batch

    network = load_generator(test_data / "teachers/srgan_x4.pth")
    faces = test_batch(sorted((test_data / "faces_128").iterdir())[:8], 128)
    small = F.interpolate(faces, scale_factor=0.25, mode="bicubic", antialias=True).clamp(-1, 1)
    with torch.no_grad():
        restored = network(small)
    bicubic = F.interpolate(small, scale_factor=4, mode="bicubic")

    def sharpness(images):
        return (images[..., 1:] - images[..., :-1]).abs().mean()

    assert sharpness(bicubic) < 0.75 * sharpness(faces) < sharpness(restored)
    assert F.l1_loss(restored, faces) < 0.15


@pytest.mark.parametrize("layout", PLAIN)
@pytest.mark.parametrize("damage", ["missing", "misshapen", "surplus"])
def test_a_damaged_file_is_refused_in_one_sentence(layout, damage):
    tensors, _ = published(layout)
    name = [name for name, tensor in tensors.items() if tensor.dim() == 4][2]
    if damage == "missing":
        del tensors[name]
    elif damage == "misshapen":
        tensors[name] = torch.zeros(*tensors[name].shape[:3], 5)
    else:
        tensors["further.weight"] = torch.zeros(3)
    with pytest.raises(InputError, match=r"^file: (has the tensor names of a published|not a known generator)"):
        recognise(tensors, "file")


def test_a_compact_network_without_prelu_is_refused_because_its_activation_is_not_stored():
    tensors, _ = published("srvgg")
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.dim() != 1 or name.endswith("bias")}
    with pytest.raises(InputError, match="followed by a PReLU"):
        recognise(tensors, "file")


@pytest.mark.parametrize(
    "bad",
    [
        {"family": "srgan", "width": 4, "scale": 3},
        {"family": "srvgg", "width": 4, "scale": 9},
        {"family": "rrdb", "width": 4, "scale": 3},
        {"family": "srvgg", "width": 4, "blocks": 65},
        {"family": "srgan", "width": 4, "trunk": 4},
        {"family": "srgan", "width": 4, "norm": "instance"},  # its norms are BatchNorm, as published
    ],
)
def test_an_impossible_shape_is_refused(bad):
    with pytest.raises(ValueError):
        parse_config(bad)
