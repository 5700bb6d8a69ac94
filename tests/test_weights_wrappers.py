"""A trainer's checkpoint: its generator is found under any usual name, beside other networks, and is never the
discriminator."""

import json

import pytest
import torch
from safetensors import safe_open
from toys import TOY, toy_images, toy_teacher

from vemcompress import load_generator
from vemcompress.commands.distill import distill
from vemcompress.errors import InputError
from vemcompress.recipe import read
from vemcompress.weights.loading import load

NAMES = [
    "netG_state_dict",
    "G_state_dict",
    "gen",
    "gen_state_dict",
    "generator_state_dict",
    "genA2B",
    "G_AB",
    "gen_AB",
    "netG_A2B",
    "G_A2B",
    "generator_A2B",
    "state_dict_G",
    "g_state",
    "weights",
    "ema_state_dict",
    "netG",
    "G",
    "g",
    "generator",
    "g_ema",
    "G_ema",
    "ema",
    "params_ema",
    "params",
    "net_g",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "netG_A",
    "gen_H",
    "modelG",
    "G_BA",
    "netG_B",
    "genB2A",
    "g_ema_state_dict",
]
JUDGE = {"model.0.weight": torch.ones(4, 3, 4, 4), "model.2.weight": torch.ones(1, 4, 4, 4)}


def weights(seed: int = 0) -> dict:
    """A generator in its published names."""
    network = toy_teacher(seed=seed)
    names = {"stem": 1, "down1": 4, "down2": 7, "up1": 13, "up2": 16, "head": 20}
    state = {}
    for name, tensor in network.state_dict().items():
        first, *rest = name.split(".")
        if first == "blocks":
            place = 5 if rest[1] == "conv2" else 1
            state[f"model.{10 + int(rest[0])}.conv_block.{place}.{rest[2]}"] = tensor
        else:
            state[f"model.{names[first]}.{rest[0]}"] = tensor
    return state


def same(path, seed: int, **options) -> bool:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(load_generator(path, **options)(x), toy_teacher(seed=seed)(x))


@pytest.fixture
def file(tmp_path):
    def save(value):
        torch.save(value, tmp_path / "g.pth")
        return tmp_path / "g.pth"

    return save


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_is_found_by_its_name(name, file):
    path = file(
        {"netD_state_dict": JUDGE, "D": JUDGE, "optimizer_G": {"state": {0: {"a": torch.ones(2)}}}, name: weights()}
    )
    assert same(path, 0)
    assert load(path).others == ()


FORMS = {
    "in a list": lambda g: [g],
    "in a list with counters": lambda g: {"G": [g, 3]},
    "its unknown name beside a discriminator's": lambda g: {"painter": g, "critic": JUDGE},
    "its unknown name beside another": lambda g: {"painter": g, "other": JUDGE},
    "wrapped in an unknown name": lambda g: {"networks": {"netG": g, "netD": JUDGE}},
    "as a part of one state dict": lambda g: {"state_dict": parts(generator=g, discriminator=JUDGE)},
    "as a part behind a prefix": lambda g: parts(module=parts(netG=g, netD=JUDGE)),
    "as a part of a part": lambda g: {
        "state_dict": parts(model=parts(gen=g, disc=JUDGE, vgg={"0.weight": torch.ones(1)}))
    },
    "beside a loss": lambda g: {"state_dict": parts(G=g, lpips={"lin.weight": torch.ones(1)})},
}


