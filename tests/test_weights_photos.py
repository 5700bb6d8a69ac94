"""AnimeGANv2, fast neural style, U-GAT-IT, pix2pixHD and CUT: published files give the published images, and inspect
says what was assumed. Padding that no file tells."""

import json
import os
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from published import BATCH, randomise
from published_photos import AnimeNetwork, AttentionNetwork, GlobalGenerator, LocalGenerator, StyleNetwork
from torch import nn
from toys import toy_images, toy_teacher_file

from vemcompress import load_generator
from vemcompress.errors import InputError, RecipeError
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load
from vemcompress.weights.traced import macs_by_hooks

CASES = {  # the network, and the height and width of its images
    "fast neural style": (StyleNetwork, (32, 48)),
    "fast neural style of two blocks": (lambda: StyleNetwork(3, 2), (16, 16)),
    "AnimeGANv2": (AnimeNetwork, (32, 48)),
    "AnimeGANv2 at an odd size": (AnimeNetwork, (37, 50)),
    "U-GAT-IT light": (AttentionNetwork, (32, 48)),
    "U-GAT-IT full": (lambda: AttentionNetwork(size=32), (32, 32)),
    "pix2pixHD, two down": (lambda: GlobalGenerator(3, downs=2), (32, 48)),
    "pix2pixHD, three down, labels and edges": (lambda: GlobalGenerator(36), (32, 48)),
    "pix2pixHD, four down, grey": (lambda: GlobalGenerator(1, 1, 2, downs=4, blocks=2), (64, 48)),
    "pix2pixHD, BatchNorm behind biases": (lambda: GlobalGenerator(3, norm=BATCH), (32, 32)),
    "pix2pixHD local": (lambda: LocalGenerator(35), (32, 48)),
    "pix2pixHD local, BatchNorm, three down": (lambda: LocalGenerator(3, downs=3, norm=BATCH), (32, 32)),
}


