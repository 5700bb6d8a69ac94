"""`--teacher-class module:Class` of a network that draws from latent vectors."""

import json
import textwrap

import numpy as np
import pytest
import torch
from export_toys import latent_toy

from vemcompress.data.latents import draw
from vemcompress.errors import InputError, UsageError
from vemcompress.weights import loading
from vemcompress.weights.custom_latents import latent_attribute, own_generator
from vemcompress.weights.trust import named

CODE = """
    import torch
    from torch import nn

    class Maps(nn.Module):  # takes B x 5 x 1 x 1
        nz, prior = 5, "uniform"
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(5, 4, 4)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.ConvTranspose2d(4, 3, 4, 2, 1)
        def forward(self, z):
            return self.head(self.norm(self.up(z)).relu()).tanh()

    class Vectors(Maps):
        nz, z_dim, prior = None, 5, None
        def forward(self, z):
            return super().forward(z[:, :, None, None])

    class Bytes(Vectors):
        def forward(self, z):
            return super().forward(z) * 100 + 127

    class Silent(Maps):
        nz = None

    class Wide(Vectors):
        def forward(self, z):
            return super().forward(z)[:, :, :4]

    class Labelled(Vectors):
        def forward(self, z, label):
            return super().forward(z)

    class Translator(nn.Module):  # of images, although it has such an attribute
        latent_dim = 7
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
        def forward(self, x):
            return self.conv(x).tanh()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's code and weights in the working folder; the module's name."""
    monkeypatch.chdir(tmp_path)
    name = f"latents_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(CODE))
    scope: dict = {}
    exec(textwrap.dedent(CODE), scope)
    torch.manual_seed(0)
    torch.save(scope["Maps"]().state_dict(), "g.pth")
    torch.save(scope["Translator"]().state_dict(), "t.pth")
    return name


def load(class_path: str, source: str = "g.pth"):
    with named(class_path):
        return loading.load(source, class_path=class_path)


@pytest.mark.parametrize(("cls", "prior"), [("Maps", "uniform"), ("Vectors", "normal")])
def test_a_class_that_says_its_latent_size_is_a_generator_from_latent_vectors(own, cls, prior):
    before = torch.get_rng_state()
    generator = load(f"{own}:{cls}").generator
    assert torch.equal(torch.get_rng_state(), before)
    takes = generator.takes
    assert (takes.kind, takes.size, takes.image, takes.prior) == ("latent", 5, 8, prior)
    assert (generator.channels, generator.taps, generator.config) == ((5, 3), (), None)
    z = torch.from_numpy(draw(prior, 5, 0, range(3)))
    expected = generator.module(z if cls == "Vectors" else z[:, :, None, None])
    assert torch.equal(generator(z), expected) and expected.shape == (3, 3, 8, 8)


def test_a_network_of_images_with_such_an_attribute_stays_one(own):
    generator = load(f"{own}:Translator", "t.pth").generator
    assert generator.takes.kind == "image" and generator.channels == (3, 3)


def test_the_attribute_is_a_whole_number_that_can_be():
    found = []
    for value in (6, 0, -1, True, 2.0, "6", 10**9, None):
        module = torch.nn.Identity()
        module.latent_size = value
        found.append(latent_attribute(module))
    assert found == ["latent_size"] + [None] * 7


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        ("Wide", "returned 2x3x4x8 for 2 x 5: it must return square images"),
        ("Labelled", "failed on 2 x 5 latent vectors"),
    ],
)
def test_a_class_that_draws_no_square_images_is_refused(own, cls, said):
    with pytest.raises(InputError) as caught:
        load(f"{own}:{cls}")
    assert said in str(caught.value) and "attribute z_dim says that its latent vectors have 5 numbers" in str(
        caught.value
    )


def test_a_class_of_transposed_convolutions_that_says_no_latent_size_is_told_how(own):
    with pytest.raises(InputError, match="with an attribute latent_dim that holds the size of its latent vectors"):
        load(f"{own}:Silent")


def test_images_far_from_their_range_are_warned_of_with_the_range_that_helps(own):
    far = load(f"{own}:Bytes").generator
    assert "--teacher-range 0..255" in far.warning
    with named(f"{own}:Bytes"):
        found = loading.load("g.pth", class_path=f"{own}:Bytes", range="0..255").generator
    z = torch.zeros(2, 5)
    assert not found.warning and torch.allclose(found(z), far(z) / 127.5 - 1, atol=1e-5)


def test_own_classes_are_inspected_measured_exported_and_drawn_but_not_pruned(own, call, tmp_path):
    given = ("g.pth", "--teacher-class", f"{own}:Maps")
    code, out, err = call("inspect", *given, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["input"] == {"kind": "latent", "shape": [5]}
    assert found["macs"] == {"true": 5 * 4 * 16 + 16 * 4 * 3 * 16, "paper": 5 * 4 * 256 + 64 * 4 * 3 * 16,
                             "paper_norm": 5 * 4 * 256 + 64 * 4 * 3 * 16 + 64}  # fmt: skip
    code, out, err = call("bench", *given, "--repeats", 3, "--threads", 1, "--json")
    assert code == 0 and json.loads(out)["size"] == [8, 8], err
    code, _, err = call("export", *given, "--onnx", "g.onnx", "--uint8")
    assert code == 0, err
    for model, where in ((given, "a"), (("g.onnx",), "b")):
        code, _, err = call("generate", *model, "--samples", 3, "--seed", 1, "--out", where)
        assert code == 0, err
    first, second = ([(tmp_path / w / f"seed1_00000{n}.png").read_bytes() for n in range(3)] for w in "ab")
    assert len(set(first)) == 3 and first == second
    code, _, err = call("prune", *given, "--target-macs", "1k", "-o", "s.safetensors")
    assert code == 2 and "distil it instead" in err


def test_a_module_of_ours_is_not_wrapped():
    with pytest.raises(UsageError, match="cannot be removed"):
        own_generator(Sized(), "Sized").groups()
    z = torch.from_numpy(np.zeros((2, 6), np.float32))
    assert own_generator(Sized(), "Sized")(z).shape == (2, 3, 16, 16)


class Sized(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dim_z, self.drawn = 6, latent_toy("sagan")

    def forward(self, z):
        return self.drawn(z)
