"""Online teachers' networks: published figures, published outputs, and which teacher's scores train which weights."""

import published_gans as published
import pytest
import torch
from gans_toys import save_discriminator
from published import BATCH, INSTANCE, UnetGenerator, randomise
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from vemcompress.errors import InputError
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import count_parameters
from vemcompress.networks.discriminators import (
    PatchGANConfig,
    SharedPatchGANConfig,
    build_discriminator,
    parse_discriminator_config,
)
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.discriminator import discriminator_metadata, load_discriminator
from vemcompress.weights.format import SUM
from vemcompress.weights.loading import load, load_generator

AFFINE = lambda channels: nn.InstanceNorm2d(channels, affine=True)  # noqa: E731

# Parameters in millions, true and paper MACs in G at 256 px.
FIGURES = [
    ({"family": "deep_unet", "width": 16}, 44.17, 17.53, 18.34),
    ({"family": "deep_mobile_resnet", "width": 16}, 2.547, 17.78, 18.24),
]
SHAPES = [
    {"family": "deep_unet", "width": 2, "downs": 4},
    {"family": "deep_unet", "down": [3, 5, 4], "up": [2, 6], "norm": "instance", "in_channels": 1},
    {"family": "deep_mobile_resnet", "width": 2, "blocks": 3},
    {"family": "deep_mobile_resnet", "widths": [3, 5, 6, 7, 4], "blocks": [2, 9], "norm": "batch", "out_channels": 1},
]
JUDGES = [
    {"family": "patchgan", "width": 4},
    {"family": "patchgan", "width": 4, "layers": 1, "norm": "batch", "in_channels": 6},
    {"family": "patchgan", "width": 2, "layers": 4, "norm": "instance_affine"},
    {"family": "pixelgan", "width": 4},
    {"family": "pixelgan", "width": 4, "norm": "batch"},
    {"family": "shared_patchgan", "width": 4, "norm": "batch"},
]


def image(channels: int = 3, height: int = 64, width: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("config", "parameters", "true", "paper"), FIGURES)
def test_deep_teachers_cost_what_is_published(config, parameters, true, paper):
    cost = parse_config(config).cost(256, 256)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=10 ** -(len(str(parameters)) - 3))
    assert (round(cost.true / 1e9, 2), round(cost.paper / 1e9, 2)) == (true, paper)


def test_the_shared_discriminator_has_the_published_parameters_dead_copies_included():
    assert round(SharedPatchGANConfig(in_channels=6, width=128).cost(256, 256).parameters / 1e6, 2) == 22.08


def counted(network: nn.Module, x: torch.Tensor) -> tuple[int, int, int]:
    true = paper = norms = 0

    def count(module, inputs, output):
        nonlocal true, paper, norms
        if isinstance(module, nn.Conv2d):
            true += output[0].numel() * module.weight[0].numel()
            paper += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            true += inputs[0][0].numel() * module.weight[0].numel()
            paper += output[0].numel() * module.in_channels * module.weight[0, 0].numel()
        else:
            norms += output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d | nn.BatchNorm2d):
            module.register_forward_hook(count)
    network(x)
    return true, paper, norms


@pytest.mark.parametrize("values", [*SHAPES, *JUDGES], ids=lambda values: values["family"])
def test_costs_equal_those_of_the_built_network(values):
    if values in SHAPES:
        network = build_generator(parse_config(values))
    else:
        network = build_discriminator(parse_discriminator_config(values))
    cost = network.config.cost(48, 64)
    x = image(network.config.in_channels, 48, 64)
    assert counted(network.eval(), x) == (cost.true, cost.paper, cost.norm)
    assert count_parameters(network) == cost.parameters


@pytest.mark.parametrize("values", SHAPES, ids=lambda values: values["family"])
def test_every_tap_can_be_read_and_leaves_the_image_as_it_is(values):
    network = build_generator(parse_config(values)).eval()
    x = image(network.config.in_channels)
    y, taps = network.forward_with_taps(x, network.taps)
    assert torch.equal(y, network(x)) and y.shape == (2, network.config.out_channels, 64, 64)
    assert {name: tap.shape[1] for name, tap in taps.items()} == {n: network.tap_channels(n) for n in network.taps}