def image(channels: int, sides: tuple[int, int], count: int = 2) -> torch.Tensor:
    return torch.rand(count, channels, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def expected(reference: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if isinstance(reference, StyleNetwork):
        return (reference((x + 1) * 127.5) / 127.5 - 1).clamp(-1, 1)
    result = reference(x)
    return result[0] if isinstance(result, tuple) else result


def made(case: str) -> nn.Module:
    reference = randomise(CASES[case][0]())
    if isinstance(reference, StyleNetwork):
        reference.deconv3.conv2d.weight.data *= 127.5
        reference.deconv3.conv2d.bias.data += 127.5
    return reference


@pytest.mark.parametrize("case", CASES)
def test_published_file_gives_the_published_image(case, tmp_path):
    reference, sides = made(case), CASES[case][1]
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    loaded = load(tmp_path / "g.pth")
    network, config = loaded.generator, loaded.generator.config
    x = image(config.in_channels, sides)
    wanted = expected(reference, x)
    assert wanted.std() > 0.02 and wanted.abs().median() < 0.99
    with torch.no_grad():
        assert (network(x) - wanted).abs().max() < 1e-4
    assert loaded.origin.startswith("published:") and not network.training
    assert macs_by_hooks(network, config.in_channels, *sides) == config.cost(*sides)
    save_generator(tmp_path / "ours.safetensors", network)
    again = load(tmp_path / "ours.safetensors")
    with torch.no_grad():
        assert torch.equal(again.generator(x), network(x))
    assert again.generator.config == config and again.assumed == {}


def test_statistics_that_old_style_files_hold_are_ignored(tmp_path):
    reference = made("fast neural style")
    state = reference.state_dict()
    for name, module in reference.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            state |= {f"{name}.running_mean": torch.randn(module.num_features), f"{name}.running_var": torch.ones(1)}
    torch.save(state, tmp_path / "old.model")
    x = image(3, (32, 32))
    with torch.no_grad():
        assert (load_generator(tmp_path / "old.model")(x) - expected(reference, x)).abs().max() < 1e-4


def test_a_style_network_is_clamped_but_where_it_learns(tmp_path):
    reference = made("fast neural style")
    reference.deconv3.conv2d.bias.data += 200
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    network, x = load_generator(tmp_path / "g.pth"), image(3, (32, 32))
    assert network(x).max() == 1
    learning = network.train()(x)
    assert learning.max() > 1.5
    learning.sum().backward()
    assert (network.head.bias.grad == x[:, 0].numel()).all()  # as much for each pixel, also beyond white


def test_the_full_form_takes_images_of_its_own_size_alone(call, tmp_path):
    torch.save(made("U-GAT-IT full").state_dict(), tmp_path / "g.pth")
    toy_images(tmp_path / "photos")
    assert load_generator(tmp_path / "g.pth").takes.only == 32
    code, out, _ = call("inspect", tmp_path / "g.pth", "--json")
    assert code == 0 and json.loads(out)["input"]["shape"] == [3, 32, 32]
    code, _, err = call("inspect", tmp_path / "g.pth", "--size", 64)
    assert code == 2 and "takes only images of 32 x 32 pixels, not 64 x 64" in err
    data = ["--teacher", tmp_path / "g.pth", "--data", tmp_path / "photos", "--set=algorithm.features=none"]
    code, _, err = call("distill", *data, "--out", tmp_path / "run", "--size", 64)
    assert code == 3 and "data.size 64 does not fit the teacher" in err and "set it to 32" in err
    itself = ("--teacher", tmp_path / "g.pth", "--metric", "l1_teacher")
    code, _, err = call("eval", tmp_path / "g.pth", "--data", tmp_path / "photos", "--size", 64, *itself)
    assert code == 2 and "give --size 32" in err
    code, _, err = call("generate", tmp_path / "g.pth", "-i", tmp_path / "photos", "-o", tmp_path / "out")
    assert code == 0, err
    code, _, err = call("bench", tmp_path / "g.pth", "--size", 64)
    assert code == 2 and "only images of 32 x 32" in err


PADDED = {"replicate": nn.ReplicationPad2d, "zero": nn.ZeroPad2d}


def repadded(reference: nn.Module, padding: str) -> nn.Module:
    for name, module in list(reference.named_modules()):
        if isinstance(module, nn.ReflectionPad2d):
            reference.set_submodule(name, PADDED[padding](module.padding))
    return reference


KIN = {
    "resnet": lambda: published.ResnetGenerator((4, 6, 8, 6, 4), (8, 5)),
    "mobile": lambda: published.ResnetGenerator((4, 6, 8, 6, 4), (8, 5), mobile=True),
    "cut": lambda: published.CutGenerator(4, 2),
    "inception": lambda: published.InceptionGenerator(
        (4, 6, 8, 6, 4), ((((3, 3),), ((5, 3),)),), norm=BATCH, bias=False
    ),
    "local": lambda: LocalGenerator(3),
}


@pytest.mark.parametrize("padding", PADDED)
@pytest.mark.parametrize("kind", KIN)
def test_another_padding_is_that_of_every_convolution_which_pads_by_reflection(kind, padding, tmp_path):
    reference = randomise(KIN[kind]())
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    wanted, x = repadded(reference, padding), image(3, (32, 32))
    network = load_generator(tmp_path / "g.pth", padding=padding)
    with torch.no_grad():
        assert (network(x) - wanted(x)).abs().max() < 1e-4
        assert (load_generator(tmp_path / "g.pth")(x) - wanted(x)).abs().max() > 1e-2
    save_generator(tmp_path / "ours.safetensors", network)
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path / "ours.safetensors")(x), network(x))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_run_has_its_teachers_padding_and_so_have_the_other_commands(call, tmp_path):
    torch.save(randomise(KIN["resnet"]()).state_dict(), tmp_path / "g.pth")
    photos, file, how = toy_images(tmp_path / "photos"), tmp_path / "g.pth", ("--teacher-padding", "zero")
    toy = ("--set=student.width=4", "--set=algorithm.features=none", "--set=information.name=none", "--steps=1")
    data = ("--data", photos, "--size", 32)
    toy += ("--set=teacher.padding=zero", "--out", tmp_path / "r")
    code, _, err = call("distill", "--teacher", file, *data, *toy)
    assert code == 0, err
    assert 'padding = "zero"' in (tmp_path / "r/recipe.toml").read_text().partition("[student]")[0]

    def l1(*options) -> float:
        code, out, err = call("eval", *options, *data, "--metric", "l1_teacher", "--json")
        assert code == 0, err
        return json.loads(out)["metrics"]["l1_teacher"]

    assert l1(tmp_path / "r") == l1(tmp_path / "r", "--teacher", file, *how) != l1(tmp_path / "r", "--teacher", file)
    code, out, _ = call("inspect", file, *how, "--json")
    assert code == 0 and json.loads(out)["config"]["padding"] == "zero"
    assert json.loads(out)["assumed"]["padding"] == "zero as given"
    for name, options in {
        "prune": ("--ratio", 0.5, "-o", tmp_path / "small.safetensors", "--size", 32),
        "generate": ("-i", photos, "-o", tmp_path / "out"),
        "export": ("--onnx", tmp_path / "g.onnx"),
        "bench": ("--size", 32, "--repeats", 1),
    }.items():
        code, _, err = call(name, file, *how, *options)
        assert code == 0, err
    assert load_generator(tmp_path / "small.safetensors").config.padding == "zero"


