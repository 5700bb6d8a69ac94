"""StyleGAN2 beside the published networks: files, both forms of its convolutions, noise, styles and costs."""

import argparse
from itertools import pairwise

import pytest
import torch
from published_stylegan2 import ADAGenerator, Discriminator, Generator
from torch.utils.flop_counter import FlopCounterMode
from toys import random

from vemcompress.errors import InputError
from vemcompress.export.exporting import export_onnx
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import init_weights
from vemcompress.networks.discriminators import build_discriminator, parse_discriminator_config
from vemcompress.networks.groups import cut, masked
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load, load_generator

FULL, PRUNED = [8, 8, 8, 8, 6, 6], [5, 4, 6, 3, 2, 5]
TINY = {"family": "stylegan2", "widths": FULL, "latent": 8, "mapping": 2}


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 8, generator=random(1))


def stirred(network, seed: int = 0):
    """Biases and noise strengths are not zero either."""
    draws = random(seed)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draws)
    return network.eval()


def noise_for(network, batch: int = 3) -> list[torch.Tensor]:
    return [torch.randn(batch, 1, 2 ** ((i + 5) // 2), 2 ** ((i + 5) // 2), generator=random(i)) for i in range(5)]


def rosinality_file(path, widths=FULL, **options):
    """A checkpoint as its trainer writes it; returns its networks."""
    torch.manual_seed(0)
    g, d = stirred(Generator(widths, **options)), stirred(Discriminator([6, 8, 8]), 1)
    state = {"g": stirred(Generator(widths, **options)).state_dict(), "d": d.state_dict(), "g_ema": g.state_dict()}
    optimisers = {key: torch.optim.Adam(network.parameters()).state_dict() for key, network in (("g", g), ("d", d))}
    state |= {f"{key}_optim": value for key, value in optimisers.items()}
    state |= {"latent_avg": torch.arange(8.0), "args": argparse.Namespace(size=16), "ada_aug_p": 0.0}
    torch.save(state, path)
    return g, d


def tiny(**values):
    torch.manual_seed(0)
    return stirred(build_generator(parse_config(TINY | values)))


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [FULL, PRUNED])
def test_a_file_of_rosinality_gives_the_published_images(widths, tmp_path):
    g, _ = rosinality_file(tmp_path / "g.pt", widths)
    loaded = load(tmp_path / "g.pt")
    network, noise, z = loaded.generator, noise_for(g), latents()
    assert loaded.origin == "published:stylegan2" and loaded.key == "g_ema" and loaded.others == ("g",)
    assert network.config.widths == tuple(widths) and network.config.mapping == 8
    assert g(z).std() > 0.1 and torch.allclose(network(z), g(z), atol=1e-4)
    assert torch.allclose(network.forward_with_taps(z, (), noise)[0], g(z, noise), atol=1e-4)
    assert torch.equal(network.mean, torch.arange(8.0))


def test_a_bare_state_dict_needs_neither_noise_nor_mean(tmp_path):
    g, _ = rosinality_file(tmp_path / "g.pt", layers=3)
    state = {f"module.{name}": t for name, t in g.state_dict().items() if not name.startswith("noises.")}
    torch.save(state, tmp_path / "bare.pt")
    first, second = load_generator(tmp_path / "bare.pt"), load_generator(tmp_path / "bare.pt")
    assert torch.equal(first(latents()), second(latents())) and first.config.mapping == 3
    noise = [getattr(first, f"noise_{i}") for i in range(5)]
    assert torch.allclose(first(latents()), g(latents(), noise), atol=1e-4)


@pytest.mark.parametrize("layers", [2, 8])
def test_a_state_dict_of_ada_gives_the_published_images(layers, tmp_path):
    torch.manual_seed(0)
    g = stirred(ADAGenerator([8, 6, 5], layers=layers))
    torch.save(g.state_dict(), tmp_path / "ada.pth")
    network = load_generator(tmp_path / "ada.pth")
    assert network.config.widths == (8, 8, 6, 6, 5, 5) and network.config.style == 6
    assert g(latents()).std() > 0.1 and torch.allclose(network(latents()), g(latents()), atol=1e-4)
    w = network.truncated(network.styles(latents()), 0.4)
    assert torch.allclose(network.synthesise(w)[0], g(latents(), 0.4), atol=1e-4)


def test_a_conditional_network_of_ada_is_refused_in_a_sentence(tmp_path):
    state = ADAGenerator([4, 4]).state_dict() | {"mapping.embed.weight": torch.ones(6, 10)}
    torch.save(state, tmp_path / "ada.pth")
    with pytest.raises(InputError, match="conditional") as caught:
        load(tmp_path / "ada.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_the_discriminator_of_the_same_file_gives_the_published_scores(batch, tmp_path):
    _, d = rosinality_file(tmp_path / "g.pt")
    network = load_discriminator(tmp_path / "g.pt")
    images = torch.randn(batch, 3, 16, 16, generator=random(2))
    scores, taps = network.forward_with_taps(images, network.taps)
    assert torch.allclose(scores.flatten(1), d(images), atol=1e-4) and scores.shape == (batch, 1, 1, 1)
    assert [tap.shape[2] for tap in taps.values()] == [16, 8, 4]
    assert (network.config.size, network.config.widths) == (16, (6, 8, 8))


def without(state, name):
    state.pop(name)


def shorter(state, name):
    state[name] = state[name][..., :-1]


BROKEN = {
    "a last layer that is not there": ("convs.3.conv.weight", without),
    "a last bias that is not there": ("to_rgbs.1.bias", without),
    "a bias that is not there": ("convs.2.activate.bias", without),
    "noise of another size": ("noises.noise_3", shorter),
    "one noise that is not there": ("noises.noise_2", without),
    "another filter": ("to_rgbs.0.upsample.kernel", lambda s, k: s[k].mul_(2)),
    "a cut modulation": ("convs.1.conv.modulation.weight", shorter),
    "a layer without a kernel": ("convs.777777777.conv.weight", lambda s, k: s.update({k: torch.ones(1)})),
    "more than is free": ("convs.0.conv.extra", lambda s, k: s.update({k: torch.ones(1)})),
    "a flat kernel": ("conv1.conv.weight", lambda s, k: s.update({k: s[k][0]})),
    "two kernels in one": ("conv1.conv.weight", lambda s, k: s.update({k: s[k].repeat(2, 1, 1, 1, 1)})),
    "no constant": ("input.input", lambda s, k: s.update({k: s[k][0]})),
    "no mapping": ("style.3.weight", without),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_file_is_refused_in_one_sentence_that_names_the_tensor(case, tmp_path):
    rosinality_file(tmp_path / "g.pt")
    content, (name, damage) = torch.load(tmp_path / "g.pt", weights_only=False), BROKEN[case]
    damage(content["g_ema"], name)
    torch.save(content, tmp_path / "g.pt")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "g.pt")
    message = str(caught.value)
    assert caught.value.exit_code == 4 and "\n" not in message and message.count(". ") == 0
    assert name in message or "777" in name, message


KINDS = {
    "rosinality": (lambda: Generator(FULL, layers=2), load),
    "ada": (lambda: ADAGenerator([4, 4]), load),
    "discriminator": (lambda: Discriminator([4, 4]), load_discriminator),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_another_shape_is_refused(kind, tmp_path):
    (build, read), path = KINDS[kind], tmp_path / "g.pt"
    state = build().state_dict()
    torch.save(state, path)
    read(path)
    for name in state:
        for shape in ((), (0,), (1, 0, 3, 3), (7, 5), (0, 1, 1, 1, 1)):
            wrong = torch.ones(shape)
            if wrong.numel() != state[name].numel():  # a single number may be of any shape
                torch.save(state | {name: wrong}, path)
                with pytest.raises(InputError):
                    read(path)


def test_an_artifact_is_the_same_network(tmp_path):
    network = tiny(widths=PRUNED, style=6)
    network.mean += 1
    save_generator(tmp_path / "g.safetensors", network)
    again = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(again(latents()), network(latents())) and torch.equal(again.mean, network.mean)
    assert again.config == network.config


def test_an_exported_graph_keeps_what_is_added_below_its_roots(tmp_path):
    """A number as small as 1e-8 would be left out, and nothing but zeros give NaN."""
    onnxruntime = pytest.importorskip("onnxruntime")
    network, zeros = tiny(), torch.zeros(4, 8)
    network.convs[1].weight.data[0] = 0  # a channel that was never used
    export_onnx(network, tmp_path / "g.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"z": zeros.numpy()})[0])
    assert torch.allclose(found, network(zeros), atol=1e-4)


def test_a_pickle_of_nvidia_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "g.pkl").write_bytes(b"\x80\x04\x95" + b"torch_utils.persistence" + bytes(100))
    with pytest.raises(InputError, match=r"runs code when it is opened.*\['G_ema'\].state_dict\(\)"):
        load(tmp_path / "g.pkl")


def test_a_discriminator_is_said_to_be_none_of_the_generators(tmp_path):
    torch.save(Discriminator([6, 8, 8]).state_dict(), tmp_path / "d.pt")
    with pytest.raises(InputError, match="looks like StyleGAN2's discriminator"):
        load(tmp_path / "d.pt")


# -- forms, groups, costs --------------------------------------------------------------------------------------------


def test_both_forms_have_the_same_images_and_gradients():
    network, z = tiny().double(), latents().double()
    found = {}
    for form in ("grouped", "scaled"):
        network.use_form(form)
        network.zero_grad()
        image = network(z)
        image.square().mean().backward()
        found[form] = [image, *(p.grad for p in network.parameters())]
    for a, b in zip(*found.values(), strict=True):
        assert a.abs().max() > 0 and torch.allclose(a, b, rtol=1e-8, atol=1e-10)
    network.float().use_form("grouped")
    image = network(z.float())
    network.use_form("scaled")
    assert torch.allclose(network(z.float()), image, atol=1e-4)


def test_both_forms_have_the_same_second_derivatives():
    """Of the path length, whose penalty is trained."""
    network, found = tiny().double(), []
    w = network.styles(latents().double()).detach()
    for form in ("grouped", "scaled"):
        network.use_form(form)
        network.zero_grad()
        styles = w.clone().requires_grad_()
        image = network.synthesise(styles)[0]
        probe = torch.randn(image.shape, generator=random(5), dtype=torch.double)
        (slope,) = torch.autograd.grad((image * probe).sum(), styles, create_graph=True)
        slope.square().sum().backward()
        found.append([slope, *(p.grad for p in network.convs.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", ["grouped", "scaled"])
def test_a_cut_network_is_the_masked_one(form):
    network, z = tiny().double(), latents().double()
    kept = {g.name: torch.randperm(g.size, generator=random())[: g.size - 3].sort().values for g in network.groups()}
    masks = {g.name: torch.zeros(g.size).index_fill(0, kept[g.name], 1.0) for g in network.groups()}
    network.use_form(form)
    small = cut(network, kept)
    small.use_form(form)
    names = small.places
    found, of_masked = small.forward_with_taps(z, names), masked(network, masks, z, names)
    assert small.config.widths == tuple(n - 3 for n in FULL) and not torch.allclose(found[0], network(z), atol=1e-2)
    assert torch.allclose(found[0], of_masked[0], atol=1e-12)
    assert all(torch.allclose(found[1][name], of_masked[1][name], atol=1e-12) for name in names)


def test_new_weights_of_a_pruned_network_are_equalised_for_its_own_widths():
    network = cut(tiny(), {"conv1": 2, "conv2": 3})
    init_weights(network)
    assert network.rgbs[0].scale.item() == pytest.approx(2**-0.5)
    assert network.convs[2].scale.item() == pytest.approx(27**-0.5)
    assert network.convs[1].strength == 0 and network.convs[1].modulation.bias.min() == 1


@pytest.mark.parametrize(
    ("shape", "macs"),
    [
        ({"size": 256}, 45_124_673_536),
        ({"size": 256, "multiplier": 2}, 45_124_673_536),
        ({"size": 1024}, 74_266_894_336),
        ({"widths": [154] * 10 + [77, 77, 39, 39]}, 4_123_578_080),
    ],
)
def test_macs_are_the_published_ones_to_the_digit(shape, macs):
    cost = parse_config({"family": "stylegan2", **shape}).cost(256, 256)
    assert (cost.true, cost.paper, cost.paper_norm) == (macs, macs, macs)


def test_macs_are_those_that_pytorch_counts():
    """But for what the published count leaves out: blurs, the images' doubling and the sums of the demodulation."""
    network = tiny(widths=PRUNED).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(latents(1))
    blurs, doubled = 16 * (6 * 8**2 + 2 * 16**2), 16 * 3 * (4**2 + 8**2)
    sums = sum(a * b for a, b in pairwise(PRUNED))
    assert counter.get_total_flops() // 2 == network.config.cost(1, 1).true + blurs + doubled + sums


@pytest.mark.parametrize(("ratio", "billions"), [(0.8, 1.857), (0.7, 4.124), (0.6, 7.33), (0.5, 11.30)])
def test_macs_of_networks_pruned_uniformly(ratio, billions):
    widths = parse_config({"family": "stylegan2", "size": 256}).widths
    cost = parse_config({"family": "stylegan2", "widths": [n - int(n * ratio) for n in widths]}).cost(256, 256)
    assert cost.true / 1e9 == pytest.approx(billions, abs=0.005)


def test_parameters_are_those_of_the_network():
    assert round(parse_config({"family": "stylegan2", "size": 256}).cost(1, 1).parameters / 1e6, 2) == 30.03
    for widths in (FULL, PRUNED):
        config = parse_config(TINY | {"widths": widths})
        assert config.cost(1, 1).parameters == sum(p.numel() for p in build_generator(config).parameters())
    judge = parse_discriminator_config({"family": "stylegan2", "size": 16, "width": 6, "most": 8})
    assert judge.cost(1, 1).parameters == sum(p.numel() for p in build_discriminator(judge).parameters())


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ({"size": 256, "width": 16}, (*[64] * 10, 32, 32, 16, 16)),
        ({"size": 256, "multiplier": 1}, (*[512] * 8, 256, 256, 128, 128, 64, 64)),
        ({"size": 8, "width": 5}, (5, 5, 5, 5)),
    ],
)
def test_a_size_and_a_width_stand_for_widths(shape, widths):
    config = parse_config({"family": "stylegan2", **shape})
    assert (config.widths, config.image) == (widths, shape["size"])
    assert config.student(16).image == config.of_width(16).image == config.image


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"size": 100}, "size must be one of 8"),
        ({"widths": [4] * 5}, "must be even"),
        ({"widths": [4] * 4, "size": 8}, "widths excludes"),
        ({"width": 4, "multiplier": 2}, "width excludes multiplier"),
        ({"width": 0}, "width must be"),
    ],
)
def test_shapes_that_make_no_network_are_refused(shape, told):
    with pytest.raises(ValueError, match=told):
        parse_config({"family": "stylegan2", **shape})


# -- noise and styles ------------------------------------------------------------------------------------------------


def test_noise_is_stored_given_or_drawn():
    network, z = tiny(), latents()
    stored = network(z)
    assert torch.equal(network(z), stored)
    assert torch.equal(network.forward_with_taps(z, (), [getattr(network, f"noise_{i}") for i in range(5)])[0], stored)
    first, second, other = (network.forward_with_taps(z, (), random(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second) and not torch.allclose(first, other, atol=1e-3)
    same = network.forward_with_taps(z[:1].expand(2, -1), (), random(3))[0]
    assert not torch.allclose(same[0], same[1], atol=1e-3)  # each image has its own


def test_styles_are_mixed_at_an_index():
    network = tiny()
    first, second = network.styles(latents()), network.styles(latents().flip(0))
    mixed = network.mixed(first, second, 2)
    assert mixed.shape == (3, network.config.layers, 8)
    assert torch.equal(mixed[:, :2], first[:, None].expand(-1, 2, -1)) and torch.equal(mixed[:, 2], second)
    taps = [network.synthesise(w, ("conv2", "conv3"))[1] for w in (first, mixed, second)]
    assert torch.equal(taps[0]["conv2"], taps[1]["conv2"]) and not torch.allclose(taps[0]["conv3"], taps[1]["conv3"])


def test_truncation_goes_to_the_mean_that_is_stored_or_measured():
    network = tiny()
    w = network.styles(latents())
    mean = network.mean_latent(4096, 0)
    network.settle()
    assert torch.allclose(network.truncated(w, 0.5), (w + mean) / 2, atol=1e-6)
    network.mean.fill_(2.0)
    assert torch.allclose(network.truncated(w, 0.25), w / 4 + 1.5) and torch.allclose(network.truncated(w, 1.0), w)


def test_taps_have_the_channels_that_they_say():
    network = tiny()
    image, taps = network.forward_with_taps(latents(), network.taps)
    assert network.taps[:3] == ("conv1", "rgb4", "conv2") and network.places == ("rgb4", "rgb8", "rgb16")
    assert all(taps[name].shape[1] == network.tap_channels(name) for name in network.taps)
    assert torch.equal(taps["rgb16"], image)


def test_a_discriminator_judges_a_batch_of_any_size_and_learns():
    torch.manual_seed(0)
    judge = build_discriminator(parse_discriminator_config({"family": "stylegan2", "size": 8, "width": 4, "most": 6}))
    judge(torch.randn(6, 3, 8, 8)).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in judge.parameters())
