"""Channel groups: cutting, masking and running at a smaller width agree, and a set of widths costs what Config says."""

from timeit import repeat

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import Generator, use_image_statistics
from vemcompress.networks.cost import Cost, costs
from vemcompress.networks.groups import at, cut, masked
from vemcompress.weights.traced import traced_groups

SHAPES = {
    "resnet": {"width": 4, "blocks": 3},
    "mobile_resnet": {"width": 4, "blocks": 3},
    "unet": {"width": 4, "downs": 4},
    "deep_unet": {"width": 2, "downs": 4},
    "deep_mobile_resnet": {"width": 3, "blocks": 4},
    "cartoongan": {"width": 4, "blocks": 2},
    "inception_resnet": {"width": 6, "blocks": 2},
    "srgan": {"trunk": 4, "blocks": [3, 5], "scale": 4, "norm": "batch"},
    "srvgg": {"stem": 4, "blocks": [3, 5], "scale": 2, "norm": "none"},
    "rrdb": {"trunk": 4, "blocks": [2, 3], "scale": 2, "norm": "none"},
    "fast_neural_style": {"width": 4, "blocks": 2},
    "pix2pixhd": {"family": "resnet", "width": 3, "blocks": 2, "downs": 3},
    "local_enhancer": {"width": 2, "blocks": 2, "downs": 2, "local_blocks": 2},
    "animegan2": {"width": 3, "blocks": 3, "norm": "layer"},
    "ugatit": {"width": 3, "blocks": 2, "norm": "adaptive"},
    "ugatit-full": {"family": "ugatit", "width": 3, "blocks": 2, "norm": "adaptive", "full_size": 32},
}
FIXED = {"cartoongan": "instance_affine"} | {f: shape["norm"] for f, shape in SHAPES.items() if "norm" in shape}
NORMS = ("instance", "instance_affine", "batch", "image")  # image: BatchNorm that uses each image's own statistics
KINDS = [(f, n) for f in SHAPES for n in ((FIXED[f],) if f in FIXED else NORMS)]
LATENT = {
    "dcgan": {"width": 3, "levels": 2, "refined": 1, "latent": 6},
    "sagan": {"width": 6, "levels": 3, "latent": 6, "spectral": False},
    "stylegan2": {"widths": [7, 6, 5, 6, 4, 3], "latent": 6, "style": 5, "mapping": 2},
}
CUT = [*KINDS, *((family, "batch") for family in LATENT)]


def random_network(family: str, norm: str, **shape) -> Generator:
    """Double precision, with scales, shifts and running statistics away from 1 and 0, and images that are not flat."""
    torch.manual_seed(0)
    known = (SHAPES | LATENT)[family]
    config = parse_config({"family": family, "norm": "batch" if norm == "image" else norm, **known, **shape})
    network = build_generator(config).double().eval()
    for tensor in network.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            new = torch.rand_like(tensor) * 0.5 + 0.1
            tensor.data = new if tensor.dim() == 1 else torch.randn_like(tensor) / tensor[0].numel() ** 0.5
    if norm == "image":
        use_image_statistics(network)
    return network