@pytest.mark.parametrize("case", ["fast neural style", "AnimeGANv2", "U-GAT-IT light"])
def test_a_padding_that_is_known_cannot_be_given(case, call, tmp_path):
    torch.save(made(case).state_dict(), tmp_path / "g.pth")
    with pytest.raises(RecipeError, match="is known; omit it"):
        load(tmp_path / "g.pth", padding="zero")
    code, _, err = call("inspect", tmp_path / "g.pth", "--teacher-padding", "zero")
    assert code == 3 and err.count("\n") == 1


def test_the_padding_of_a_new_teacher_is_that_of_its_network(call, tmp_path):
    data = ("--data", toy_images(tmp_path / "photos"), "--out", tmp_path / "run", "--size", 32, "--steps", 1)
    code, _, err = call("teach", "--recipe", "pix2pix", *data, "--set=teacher.padding=zero")
    assert code == 3 and "set teacher.network.padding" in err


def test_unets_and_unknown_paddings_are_told(tmp_path):
    file = toy_teacher_file(tmp_path / "u.safetensors", family="unet")
    with pytest.raises(RecipeError, match="that of the family unet is known; omit it"):
        load(file, padding="replicate")
    with pytest.raises(RecipeError, match="must be one of reflect, replicate, zero"):
        load(file, padding="mirror")


ASSUMED = {
    "fast neural style": {"range": "RGB in 0..255 (here in [-1, 1], clamped)", "padding": "reflect as published"},
    "AnimeGANv2": {"resize": "bilinear with aligned corners, within the network"},
    "U-GAT-IT light": {"range": "RGB in [-1, 1]", "norm": "by each image's own statistics"},
    "pix2pixHD, three down, labels and edges": {"range": "36 channels as in training to RGB in [-1, 1]"},
    "pix2pixHD, BatchNorm behind biases": {
        "norm": "by the stored statistics (each image's own with teacher.norm = 'batch')"
    },
    "pix2pixHD local": {"padding": "reflect (not stored in the file; see --teacher-padding)"},
}


@pytest.mark.parametrize("case", ASSUMED)
def test_inspect_says_what_was_assumed(case, call, tmp_path):
    torch.save(made(case).state_dict(), tmp_path / "g.pth")
    _, out, _ = call("inspect", tmp_path / "g.pth", "--size", 32, "--json")
    found = json.loads(out)["assumed"]
    assert ASSUMED[case].items() <= found.items() and {"range", "padding", "norm"} <= found.keys()
    _, out, _ = call("inspect", tmp_path / "g.pth", "--size", 32)
    assert any(line.startswith("assumed") and found["range"] in line for line in out.splitlines())


