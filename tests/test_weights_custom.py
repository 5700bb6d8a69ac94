"""`--teacher-class module:Class`: the user's own network from the working folder."""

import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from toys import TOY, toy_images, toy_teacher_file

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

    class Pairs(Good):
        def forward(self, x):
            return {"image": super().forward(x), "map": x}

    class Empty(Good):
        def forward(self, x):
            return ()

    class Thrice(Good):
        def forward(self, x):
            return torch.nn.functional.interpolate(super().forward(x), scale_factor=3)

    class Failing(Good):
        def forward(self, x):
            raise ValueError("two\\nlines")

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(1, 4, 3)

    def function():
        return Good()

    def of_nothing():
        return 3

    class NoModule:
        pass

    class Deep(nn.Module):  # works at 128 px and multiples
        def __init__(self):
            super().__init__()
            self.down = nn.Sequential(*(nn.Conv2d(2 if i else 3, 2, 4, 2, 1) for i in range(7)))
            self.up = nn.Upsample(scale_factor=128)
            self.head = nn.Conv2d(2, 3, 1)
        def forward(self, x):
            return self.head(self.up(self.down(x))).tanh()

    class InnerFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.stem, self.head = nn.Conv2d(4, 3, 1), nn.Conv2d(self.inputs, 4, 1), nn.Conv2d(3, 3, 1)
        inputs = 3
        def forward(self, x):
            return self.head(self.inner(self.stem(x))).tanh()

    class InnerFirstOfFive(InnerFirst):
        inputs = 5

    class OnlyAt64(InnerFirst):
        def forward(self, x):
            return super().forward(x) * torch.ones(64, 64)

    class Bytes(InnerFirst):
        def forward(self, x):
            return super().forward(x) * 100 + 127

    class BytesBothWays(InnerFirst):
        def forward(self, x):
            return super().forward(x / 127.5 - 1) * 127.5 + 127.5

    class Unsigned(InnerFirst):
        def forward(self, x):
            return super().forward(x) / 2 + 0.5

    class Sigmoid(InnerFirst):
        def forward(self, x):
            return self.head(self.inner(self.stem(x))).sigmoid()

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


def test_a_function_may_build_the_network(own):
    name, reference = own
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(load("g.pth", class_path=f"{name}:function").generator(x), reference(x))


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
        ("Missing", UsageError, "no class Missing: check the name"),
        ("Argument", UsageError, "did you mean Arguments"),
        ("Arguments", UsageError, "missing a required argument: 'width'.*def small"),
        ("of_nothing", UsageError, "returns int, not a torch.nn.Module"),
        ("NoModule", UsageError, "not a class derived from torch.nn.Module"),
        ("Empty", InputError, "returned a tuple"),
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
        ("nowhere:Net", UsageError, r"no module 'nowhere' in the working folder .* the folder that has nowhere\.py"),
        ("needy.py:Net", UsageError, "must be module:Class"),
        ("needy:Net", UsageError, "no module 'surely_not_installed' that it imports"),
        ("broken:Net", InputError, "ZeroDivisionError"),
        ("Net", UsageError, "must be module:Class"),
        ("../evil:Net", UsageError, "must be module:Class"),
    ],
)
def test_what_is_wrong_with_the_module_is_said(own, path, error, said):
    with pytest.raises(error, match=said):
        load("g.pth", class_path=path)


@pytest.fixture
def file(own, tmp_path):
    """The weights of one of the user's classes, and its name."""
    spec = importlib.util.spec_from_file_location("classes", tmp_path / f"{own[0]}.py")
    classes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(classes)

    def save(name: str) -> tuple[str, str]:
        torch.save(getattr(classes, name)().state_dict(), f"{name}.pth")
        return f"{name}.pth", f"{own[0]}:{name}"

    return save


@pytest.mark.parametrize(
    ("name", "channels", "multiple", "least"),
    [("Deep", 3, 128, 128), ("InnerFirst", 3, 1, 1), ("InnerFirstOfFive", 5, 1, 1), ("Good", 1, 2, 2)],
)
def test_own_class_is_tried_until_it_takes_an_image(name, channels, multiple, least, file):
    path, cls = file(name)
    found = load(path, class_path=cls).generator
    assert (found.in_channels, found.multiple, found.min_size) == (channels, multiple, least)