def some(network: Generator) -> dict[str, Tensor]:
    """About two thirds of each group's channels."""
    return {g.name: torch.randperm(g.size)[: -(-2 * g.size // 3)].sort().values for g in network.groups()}


def masks_of(network: Generator, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {g.name: torch.zeros(g.size).index_fill(0, kept[g.name], 1.0) for g in network.groups()}


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 32, 32, dtype=torch.double)


def inputs(family: str) -> Tensor:
    return torch.randn(2, 6, dtype=torch.double) if family in LATENT else images()


@pytest.mark.parametrize(("family", "norm"), CUT)
def test_cutting_gives_what_masking_gives(family, norm):
    network, x = random_network(family, norm), inputs(family)
    kept = some(network)
    small = cut(network, kept)
    assert torch.allclose(small(x), masked(network, masks_of(network, kept), x)[0], atol=1e-9)
    assert not torch.allclose(small(x), network(x), atol=1e-2)
    assert small.config.widths_by_group() == {name: len(channels) for name, channels in kept.items()}


@pytest.mark.parametrize("family", SHAPES)
def test_cutting_gives_what_masking_gives_in_single_precision(family):
    network, x = random_network(family, FIXED.get(family, "instance_affine")).float(), images().float()
    kept = some(network)
    assert torch.allclose(cut(network, kept)(x), masked(network, masks_of(network, kept), x)[0], atol=1e-5)


def test_a_network_with_spectral_norm_is_cut_as_its_files_have_it():
    network, x = random_network("sagan", "batch", spectral=True), inputs("sagan")
    for up in network.ups:
        up.converge()
    kept, folded = some(network), network.deployed()
    small = cut(network, kept)
    assert not small.config.spectral
    assert torch.equal(small(x), cut(folded, kept)(x))
    assert torch.allclose(small(x), masked(folded, masks_of(network, kept), x)[0], atol=1e-9)
    assert not torch.allclose(small(x), network(x), atol=1e-2)


@pytest.mark.parametrize(("family", "norm"), CUT)
def test_a_smaller_width_is_the_network_of_the_first_channels(family, norm):
    network, x = random_network(family, norm), inputs(family)
    widths = {name: max(1, width // 2) for name, width in network.config.widths_by_group().items()}
    small = cut(network, widths)
    image, taps = at(network, small.config, x, network.taps)
    assert torch.equal(image, at(network, widths, x)[0])
    expected, of_small = small.forward_with_taps(x, small.taps)
    assert torch.allclose(image, expected, atol=1e-9)
    assert all(torch.allclose(taps[name], of_small[name], atol=1e-9) for name in taps)
    assert torch.equal(network(x), masked(network, {}, x)[0])  # its layers are as before


@pytest.mark.parametrize(("family", "norm"), [k for k in KINDS if k[0] in ("resnet", "mobile_resnet", "unet")])
def test_groups_are_those_that_torch_pruning_traces(family, norm):
    pytest.importorskip("torch_pruning", reason="needs pip install 'vemcompress[prune]'")
    network = random_network(family, norm).float()
    there = network.state_dict().keys()
    ours, traced = (
        {(group.size, frozenset(slot for slot in group.slots if slot.tensor in there)) for group in groups}
        for groups in (network.groups(), traced_groups(network, family, 3))
    )
    assert ours == traced


@pytest.mark.parametrize("family", [*SHAPES, *LATENT])
def test_groups_are_the_widths_of_the_config(family):
    config = parse_config({"family": family, **(SHAPES | LATENT)[family]})
    own = config.widths_by_group()
    assert {group.name: group.size for group in build_generator(config).groups()} == own
    wider = {name: width + i for i, (name, width) in enumerate(own.items())}
    assert config.with_widths(wider).widths_by_group() == wider
    assert config.with_widths(wider).with_widths(own) == config
    for wrong in ({"nowhere": 3}, {next(iter(own)): 0}):
        with pytest.raises(ValueError, match=r"no channel group 'nowhere'|greater than or equal to 1"):
            config.with_widths(wrong)


def test_a_group_that_is_not_there_or_would_be_empty_is_refused():
    network = random_network("resnet", "batch")
    for wrong in ({"nowhere": 3}, {"trunk": 0}, {"trunk": 17}):
        with pytest.raises(ValueError, match=r"nowhere|keep 1 to 16"):
            cut(network, wrong)


def test_gradients_reach_masks_and_the_weights_of_a_smaller_width():
    network, x = random_network("mobile_resnet", "instance"), images(1)
    masks = {g.name: torch.ones(g.size, requires_grad=True) for g in network.groups()}
    masked(network, masks, x)[0].square().mean().backward()
    assert all(mask.grad.abs().min() > 0 for mask in masks.values())
    network.zero_grad()
    at(network, {"trunk": 5}, x)[0].square().mean().backward()
    used = network.down2.weight.grad.flatten(1).abs().sum(1) > 0
    assert used.tolist() == [True] * 5 + [False] * 11


def test_a_cut_network_shares_no_memory_with_its_origin():
    network = random_network("unet", "batch")
    small = cut(network, {"down2": 3})
    before = {name: t.clone() for name, t in small.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(before[name], t) for name, t in small.state_dict().items())
    assert all(p.is_contiguous() and p.requires_grad for p in small.parameters())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_costs_of_widths_are_those_of_the_config(data):
    family = data.draw(st.sampled_from(list(SHAPES)))
    norm = data.draw(st.sampled_from(["instance", "instance_affine", "batch"]))
    config = parse_config({"family": family, "norm": FIXED.get(family, norm), "in_channels": 2, **SHAPES[family]})
    height, width = (16 * data.draw(st.integers(1, 20)) for _ in range(2))
    table = costs(config, height, width)
    sets = [{n: data.draw(st.integers(1, 600)) for n in table.names} for _ in range(2)]
    expected = [config.with_widths(widths).cost(height, width) for widths in sets]
    assert [table(widths) for widths in sets] == expected
    found = table.batch(np.array([list(widths.values()) for widths in sets]))
    assert [Cost(*row) for row in found.tolist()] == expected


@pytest.mark.parametrize("family", LATENT)
def test_costs_of_generators_from_latent_vectors_are_those_of_the_config(family):
    config = parse_config({"family": family, **LATENT[family]})
    table, own = costs(config, config.image, config.image), config.widths_by_group()
    for widths in (own, {name: width + 3 * i for i, (name, width) in enumerate(own.items())}):
        assert table(widths) == config.with_widths(widths).cost(config.image, config.image)


@pytest.mark.parametrize("family", ["resnet", "mobile_resnet", "unet"])
def test_fifty_thousand_sets_of_widths_are_counted_in_a_second(family):
    config = parse_config({"family": family, "width": 64})
    table, widths = costs(config, 256, 256), config.widths_by_group()
    assert min(repeat(lambda: table(widths), number=1000, repeat=20)) < 1000 / 50_000
