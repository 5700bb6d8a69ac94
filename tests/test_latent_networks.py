"""Generators from latent vectors and their discriminators beside the published ones: files, costs, spectral norm."""

from copy import deepcopy

import pytest
import torch
from published_latent import (
    SAGANDiscriminator,
    SAGANGenerator,
    SpectralNorm,
    dcgan_discriminator,
    dcgan_generator,
    trained_like,
)
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from toys import random

from vemcompress.errors import InputError
from vemcompress.networks import attention, parse_config
from vemcompress.networks.discriminators import parse_discriminator_config
from vemcompress.networks.discriminators.gates import Gate
from vemcompress.networks.spectral import SpectralConv2d, SpectralConvTranspose2d
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load, load_generator

PRUNED = [24, 15, 17, 9]  # of l1 to l4; 15 and 17 // 8 are rounded down


def latents(batch: int = 3, size: int = 128) -> torch.Tensor:
    return torch.randn(batch, size, generator=random(1))


def images(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, 64, 64, generator=random(2)) * 2 - 1


def gcc_file(path, *, thop: bool = False, widths=None):
    """A checkpoint as GCC writes it; returns its networks too."""
    torch.manual_seed(0)
    g, d = trained_like(SAGANGenerator(8, widths=widths)), trained_like(SAGANDiscriminator(8), 1)
    states = [dict(network.state_dict()) for network in (g, d)]
    if thop:
        for network, state in zip((g, d), states, strict=True):
            for name in ["", *(f"{name}." for name, module in network.named_modules() if name)]:
                state |= {f"{name}total_ops": torch.zeros(1).double(), f"{name}total_params": torch.zeros(1).double()}
    cfg = (tuple(widths or (64, 32, 16, 8)), tuple(widths or (64, 32, 16, 8)))
    torch.save({"G": states[0], "D": states[1], "epoch": 100, "cfg": cfg, "fid": 32.5}, path)
    return g, d


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thop", [False, True])
@pytest.mark.parametrize("widths", [None, PRUNED])
def test_a_sagan_of_gcc_gives_its_first_images_in_evaluation(widths, thop, tmp_path):
    g, _ = gcc_file(tmp_path / "sagan.pth", thop=thop, widths=widths)
    loaded = load(tmp_path / "sagan.pth")
    assert loaded.origin == "published:sagan" and not loaded.generator.training
    assert loaded.generator.config.widths == tuple(widths or (64, 32, 16, 8))
    found, expected = loaded.generator(latents()), g.eval()(latents())
    assert expected.std() > 0.05 and torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(loaded.generator(latents()), found)  # where the published one goes on iterating


@pytest.mark.parametrize("thop", [False, True])
def test_the_discriminator_of_the_same_file_gives_its_first_scores_in_training(thop, tmp_path):
    _, d = gcc_file(tmp_path / "sagan.pth", thop=thop)
    network = load_discriminator(tmp_path / "sagan.pth").train()
    for _ in range(2):  # the second time after another power iteration of both
        assert torch.allclose(network(images()).flatten(), d.train()(images()), rtol=1e-4, atol=1e-4)


def test_the_artifact_of_a_sagan_holds_plain_weights_alone(tmp_path):
    gcc_file(tmp_path / "sagan.pth", widths=PRUNED)
    generator = load_generator(tmp_path / "sagan.pth")
    for name, network in (("folded", generator), ("learning", generator.learning())):
        save_generator(tmp_path / f"{name}.safetensors", network)
        names = load_file(tmp_path / f"{name}.safetensors").keys()
        assert not any(n.endswith(("_bar", ".u", ".v", "_u", "_v")) for n in names)
        again = load_generator(tmp_path / f"{name}.safetensors")
        assert torch.allclose(again(latents()), network.eval()(latents()), atol=1e-5)
    assert torch.allclose(again(latents()), generator(latents()), atol=0.05)  # sigma is then the converged one


def cut(state, key):
    state[key] = state[key][:-1]


BROKEN = {
    "zero": ("l2.0.module.weight_u", lambda s, k: s[k].zero_()),
    "wrong size": ("l3.0.module.weight_u", lambda s, k: s.update({k: torch.ones(5)})),
    "missing": ("l1.0.module.weight_v", lambda s, k: s.pop(k)),
    "cut off": ("attn2.value_conv.weight", cut),
    "cut kernel": ("l4.0.module.weight_bar", cut),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_sagan_is_refused_in_one_sentence_that_names_the_tensor(case, tmp_path):
    gcc_file(tmp_path / "sagan.pth")
    content, (key, damage) = torch.load(tmp_path / "sagan.pth"), BROKEN[case]
    damage(content["G"], key)
    torch.save(content, tmp_path / "sagan.pth")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "sagan.pth")
    message = str(caught.value)
    assert caught.value.exit_code == 4 and "\n" not in message and message.count(". ") == 0
    assert key.removesuffix("bar") in message, message  # a kernel and its vectors: which one is wrong, nobody knows


@pytest.mark.parametrize("bias", [False, True])
def test_a_dcgan_of_pytorch_examples_and_its_discriminator_are_the_same(bias, tmp_path):
    torch.manual_seed(0)
    pair = trained_like(dcgan_generator(4, bias=bias)), trained_like(dcgan_discriminator(4, bias=bias), 1)
    for name, network in zip("gd", pair, strict=True):
        torch.save({f"main.{key}": value for key, value in network.state_dict().items()}, tmp_path / f"{name}.pth")
    g, d = load_generator(tmp_path / "g.pth"), load_discriminator(tmp_path / "d.pth")
    z = latents(size=100)
    assert torch.allclose(g(z), pair[0].eval()(z[:, :, None, None]), atol=1e-5)
    assert torch.allclose(d(images()), pair[1].eval()(images()), atol=1e-5)
    assert torch.allclose(d.train()(images()), pair[1].train()(images()), atol=1e-5)