def test_own_class_is_tried_at_the_size_in_use(file, call, tmp_path):
    path, cls = file("OnlyAt64")
    assert call("inspect", path, "--teacher-class", cls, "--size", 64)[0] == 0
    data = toy_images(tmp_path / "images", size=130)
    for command, *more in (
        ("inspect", "--size", 128),
        (
            "distill",
            "--teacher",
            "--data",
            data,
            "--out",
            tmp_path / "run",
            *(f"--set={o}" for o in TOY),
            "--set=data.size=128",
        ),
        ("generate", "-i", data, "-o", tmp_path / "out"),
    ):
        arguments = [*more[:1], path, *more[1:]] if command == "distill" else [path, *more]
        code, _, err = call(command, *arguments, "--teacher-class", cls)
        assert code in (2, 3, 4) and "64" in err, err


def test_a_deep_class_is_distilled_and_exported(file, call, tmp_path):
    path, cls = file("Deep")
    data, options = toy_images(tmp_path / "images", size=130), [*(f"--set={o}" for o in TOY)]
    options += ["--set=data.size=128", "--set=train.steps=2"]
    code, _, err = call("distill", "--teacher", path, "--teacher-class", cls, "--data", data, "--out", "run", *options)
    assert code == 0, err
    code, out, err = call("export", path, "--teacher-class", cls, "--size", 256, "--onnx", "deep.onnx")
    assert code == 0 and "multiples of 128" in out, err


@pytest.fixture
def options(tmp_path):
    return ["--data", toy_images(tmp_path / "images"), *(f"--set={o}" for o in TOY), "--set=train.steps=2"]


def test_a_class_that_gives_bytes_stops_distillation_and_runs_with_its_range(file, call, options):
    path, cls = file("Bytes")
    arguments = ("--teacher", path, "--teacher-class", cls, "--out", "run", *options)
    code, _, err = call("distill", *arguments)
    assert code == 4 and "seem to be in 0..255" in err and "--teacher-range 0..255" in err and not Path("run").exists()
    code, _, err = call("distill", *arguments, "--teacher-range", "-1..1:0..255")
    assert code == 0 and "[-1, 1]" not in err, err
    assert 'range = "-1..1:0..255"' in Path("run/recipe.toml").read_text()


@pytest.mark.parametrize("command", ["eval", "generate"])
def test_a_class_that_gives_bytes_stops_what_has_images_at_hand(command, file, call, tmp_path):
    path, cls = file("Bytes")
    toy_teacher_file(Path("student.safetensors"))
    more = ["student.safetensors", "--teacher", path, "--data", toy_images(tmp_path / "images"), "--size", 32]
    more = more if command == "eval" else [path, "-i", toy_images(tmp_path / "images"), "-o", "out"]
    code, _, err = call(command, *more, "--teacher-class", cls)
    assert code == 4 and "--teacher-range 0..255" in err
    code, _, err = call(command, *more, "--teacher-class", cls, "--teacher-range", "-1..1:0..255")
    assert code == 0, err


@pytest.mark.parametrize("command", ["inspect", "export", "bench"])
def test_a_class_that_gives_bytes_is_warned_of_by_the_others(command, file, call):
    path, cls = file("Bytes")
    more = {"export": ["--onnx", "b.onnx"], "bench": ["--size", 64, "--repeats", 1]}.get(command, ())
    code, _, err = call(command, path, "--teacher-class", cls, *more)
    assert code == 0 and "--teacher-range 0..255" in err
    _, _, err = call(command, path, "--teacher-class", cls, *more, "--teacher-range", "-1..1")
    assert "--teacher-range" not in err


def test_a_range_is_converted_at_the_border(file):
    plain, both = (load_as(file(name), range) for name, range in (("InnerFirst", None), ("BytesBothWays", "0..255")))
    both.module.load_state_dict(plain.module.state_dict())
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.allclose(both(x), plain(x), atol=1e-5)
    half = load_as(file("Unsigned"), "-1..1:0..1")
    half.module.load_state_dict(plain.module.state_dict())
    assert torch.allclose(half(x), plain(x), atol=1e-5)


