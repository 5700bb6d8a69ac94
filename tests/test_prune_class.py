"""`prune --teacher-class`: groups that Torch-Pruning traces, and the file that is loaded with its class again."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toys import TOY, toy_images

from vemcompress.commands.prune import prune
from vemcompress.errors import InputError, UsageError
from vemcompress.export.goals.layers import recorded
from vemcompress.export.goals.subjects import OfGroups
from vemcompress.networks.groups import at, cut, masked
from vemcompress.pruning import PRUNERS
from vemcompress.pruning.budget import prune_network
from vemcompress.weights import loading
from vemcompress.weights.format import SUM
from vemcompress.weights.traced import macs_by_hooks
from vemcompress.weights.trust import named

CODE = """
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, norm):
            super().__init__()
            self.a, self.n = nn.Conv2d(width, 12, 1), norm(12)
            self.d, self.p = nn.Conv2d(12, 12, 3, 1, 1, groups=12), nn.PReLU(12)
            self.b, self.m = nn.Conv2d(12, width, 1), norm(width)
        def forward(self, x):
            return x + self.m(self.b(self.p(self.d(F.relu(self.n(self.a(x)))))))

    class Net(nn.Module):
        norm = nn.BatchNorm2d
        def __init__(self):
            super().__init__()
            self.stem, self.n = nn.Conv2d(3, 6, 3, 1, 1), self.norm(6)
            self.down, self.block = nn.Conv2d(6, 8, 4, 2, 1), Block(8, self.norm)
            self.up, self.head = nn.ConvTranspose2d(8, 5, 4, 2, 1), nn.Conv2d(11, 3, 3, 1, 1)
        def forward(self, x):
            h = F.relu(self.n(self.stem(x)))
            return self.head(torch.cat((h, F.relu(self.up(self.block(F.relu(self.down(h)))))), 1)).tanh()

    class Instance(Net):
        norm = nn.InstanceNorm2d

    class GroupNormed(Net):  # its block's output cannot lose channels
        def __init__(self):
            super().__init__()
            self.block.m = nn.GroupNorm(2, 8)

    class WithInput(Net):  # the input stands before the channels in the concatenation
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(14, 3, 3, 1, 1)
        def forward(self, x):
            h = F.relu(self.n(self.stem(x)))
            up = F.relu(self.up(self.block(F.relu(self.down(h)))))
            return self.head(torch.cat((x, h, up), 1)).tanh()

    class NoGradients(Net):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    class FixedWidth(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)
        def forward(self, x):
            return self.b(self.a(x).view(len(x), 8, -1).view(len(x), 8, *x.shape[2:]))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's module, in the working folder, and a function that writes a class's weights."""
    pytest.importorskip("torch_pruning", reason="needs pip install 'vemcompress[prune]'")
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)

    def weights(cls: str) -> tuple[str, str]:
        torch.manual_seed(0)
        network = getattr(__import__(name), cls)()
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.1, 0.6)
        torch.save(network.state_dict(), f"{cls}.pth")
        return f"{cls}.pth", f"{name}:{cls}"

    yield weights
    sys.modules.pop(name, None)


def load(source, class_path):
    with named(class_path):
        return loading.load(source, class_path=class_path)


@pytest.mark.parametrize("cls", ["Net", "Instance", "GroupNormed", "WithInput"])
def test_cutting_masking_and_a_smaller_width_agree(own, cls):
    file, path = own(cls)
    network, x = load(file, class_path=path).generator, torch.randn(2, 3, 32, 32)
    groups = network.groups()
    assert len(groups) >= 2
    kept = {g.name: torch.randperm(g.size)[: g.size - 2].sort().values for g in groups}
    masks = {g.name: torch.zeros(g.size).index_fill(0, kept[g.name], 1.0) for g in groups}
    small = cut(network, kept)
    assert torch.allclose(small(x), masked(network, masks, x)[0], atol=1e-5)
    widths = {g.name: g.size - 1 for g in groups}
    first = cut(network, widths)
    assert torch.allclose(first(x), at(network, widths, x)[0], atol=1e-5)
    assert network.costs(32, 32)(widths) == macs_by_hooks(first.module, 3, 32, 32)


def test_a_pruned_class_is_loaded_with_its_class_and_pruned_again(own, call):
    file, path = own("Net")
    whole = load(file, class_path=path).generator
    macs = macs_by_hooks(whole.module, 3, 64, 64).true
    for source, out, target in (
        (file, "small.safetensors", macs * 2 // 3),
        ("small.safetensors", "tiny.pt", macs // 3),
    ):
        arguments = ["--target-macs", target, "-o", out, "--size", 64, "--teacher-class", path]
        code, printed, err = call("prune", source, *arguments, "--json")
        assert code == 0, err
        assert 0.6 * target < json.loads(printed)["after"]["macs"]["true"] <= target
        seen = json.loads(call("inspect", out, "--size", 64, "--teacher-class", path, "--json")[1])
        assert seen["macs"] == json.loads(printed)["after"]["macs"]
    assert call("export", "tiny.pt", "--onnx", "tiny.onnx", "--teacher-class", path)[0] == 0
    code, _, err = call("inspect", "tiny.pt")
    assert code == 4
    assert f"network of the class {path}: give --teacher-class {path}" in err


def test_a_pruned_class_distils_as_a_student_of_its_own_teacher(own, call):
    file, path = own("Net")
    macs = macs_by_hooks(load(file, class_path=path).generator.module, 3, 32, 32).true
    arguments = ["--target-macs", macs // 2, "-o", "s.safetensors", "--size", 32, "--teacher-class", path]
    assert call("prune", file, *arguments)[0] == 0
    images, settings = toy_images(Path("images")), [o for o in TOY if not o.startswith("student.")]
    arguments = [part for setting in (*settings, "algorithm.ema=0.9") for part in ("--set", setting)]
    given = ("--teacher", file, "--teacher-class", path, "--student", "s.safetensors", "--student-class", path)
    code, _, err = call("distill", *given, "--data", images, "--out", "run", "--device", "cpu", *arguments)
    assert code == 0, err
    before, after = (load(source, class_path=path).generator for source in ("s.safetensors", "run"))
    assert macs_by_hooks(after.module, 3, 32, 32).true <= macs // 2
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert call("distill", "--resume", "run", "--steps", 7, "--device", "cpu")[0] == 0
    scored = call("eval", "run", "--data", images, "--metric", "ssim_teacher", "--device", "cpu", "--json")
    assert 0 < json.loads(scored[1])["metrics"]["ssim_teacher"] < 1
    assert call("generate", "run", "--input", images, "--out", "made", "--teacher-class", path)[0] == 0


def test_a_class_is_pruned_and_distilled_by_the_stages_of_a_recipe(own, call):
    file, path = own("Net")
    images, settings = toy_images(Path("images")), [o for o in TOY if not o.startswith("student.")]
    arguments = [part for setting in (*settings, "algorithm.ema=0.9") for part in ("--set", setting)]
    given = ("--teacher", file, "--teacher-class", path, "--data", images, "--recipe", "prune_omgd", "--out", "run")
    assert call("distill", *given, "--until", "prune", "--device", "cpu", *arguments)[0] == 0
    code, _, err = call("distill", "--resume", "run", "--device", "cpu")
    assert code == 0, err
    assert call("distill", "--resume", "run", "--steps", 7, "--device", "cpu")[0] == 0
    for run in ("run", "run/1-prune"):
        assert call("eval", run, "--metric", "ssim_teacher", "--device", "cpu")[0] == 0


def test_a_pruned_class_gives_the_image_that_was_pruned(own):
    file, path = own("Net")
    network = load(file, class_path=path).generator
    result = prune(file, target_macs=3_000_000, out="s.safetensors", size=64, teacher_class=path)
    widths = {name: kept for name, (kept, _) in result.widths.items()}
    small = load("s.safetensors", class_path=path).generator
    assert {g.name: g.size for g in small.groups()} == {name: kept for name, kept in widths.items() if kept > 1}
    assert result.after["parameters"] < result.before["parameters"]
    x, (expected, _) = torch.randn(1, 3, 32, 32), prune_network(network, PRUNERS["l1"](), 3_000_000, 64, 64)
    assert torch.equal(small(x), expected(x))


def test_the_layers_of_a_narrower_class_are_those_of_the_cut_one(own):
    file, path = own("Net")
    network = load(file, class_path=path).generator
    subject = OfGroups(network, 64)
    widths = {name: max(1, width // 2) for name, width in subject.widths.items()}
    small = cut(network, widths)
    assert subject.layers(widths) == recorded(small, torch.zeros(1, 3, 64, 64))
    assert subject.parameters(widths) == sum(p.numel() for p in subject.network(widths).parameters())


@pytest.mark.parametrize("cls", ["NoGradients", "FixedWidth"])
def test_a_class_that_cannot_be_traced_is_refused(own, cls):
    file, path = own(cls)
    with pytest.raises(InputError, match=r"Torch-Pruning finds no removable channels in this class") as caught:
        prune(file, target_macs=1000, out="s.safetensors", size=64, teacher_class=path)
    assert "\n" not in str(caught.value)


def test_without_torch_pruning_its_extra_is_named(own, monkeypatch):
    file, path = own("Net")
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(UsageError, match=r"pip install 'vemcompress\[prune\]'"):
        prune(file, target_macs=1000, out="s.safetensors", size=64, teacher_class=path)


@pytest.mark.parametrize("damage", ["other", "wider", "text", "missing", "version"])
def test_a_damaged_pruned_file_is_refused(own, damage):
    file, path = own("Net")
    prune(file, target_macs=3_000_000, out="s.safetensors", size=64, teacher_class=path)
    with safe_open("s.safetensors", framework="pt") as opened:
        tensors, metadata = {n: opened.get_tensor(n) for n in opened.keys()}, opened.metadata()  # noqa: SIM118
    layers = json.loads(metadata["layers"])
    del metadata[SUM]
    if damage == "wider":
        layers["stem"]["out_channels"] = 10**9
    metadata["layers"] = "{" if damage == "text" else json.dumps(layers)
    if damage == "missing":
        tensors.pop("up.bias")
    if damage == "version":
        metadata["format_version"] = "99"
    save_file(tensors, "s.safetensors", metadata)
    cls = path.replace(":Net", ":FixedWidth") if damage == "other" else path
    with pytest.raises(InputError, match=r"not those of this class|does not fit|upgrade vemcompress"):
        load("s.safetensors", class_path=cls)