# -- costs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "true", "paper", "parameters"),
    [(64, 200_278_016, 23_449_600, 3_832_885), (48, 129_368_064, 15_624_192, 2_353_769)],
)
def test_macs_and_parameters_of_sagan_are_the_measured_ones(width, true, paper, parameters):
    cost = parse_config({"family": "sagan", "width": width}).cost(64, 64)
    assert (cost.true, cost.paper, cost.parameters) == (true, paper, parameters)
    network = SAGANGenerator(width).eval()
    assert parameters == sum(p.numel() for p in network.parameters() if p.requires_grad)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(latents(1))
    power = sum(p.numel() for n, p in network.named_parameters() if n.endswith("weight_bar"))
    assert counter.get_total_flops() // 2 in (true, true + 3 * power)  # with or without the power iterations' products


def test_a_pruned_sagan_counts_by_the_formula_of_old_thop():
    c1, c2, c3, c4 = 96, 50, 94, 48

    def attention(c: int, pixels: int) -> int:
        return pixels * (2 * c * (c // 8) + c * c + 2 * (c // 8) + c)

    norms = 2 * (16 * c1 + 64 * c2 + 256 * c3 + 1024 * c4)
    wanted = attention(c3, 256) + attention(c4, 1024) + 12288 * (16 * c4 + 1) + norms
    assert parse_config({"family": "sagan", "widths": [c1, c2, c3, c4]}).cost(64, 64).paper == wanted


def test_parameters_of_the_discriminator():
    cost = parse_discriminator_config({"family": "sagan", "width": 64}).cost(64, 64)
    assert cost.parameters == sum(p.numel() for p in SAGANDiscriminator(64).parameters() if p.requires_grad)
    assert round(cost.parameters / 1e6, 3) == 3.175


# -- gates and spectral norm -----------------------------------------------------------------------------------------


def test_a_gate_is_open_above_its_threshold_and_half_open_on_it():
    gate = Gate(5, 0.5)
    gate.alpha.data = torch.tensor([1.0, 0.500001, 0.5, 0.499999, -3.0])
    x = torch.randn(2, 5, 3, 3, generator=random())
    assert torch.allclose(gate.mask(), torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(gate(x), x * torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]).view(1, -1, 1, 1), atol=1e-6)
    weights = torch.randn(2, 5, 3, 3, generator=random(1))
    (gate(x) * weights).sum().backward()
    assert torch.allclose(gate.alpha.grad, (x * weights).sum((0, 2, 3)), atol=1e-5)  # shut ones learn too
    gate.alpha.data = torch.tensor([1.5, 1.0, 0.3, 0.0, -0.2])
    gate.clip()
    assert gate.alpha.tolist() == pytest.approx([1.0, 1.0, 0.3, 0.0, 0.0])


def pair(transposed: bool) -> tuple[nn.Module, nn.Module]:
    """The published wrapper and our layer with its weights."""
    torch.manual_seed(0)
    plain, ours = (nn.ConvTranspose2d, SpectralConvTranspose2d) if transposed else (nn.Conv2d, SpectralConv2d)
    wrapped, layer = SpectralNorm(plain(3, 5, 4, 2, 1)), ours(3, 5, 4, 2, 1)
    names = {"weight": "weight_bar", "u": "weight_u", "v": "weight_v", "bias": "bias"}
    layer.load_state_dict({name: deepcopy(wrapped.module).state_dict()[theirs] for name, theirs in names.items()})
    return wrapped.double(), layer.double().train()


@pytest.mark.parametrize("transposed", [False, True])
def test_spectral_layers_have_the_published_outputs_and_gradients_also_of_two_forwards(transposed):
    wrapped, layer = pair(transposed)
    xs = torch.randn(2, 2, 3, 8, 8, generator=random(), dtype=torch.double)
    found, expected = ([network(x) for x in xs] for network in (layer, wrapped))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    for outputs in (found, expected):
        sum(output.square().sum() for output in outputs).backward()
    assert torch.allclose(layer.weight.grad, wrapped.module.weight_bar.grad, rtol=1e-9)
    assert torch.allclose(layer.bias.grad, wrapped.module.bias.grad, rtol=1e-9)
    assert torch.allclose(layer.u, wrapped.module.weight_u, rtol=1e-12) and not layer.u.requires_grad


@pytest.mark.parametrize("transposed", [False, True])
def test_evaluation_does_not_move_the_vectors_of_spectral_norm(transposed):
    _, layer = pair(transposed)
    u, v, x = layer.u.clone(), layer.v.clone(), torch.ones(1, 3, 8, 8, dtype=torch.double)
    first = layer.eval()(x)
    assert torch.equal(layer(x), first) and torch.equal(layer.u, u) and torch.equal(layer.v, v)
    layer.train()(x)
    assert not torch.equal(layer.u, u)


def test_fused_attention_is_the_plain_one_with_its_gradients(monkeypatch):
    q, k, v = (torch.randn(2, c, 9, dtype=torch.double, requires_grad=True) for c in (2, 2, 5))
    plain = attention.attended(q, k, v)
    monkeypatch.setattr(attention, "LARGE", 1)
    assert torch.allclose(attention.attended(q, k, v), plain, atol=1e-12)
    assert torch.autograd.gradcheck(attention.attended, (q, k, v))