@pytest.mark.parametrize("values", SHAPES, ids=lambda values: values["family"])
def test_deep_teachers_learn_at_their_smallest_size(values):
    network = build_generator(parse_config(values)).train()
    x = image(network.config.in_channels, network.min_size, network.min_size)
    network(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


GENERATORS = {
    "deep_unet-2": lambda: published.DeepUnet(4, 2),
    "deep_unet-5": lambda: published.DeepUnet(2, 5),
    "deep_unet-instance": lambda: published.DeepUnet(4, 3, norm=INSTANCE, channels=(1, 4)),
    "deep_unet-affine": lambda: published.DeepUnet(4, 3, norm=AFFINE),
    "deep_mobile_resnet-9": lambda: published.DeepMobile(4),
    "deep_mobile_resnet-batch": lambda: published.DeepMobile(2, 4, norm=BATCH, channels=(4, 1)),
    "deep_mobile_resnet-1": lambda: published.DeepMobile(2, 1),
}


@torch.no_grad()
@pytest.mark.parametrize("case", GENERATORS)
def test_published_deep_teachers_give_the_published_images(case, tmp_path):
    reference = randomise(GENERATORS[case]())
    torch.save(reference.state_dict(), tmp_path / "latest_net_G_teacher_d.pth")
    loaded = load(tmp_path / "latest_net_G_teacher_d.pth")
    assert loaded.origin == f"published:{case.rpartition('-')[0]}"
    x = image(loaded.generator.config.in_channels)
    for training in (False, True):  # its batch statistics, too
        expected = reference.train(training)(x)
        assert expected.std() > 0.01 and expected.abs().median() < 0.99
        assert (loaded.generator.train(training)(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["deep_unet", "deep_mobile_resnet"])
def test_a_deep_teacher_with_a_block_too_few_is_refused(family, tmp_path):
    state = GENERATORS[f"{family}-{5 if family == 'deep_unet' else 9}"]().state_dict()
    last = "model.model.4." if family == "deep_unet" else "model.28."
    torch.save({name: t for name, t in state.items() if not name.startswith(last)}, tmp_path / "cut.pth")
    with pytest.raises(
        InputError, match=rf"cut\.pth: has the tensor names of a published {family}, but .*(missing|27, 32)"
    ):
        load(tmp_path / "cut.pth")


@pytest.mark.parametrize("values", SHAPES, ids=lambda values: values["family"])
def test_deep_teachers_survive_our_artifact(values, tmp_path):
    network = build_generator(parse_config(values)).eval()
    save_generator(tmp_path / "g.safetensors", network)
    x = image(network.config.in_channels)
    assert torch.equal(load_generator(tmp_path / "g.safetensors")(x), network(x))


DISCRIMINATORS = {
    "patchgan": lambda: published.NLayers(3, 4),
    "patchgan-batch": lambda: published.NLayers(6, 4, norm=BATCH),
    "patchgan-affine": lambda: published.NLayers(3, 4, norm=AFFINE),
    "patchgan-1": lambda: published.NLayers(3, 4, 1),
    "patchgan-4": lambda: published.NLayers(3, 2, 4),
    "pixelgan": lambda: published.Pixels(6, 4),
    "pixelgan-batch": lambda: published.Pixels(3, 4, norm=BATCH),
}


@pytest.mark.parametrize("case", DISCRIMINATORS)
def test_published_discriminators_give_the_published_scores(case, tmp_path):
    reference = randomise(DISCRIMINATORS[case]())
    torch.save(reference.state_dict(), tmp_path / "latest_net_D.pth")
    network = load_discriminator(tmp_path / "latest_net_D.pth")
    x = image(network.config.in_channels)
    for training in (False, True):
        assert (network.train(training)(x) - reference.train(training)(x)).abs().max() < 1e-4
    assert network.family == case.partition("-")[0]


@pytest.mark.parametrize("norm", [INSTANCE, BATCH], ids=["instance", "batch"])
@pytest.mark.parametrize("n_share", range(6))
def test_two_teachers_share_stages_as_published(n_share, norm, tmp_path):
    reference = randomise(published.MultiNLayers(6, 4, n_share, norm))
    torch.save(reference.state_dict(), tmp_path / "latest_net_D_teacher.pth")
    kind = "batch" if norm is BATCH else "instance"
    expected = SharedPatchGANConfig(width=4, n_share=n_share, norm=kind)
    network, x = load_discriminator(tmp_path / "latest_net_D_teacher.pth", expected), image(6)
    wide, deep = network(x, teacher="wide"), network(x, teacher="deep")
    assert torch.allclose(wide, reference(x, 1), atol=1e-4) and torch.allclose(deep, reference(x, 2), atol=1e-4)
    assert torch.equal(wide, deep) == (n_share == 5)


@pytest.mark.parametrize("n_share", range(6))
def test_gradients_reach_only_the_copies_that_a_teacher_uses(n_share):
    network = build_discriminator(SharedPatchGANConfig(width=2, n_share=n_share))
    for teacher, own in (("wide", 0), ("deep", 1)):
        network.zero_grad()
        network(image(6), teacher=teacher).mean().backward()
        used = [[all(p.grad is not None for p in copy.parameters()) for copy in pair] for pair in network.stages]
        shared = [[False, True]] * n_share
        assert used == shared + [[own == 0, own == 1]] * (5 - n_share)


def test_a_third_teacher_is_refused():
    with pytest.raises(ValueError, match="'wide' or 'deep'"):
        build_discriminator(SharedPatchGANConfig(width=2))(image(6), teacher="best")


def test_patchgan_taps_are_what_hooks_see_in_the_published_modules(tmp_path):
    """GCC distils from layers 3 and 9 of the Sequential; the LeakyReLU behind them works in place."""
    reference = randomise(published.NLayers(3, 4))
    torch.save(reference.state_dict(), tmp_path / "d.pth")
    network, x, seen = load_discriminator(tmp_path / "d.pth"), image(), {}
    for index in (1, 3, 4, 6, 9, 10):
        reference.model[index].register_forward_hook(lambda m, i, output, index=index: seen.update({index: output}))
    reference(x)
    scores, taps = network.forward_with_taps(x, network.taps)
    assert torch.equal(scores, network(x)) and list(taps) == ["layer1", "layer2", "layer3", "layer4"]
    for name, index in (("layer1", 1), ("layer2", 4), ("layer2", 3), ("layer3", 6), ("layer4", 9), ("layer4", 10)):
        assert torch.allclose(taps[name], seen[index], atol=1e-5)


@pytest.mark.parametrize("values", JUDGES, ids=lambda values: values["family"])
def test_the_smallest_image_still_gets_a_score(values):
    network = build_discriminator(parse_discriminator_config(values)).train()
    size = network.config.min_size
    assert min(network(image(network.config.in_channels, size, size)).shape) >= 1
    if values["family"] != "pixelgan":
        with pytest.raises((RuntimeError, ValueError)):
            network(image(network.config.in_channels, size - 1, size))


@pytest.mark.parametrize("values", JUDGES, ids=lambda values: values["family"])
def test_a_saved_discriminator_is_rebuilt_without_a_guess(values, tmp_path):
    original, path = build_discriminator(parse_discriminator_config(values)).eval(), tmp_path / "d.safetensors"
    save_discriminator(path, original, {"step": "3", "family": "unet"})
    loaded = load_discriminator(path, original.config)
    x = image(original.config.in_channels)
    assert loaded.config == original.config and not loaded.training and torch.equal(loaded(x), original(x))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {**discriminator_metadata(original), "step": "3", SUM: file.metadata()[SUM]}


def bad_files():
    shared, patch = published.MultiNLayers(6, 4, 5).state_dict(), published.NLayers(3, 4).state_dict()
    state = {
        "two teachers": (shared, None, "give the expected shared_patchgan with its n_share"),
        "of another kind": (shared, PatchGANConfig(in_channels=6, width=4), "family is shared_patchgan and should be"),
        "another width": (patch, PatchGANConfig(width=8), "its width is 4 and should be 8"),
        "without condition": (patch, PatchGANConfig(in_channels=6, width=4), "in_channels is 3 and should be 6"),
        "cut": ({k: v for k, v in patch.items() if k != "model.8.bias"}, None, r"'model\.8\.bias' is missing"),
        "no head": ({k: v for k, v in patch.items() if "11" not in k}, None, "published patchgan, but"),
        "surplus": (patch | {"model.12.alpha": torch.ones(4)}, None, "surplus.* holds the discriminator alone"),
        "generator": (UnetGenerator(4, 3).state_dict(), None, "not a known discriminator, but .* tensors"),
    }
    return [pytest.param(*case, id=name) for name, case in state.items()]


@pytest.mark.parametrize(("state", "expected", "said"), bad_files())
def test_what_is_no_fitting_discriminator_is_refused_in_one_sentence(state, expected, said, tmp_path):
    torch.save(state, tmp_path / "d.pth")
    with pytest.raises(InputError, match=rf"d\.pth: .*{said}") as caught:
        load_discriminator(tmp_path / "d.pth", expected)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": "{"}, "no readable config"),
        ({"config": '{"family": "unet"}'}, "config is not valid"),
        ({"config": '{"family": "patchgan", "width": 8}'}, "do not fit its config"),
    ],
)
def test_a_saved_discriminator_that_contradicts_itself_is_refused(change, said, tmp_path):
    path, network = tmp_path / "d.safetensors", build_discriminator(PatchGANConfig(width=4))
    save_discriminator(path, network)
    save_file(load_file(path), path, discriminator_metadata(network) | change)
    with pytest.raises(InputError, match=said):
        load_discriminator(path)


@pytest.mark.parametrize("values", [JUDGES[0], JUDGES[-1]], ids=lambda values: values["family"])
def test_a_discriminator_is_no_teacher_and_a_teacher_no_discriminator(values, tmp_path):
    save_discriminator(tmp_path / "d.safetensors", build_discriminator(parse_discriminator_config(values)))
    with pytest.raises(InputError, match="a discriminator of vemcompress"):
        load(tmp_path / "d.safetensors")
    save_generator(tmp_path / "g.safetensors", build_generator(parse_config(SHAPES[0])))
    with pytest.raises(InputError, match="but a deep_unet generator"):
        load_discriminator(tmp_path / "g.safetensors")


@pytest.mark.parametrize(
    "bad",
    [
        {"family": "patchgan", "layers": 0},
        {"family": "patchgan", "width": "64"},
        {"family": "pixelgan", "layers": 3},
        {"family": "shared_patchgan", "n_share": 6},
        {"family": "shared_patchgan", "layers": 4},
        {"family": "stylegan"},
    ],
)
def test_an_impossible_discriminator_is_refused(bad):
    with pytest.raises(ValueError):
        parse_discriminator_config(bad)