def parts(**networks) -> dict:
    return {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_is_found_wherever_it_is_the_only_one(form, file):
    path = file(FORMS[form](weights()))
    assert same(path, 0)
    assert load(path).key == ""


PAIRS = [("netG_A", "netG_B"), ("G_AB", "G_BA"), ("genA2B", "genB2A"), ("gen_A", "gen_B"), ("g_ema", "g")]


@pytest.mark.parametrize("first, second", PAIRS)
@pytest.mark.parametrize("form", ["dicts", "prefixes"])
def test_either_of_two_generators_can_be_chosen(first, second, form, file):
    both = {second: weights(1), first: weights(0), "D_A": JUDGE}
    path = file(both if form == "dicts" else {"state_dict": parts(**both)})
    assert same(path, 0) and same(path, 0, key=first) and same(path, 1, key=second)
    loaded = load(path)
    assert (loaded.key, loaded.others) == (first, (second,))
    assert load(path, key=second).provenance()["key"] == second


def test_a_name_that_is_not_there_is_told_with_those_that_are(file):
    path = file({"netG_A": weights(), "netG_B": weights()})
    with pytest.raises(InputError, match=r"no network 'netG_C' .* has netG_A, netG_B"):
        load(path, key="netG_C")
    with pytest.raises(InputError, match="only one generator"):
        load(file(weights()), key="netG_A")


def test_several_unknown_names_are_listed(file):
    path = file({"horse": weights(0), "zebra": weights(1), "judge": JUDGE})
    with pytest.raises(InputError, match=r"several networks, horse, zebra: .*--teacher-key"):
        load(path)
    assert same(path, 1, key="zebra")


def test_a_chosen_network_is_found_again_where_it_has_a_choice_inside(file):
    path = file({"netG_A": weights(0), "netG_B": {"g_ema": weights(1), "g": weights(2)}})
    assert load(path, key="netG_B").key == "netG_B" and same(path, 1, key="netG_B")


@pytest.mark.parametrize("name", ["netG_B", "gen", "genA2B", "module.G_AB"])
def test_a_prefix_that_all_names_share_is_stripped(name, file):
    assert same(file(parts(**{name: weights()})), 0)


def test_long_names_cost_no_time(file):
    with pytest.raises(InputError):
        load(file({"discrim" * 20_000 + "\n": weights(), "optim" * 20_000 + "\n": weights()}))


@pytest.mark.parametrize(
    "name", ["netD", "D", "discriminator", "disc_state_dict", "netD_A", "ema_D", "optimizer", "critic"]
)
def test_a_discriminator_is_never_taken_for_the_generator(name, file):
    with pytest.raises(InputError, match=name):
        load(file({name: JUDGE}))


def test_own_class_gets_all_networks_where_it_has_them(file, tmp_path, monkeypatch):
    (tmp_path / "whole_gan.py").write_text(
        "from torch import nn\nclass Both(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.generator, self.discriminator = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)\n"
        "    def forward(self, x):\n        return self.generator(x).tanh()\n"
        "class Own(Both):\n    def __init__(self):\n        super().__init__()\n        del self.discriminator\n"
    )
    monkeypatch.chdir(tmp_path)
    from torch import nn

    path = file(
        {"state_dict": parts(generator=nn.Conv2d(3, 3, 1).state_dict(), discriminator=nn.Conv2d(3, 1, 1).state_dict())}
    )
    for name in ("Both", "Own"):
        assert load_generator(path, class_path=f"whole_gan:{name}").out_channels == 3


def test_a_run_knows_its_teachers_name(file, call, tmp_path):
    path, data, run = (
        file({"netG_A": weights(0), "netG_B": weights(1)}),
        toy_images(tmp_path / "images"),
        tmp_path / "run",
    )
    options = [f"--set={o}" for o in TOY]
    code, _, err = call("distill", "--teacher", path, "--teacher-key=netG_B", "--data", data, "--out", run, *options)
    assert code == 0 and "netG_B is used; the file also has netG_A" in err
    assert read(run / "recipe.toml").teacher.key == "netG_B"
    with safe_open(run / "student.safetensors", "pt") as student:
        assert json.loads(student.metadata()["teacher"])["key"] == "netG_B"
    code, _, err = call("distill", "--resume", run, "--steps", 7)
    assert code == 0 and "netG_B is used" in err, err
    code, _, _ = call("distill", "--resume", run, "--set=teacher.key=netG_A")
    assert code == 2


def test_the_name_that_was_taken_by_default_is_kept_in_the_run(file, tmp_path):
    path, data = file({"netG_A": weights(0), "netG_B": weights(1)}), toy_images(tmp_path / "images")
    distill(path, data=data, out=tmp_path / "run", overrides=[*TOY, "train.steps=1"], device="cpu")
    assert read(tmp_path / "run" / "recipe.toml").teacher.key == "netG_A"


@pytest.mark.parametrize("command", ["inspect", "export", "generate", "bench", "prune"])
def test_every_command_takes_the_name(command, file, call, tmp_path):
    path, data = file({"netG_A": weights(0), "netG_B": weights(1)}), toy_images(tmp_path / "images", 1)
    options = {
        "inspect": ["--size", 32],
        "export": ["--onnx", tmp_path / "g.onnx"],
        "generate": ["-i", data, "-o", tmp_path / "out"],
        "bench": ["--size", 32, "--repeats", 1],
        "prune": ["--size", 32, "--target-macs", "1M", "-o", tmp_path / "small.safetensors"],
    }
    code, _, err = call(command, path, "--teacher-key", "netG_B", *options[command])
    assert code == 0 and "netG_B is used" in err, err
    code, _, err = call(command, path, "--teacher-key", "netG_C", *options[command])
    assert code == 4 and "netG_C" in err