def load_as(file, range):
    path, cls = file
    with named(cls):
        return loading.load(path, class_path=cls, range=range).generator


def test_the_range_stays_with_a_student_of_the_class(file, call, tmp_path):
    path, cls = file("Bytes")
    data = ["--data", toy_images(tmp_path / "images"), *(f"--set={o}" for o in TOY if "student" not in o)]
    about = ["--teacher", path, "--teacher-class", cls, "--teacher-range", "-1..1:0..255", "--set=train.steps=1"]
    code, _, err = call("distill", *about, "--student", "teacher", *data, "--out", "run")
    assert code == 0, err
    again = load("run/student.safetensors", cls).generator
    assert str(again.ranges) == "-1..1:0..255" and again.trusted


def test_a_range_is_of_foreign_networks_alone(tmp_path, call, file):
    known = toy_teacher_file(tmp_path / "g.safetensors")
    code, _, err = call("inspect", known, "--teacher-range", "0..255")
    assert code == 3 and "whose range is known" in err
    path, cls = file("InnerFirst")
    code, _, err = call("inspect", path, "--teacher-class", cls, "--teacher-range", "0..2")
    assert code == 2 and "0..255, 0..1 or -1..1" in err


def test_a_class_that_gives_0_to_1_is_warned_of_unless_it_was_stated(file, call, options):
    path, cls = file("Unsigned")
    code, _, err = call("distill", "--teacher", path, "--teacher-class", cls, "--out", "run", *options)
    assert code == 0 and "seem to be in 0..1" in err
    stated = ("--teacher-range", "-1..1", *options)
    code, _, err = call("distill", "--teacher", path, "--teacher-class", cls, "--out", "run2", *stated)
    assert code == 0 and "0..1" not in err


def test_a_stated_range_that_the_images_are_far_from_is_warned_of(file, call, options):
    path, cls = file("Unsigned")
    stated = ("--teacher-range", "0..255", *options)
    code, _, err = call("distill", "--teacher", path, "--teacher-class", cls, "--out", "run", *stated)
    assert code == 0 and "seem to be in 0..1 and not in 0..255" in err


def test_a_class_that_ends_in_a_sigmoid_certainly_gives_0_to_1(file, call, options):
    path, cls = file("Sigmoid")
    code, _, err = call("distill", "--teacher", path, "--teacher-class", cls, "--out", "run", *options)
    assert code == 4 and "its last operation is a sigmoid" in err and "--teacher-range 0..1" in err


@pytest.mark.parametrize("name", ["Pair", "Pairs"])
def test_the_first_of_several_results_is_the_image_and_told(name, file, own, call):
    path, cls = file(name)
    found = load(path, class_path=cls).generator
    x = torch.rand(2, 1, 32, 32)
    own[1].load_state_dict(found.module.state_dict())
    assert torch.equal(found(x), own[1](x))
    code, _, err = call("inspect", path, "--teacher-class", cls, "--size", 64)
    assert code == 0 and "the first of the 2 results" in err


def test_a_larger_output_is_super_resolution(file):
    path, cls = file("Thrice")
    found = load(path, class_path=cls)
    assert found.generator.takes.scale == 3
    assert describe(found, 32)["output"]["shape"] == [2, 96, 96]


def test_parity_is_relative_to_what_a_network_gives(file, call):
    path, cls = file("Bytes")
    arguments = (path, "--teacher-class", cls, "--onnx", "b.onnx")
    assert call("export", *arguments)[0] == 0
    code, _, err = call("export", *arguments, "--tolerance", "1e-12")
    assert code == 7 and "of the largest value, " in err and "operations that are random" not in err


@pytest.mark.parametrize("values", [{"family": "mobile_resnet", "norm": "batch"}, {"family": "unet", "downs": 3}])
def test_counting_by_hooks_agrees_with_the_arithmetic(values):
    config = parse_config(values | {"width": 4})
    assert macs_by_hooks(build_generator(config), 3, 32, 64) == config.cost(32, 64)