BROKEN = {
    "a tensor is missing": lambda s: s.popitem(),
    "a tensor of another shape": lambda s: s.update({list(s)[3]: s[list(s)[3]][None]}),
    "a bias of another length": lambda s: s.update({[n for n in s if n.endswith("bias")][-1]: torch.ones(99)}),
    "a tensor too many": lambda s: s.update({"surplus.weight": torch.ones(1)}),
    "a number in a kernel's place": lambda s: s.update({next(iter(s)): torch.tensor(1.0)}),
    "whole numbers": lambda s: s.update({next(iter(s)): s[next(iter(s))].to(torch.int64)}),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("case", ["fast neural style", "AnimeGANv2", "U-GAT-IT full", "pix2pixHD local"])
def test_a_damaged_file_is_refused_in_a_sentence(case, how, tmp_path):
    state = made(case).state_dict()
    BROKEN[how](state)
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(InputError, match="check that the file is complete") as caught:
        load(tmp_path / "g.pth")
    assert "\n" not in str(caught.value)


LAYOUTS = Path(os.environ.get("VEMCOMPRESS_TEST_DATA", ".")) / "layouts"
FILES = {
    "animegan2.pt": "animegan2",
    "fast_neural_style.pth": "fast_neural_style",
    "ugatit_light.pt": "ugatit",
    "pix2pixhd_global.pth": "resnet",
    "cut_antialias.pth": "resampled_resnet",
    "resnet6_batch_dropout_two_networks.pth": "resnet",
}
there = pytest.mark.skipif(not LAYOUTS.is_dir(), reason="VEMCOMPRESS_TEST_DATA has no layouts")


def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    about = np.load(LAYOUTS / f"{name.partition('.')[0]}.io.npz")
    return torch.from_numpy(about["input"]), torch.from_numpy(about["output"])


@there
@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_output_is_that_of_the_original(name, call):
    (x, wanted), network = pair(name), load_generator(LAYOUTS / name)
    if name.startswith("fast"):  # 0..255, unclamped where it learns
        found = (network.train()(x / 127.5 - 1) + 1) * 127.5
        clamped = (network.eval()(x / 127.5 - 1) + 1) * 127.5
        assert (clamped - wanted.clamp(0, 255)).abs().max() < 1e-4 * 255
    else:
        found = network(x)
    assert (found - wanted).abs().max() < 1e-4 * (wanted.max() - wanted.min())
    code, out, err = call("inspect", LAYOUTS / name, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["family"] == FILES[name] and said["taps"] and {"range", "padding", "norm"} <= said["assumed"].keys()


@there
@pytest.mark.parametrize(("down", "up"), [(True, True), (False, True), (True, False)])
@torch.no_grad()
def test_each_side_of_cuts_filters_can_be_switched_off(down, up, tmp_path):
    state = torch.load(LAYOUTS / "cut_antialias.pth", weights_only=True)
    weights = [tensor.float() for name, tensor in state.items() if "filt" not in name]
    reference = published.CutGenerator(8, 9, down=down, up=up).eval()
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items() if "filt" not in name}
    own = dict(zip(shapes, weights, strict=True))
    own = {n: t if t.shape == shapes[n] else t.transpose(0, 1) for n, t in own.items()}  # a transposed one is in x out
    reference.load_state_dict(own, strict=False)
    torch.save(reference.state_dict(), tmp_path / "g.pth")
    x, wanted = pair("cut_antialias.pth")
    found = load_generator(tmp_path / "g.pth")(x)
    assert (found - reference(x)).abs().max() < 1e-4
    assert ((found - wanted).abs().max() < 1e-4) == (down and up)
