"""`--teacher-class module:Class`: the user's own network from the working folder."""

import sys
import textwrap

import pytest
import torch

from vemcompress.commands.inspect import describe
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.networks import build_generator, parse_config
from vemcompress.weights import loading
from vemcompress.weights.traced import macs_by_hooks
from vemcompress.weights.trust import named

CODE = """
    import torch
    from torch import nn

    class Good(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 4, 4, 2, 1)
            self.b = nn.ConvTranspose2d(4, 2, 4, 2, 1)
        def forward(self, x):
            return self.b(self.a(x)).tanh()

    class Arguments(Good):
        def __init__(self, width):
            super().__init__()

    class Pair(Good):
        def forward(self, x):
            return super().forward(x), x

    class Halved(Good):
        def forward(self, x):
            return self.a(x)

    class Failing(Good):
        def forward(self, x):
            raise ValueError("two\\nlines")

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(1, 4, 3)

    def function():
        return Good()

    class NoModule:
        pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A weight file beside the user's code, in the working folder; the module's name."""
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(CODE))
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needy.py").write_text("import surely_not_installed")
    paths = list(sys.path)
    module = __import__("importlib").util
    spec = module.spec_from_file_location("reference", tmp_path / f"{name}.py")
    reference = module.module_from_spec(spec)
    spec.loader.exec_module(reference)
    torch.manual_seed(0)
    network = reference.Good()
    torch.save({"netG": network.state_dict()}, "g.pth")
    yield name, network
    assert sys.path == paths
    for loaded in (name, "broken", "needy"):
        sys.modules.pop(loaded, None)


def load(source, class_path):
    with named(class_path):
        return loading.load(source, class_path=class_path)


def test_own_class_gives_its_own_image(own):
    name, reference = own
    before = torch.get_rng_state()
    loaded = load("g.pth", class_path=f"{name}:Good")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(loaded.generator(x), reference(x))
    with pytest.raises(RecipeError, match="no taps"):
        loaded.generator.forward_with_taps(x, ("down1",))
    assert (loaded.origin, loaded.generator.family, loaded.generator.taps) == ("class", "custom", ())


def test_own_class_is_described_by_probing(own):
    found = describe(load("g.pth", class_path=f"{own[0]}:Good"), 32, 64)
    pixels = 16 * 32
    assert found["macs"] == {"true": pixels * (64 + 128), "paper": pixels * (64 + 4 * 128), "paper_norm": pixels * 576}
    assert found["parameters"] == 64 + 4 + 128 + 2
    assert found["input"]["shape"] == [1, 32, 64]
    with pytest.raises(UsageError, match="multiples of 2"):
        describe(load("g.pth", class_path=f"{own[0]}:Good"), 33, 64)


@pytest.mark.parametrize(
    ("cls", "error", "said"),
    [
        ("Missing", UsageError, "no class Missing"),
        ("Arguments", UsageError, "missing a required argument: 'width'"),
        ("function", UsageError, "no class that derives from torch.nn.Module"),
        ("NoModule", UsageError, "no class that derives from torch.nn.Module"),
        ("Pair", InputError, "returned a tuple"),
        ("Halved", InputError, "1x4x32x32 for 1x1x64x64"),
        ("Failing", InputError, "ValueError: two"),
        ("Other", InputError, r"missing 'c\.weight', 'c\.bias'; unexpected 'a\.weight', 'a\.bias', 'b\.weight' and 1"),
    ],
)
def test_what_is_wrong_with_the_class_is_said(own, cls, error, said):
    with pytest.raises(error, match=said) as caught:
        load("g.pth", class_path=f"{own[0]}:{cls}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("nowhere:Net", UsageError, "no module 'nowhere' in the working folder"),
        ("needy:Net", UsageError, "no module 'surely_not_installed' that it imports"),
        ("broken:Net", InputError, "ZeroDivisionError"),
        ("Net", UsageError, "must be module:Class"),
        ("../evil:Net", UsageError, "must be module:Class"),
    ],
)
def test_what_is_wrong_with_the_module_is_said(own, path, error, said):
    with pytest.raises(error, match=said):
        load("g.pth", class_path=path)


@pytest.mark.parametrize("values", [{"family": "mobile_resnet", "norm": "batch"}, {"family": "unet", "downs": 3}])
def test_counting_by_hooks_agrees_with_the_arithmetic(values):
    config = parse_config(values | {"width": 4})
    assert macs_by_hooks(build_generator(config), 3, 32, 64) == config.cost(32, 64)
