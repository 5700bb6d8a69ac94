"""The Python interface: lazy imports, types, and Python objects as arguments: modules, images, dicts."""

import ast
import inspect
import json
import pydoc
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from teach_toys import toy_pairs
from torch import nn
from torch.utils.data import Dataset
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.commands import given_images
from vemcompress.commands.evaluate import EvaluateOptions
from vemcompress.errors import InputError, OutputError, RecipeError, UsageError, VemError
from vemcompress.export.exporting import ExportOptions, export
from vemcompress.system.events import silent
from vemcompress.system.keys import DistillKeys, TeachKeys, as_overrides
from vemcompress.weights.modules import digest

SHORT = [*TOY, "train.steps=2", "train.best_by=none"]


class Net(nn.Module):
    """A user's own generator, whose class needs an argument."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x).tanh()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net(3)


@pytest.fixture
def data(tmp_path):
    return toy_images(tmp_path / "images", 4)


def test_the_face_is_functions_whatever_is_imported():
    code = """
import importlib, pkgutil, types, vemcompress
face = list(vemcompress._FACE)
def check():
    for name in face:
        exec(f"from vemcompress import {name} as found")
        for one in (getattr(vemcompress, name), locals()["found"]):
            assert isinstance(one, types.FunctionType), (name, one)
assert set(face) <= set(dir(vemcompress))
check()
for module in list(pkgutil.walk_packages(vemcompress.__path__, "vemcompress.")):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        check()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_says_that_it_is_typed_and_its_face_is():
    assert (Path(vemcompress.__file__).parent / "py.typed").is_file()
    assert set(vemcompress.__all__) == {*vemcompress._FACE, "__version__", "errors"}
    for name in vemcompress._FACE:
        signature = inspect.signature(getattr(vemcompress, name))
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation not in (inspect.Parameter.empty, Any), (name, parameter)


def test_a_type_checker_sees_what_the_face_has():
    tree = ast.parse(Path(vemcompress.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == vemcompress._FACE | vemcompress._TYPES
    for name, module in vemcompress._TYPES.items():
        assert getattr(vemcompress, name) is getattr(import_module(module), name)


def test_the_options_that_functions_pass_on_are_those_of_the_other_function():
    hints = get_type_hints(inspect.unwrap(vemcompress.evaluate))
    assert get_type_hints(EvaluateOptions) == {
        k: v for k, v in hints.items() if k not in ("model", "progress", "return")
    }
    hints = get_type_hints(export)
    assert get_type_hints(ExportOptions) == {
        k: v for k, v in hints.items() if k not in ("model", "path", "formats", "return")
    }


def test_help_is_a_page_that_explains_every_function_and_argument():
    page = pydoc.render_doc(vemcompress, renderer=pydoc.plaintext)
    for name in vemcompress._FACE:
        doc = getattr(vemcompress, name).__doc__
        assert re.search(rf"^ +{name} +\w.*$", page, re.M) and doc.split("\n")[0] in page
        assert "Arguments:" in doc and "Returns:" in doc and "Raises:" in doc
        doc += "".join(getattr(vemcompress, o).__doc__ for o in re.findall(r"(?:as for|those of) `(\w+)`", doc))
        for parameter in inspect.signature(getattr(vemcompress, name)).parameters:
            assert re.search(rf"\b{parameter}\b", doc), (name, parameter)
    assert all(error.__name__ in page for error in VemError.__subclasses__() if error.__name__ != "RankLost")
    for key in get_type_hints(DistillKeys):
        assert re.search(rf"\b{key}\b", vemcompress.distill.__doc__), key


def test_a_module_and_its_file_are_inspected_alike(tmp_path):
    of_file = vemcompress.inspect(toy_teacher_file(tmp_path / "teacher.safetensors"), size=32)
    of_module = vemcompress.inspect(toy_teacher(), size=(32, 32))
    assert (of_file.macs, of_file.parameters, of_file.config) == (
        of_module.macs,
        of_module.parameters,
        of_module.config,
    )
    assert (of_file.origin, of_module.origin) == ("artifact", "module")
    own = vemcompress.inspect(Net(3), size=32, teacher_range="0..1")
    assert (own.config, own.range, own.parameters) == (None, "0..1", 84)
    assert not {"key", "others"} & own.as_dict().keys()


def test_the_import_is_light():
    code = "import sys, vemcompress; print(vemcompress.errors.VemError.exit_code, *sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert found[0] == "1" and not {"torch", "numpy", "rich", "typer", "pydantic"} & set(found)


def test_events_are_what_their_types_say_and_progress_is_drawn_beside_them(data, tmp_path, capfd):
    events = []
    result = vemcompress.distill(
        Net(3), data=data, out=tmp_path / "run", overrides=TOY, progress=True, on_event=events.append, device="cpu"
    )
    vemcompress.evaluate(tmp_path / "run", data=data, teacher=Net(3), device="cpu", on_event=events.append)
    kinds = {get_type_hints(kind)["event"]: kind for kind in vemcompress.AnyEvent.__args__}
    kinds = {name: kind for names, kind in kinds.items() for name in names.__args__}
    found = {event["event"]: event for event in events}
    assert {"step", "checkpoint", "sample", "report", "eval"} < set(found)
    for name in kinds.keys() & found.keys():
        assert kinds[name].__required_keys__ <= found[name].keys(), name
    out, err = capfd.readouterr()
    assert (out, result.steps) == ("", 6)
    assert "student   mobile_resnet" in err and "report    " in err


def test_a_call_without_progress_prints_nothing(tmp_path, capfd):
    vemcompress.export_onnx(toy_teacher(), tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")
    vemcompress.export_onnx(toy_teacher(), tmp_path / "b.onnx", progress=True)
    assert "checking parity" in capfd.readouterr().err


def test_overrides_are_texts_values_or_keywords():
    one = ["train.steps=30", 'information.name="none"', "train.betas=[0.5, 0.9]", "train.compile=true"]
    values = {"train": {"steps": np.int64(30)}, "information.name": "none", "train.betas": (0.5, 0.9), "train.lr": None}
    found = recipes.read("omgd", as_overrides(values, {"compile": True, "batch": None}))
    assert found == recipes.read("omgd", as_overrides(one))
    assert as_overrides((), {"steps": 3, "width": 8}, TeachKeys) == ["train.steps=3", "teacher.network.width=8"]
    quoted = recipes.read("omgd", as_overrides({}, {"student": Path('a"\\\n\x7f=#é')}, DistillKeys))
    assert quoted.student.source == 'a"\\\n\x7f=#é'
    lists = as_overrides({"teacher.start": {"deep": "a"}, "stages": [{"name": "a", "recipe": {"train": {}}}]})
    assert lists == ['teacher.start.deep="a"', 'stages=[{"name" = "a", "recipe" = {"train" = {}}}]']


@pytest.mark.parametrize(
    ("overrides", "keys", "message"),
    [
        ((), {"step": 3}, "'step' is not an argument; did you mean steps"),
        ((), {"zzz": 3}, "known: direction, size"),
        ((), {"features": "none"}, r"overrides, such as \{'algorithm.features': 'none'\}"),
        ("train.steps=3", {}, "give a list"),
        (3, {}, "give a list"),
        ([3], {}, "is not a text"),
        ({3: 3}, {}, "is not a key"),
        ({"train.steps": object()}, {}, "cannot be of type object"),
        ({"train.steps": 10**5000}, {}, "a number this large"),
    ],
)
def test_overrides_that_cannot_be_are_refused(overrides, keys, message):
    with pytest.raises(UsageError, match=message):
        vemcompress.distill("t.safetensors", data="d", out="o", overrides=overrides, **keys)


def test_a_module_teaches_and_its_run_is_resumed_with_it_alone(data, tmp_path, call):
    net, out = Net(3), tmp_path / "run"
    before = digest(net)
    result = vemcompress.distill(net, data=data, out=out, overrides=SHORT, device="cpu")
    assert result.steps == 2
    assert (digest(net), net.training) == (before, True)
    assert json.loads((out / "environment.json").read_text())["teacher"]["sha256"] == before
    assert "test_library.Net" in recipes.read(out / "recipe.toml").teacher.source
    assert vemcompress.distill(resume=out, teacher=net, steps=3, device="cpu").steps == 3
    scores = vemcompress.evaluate(out, data=data, teacher=net, device="cpu")
    assert "ssim_teacher" in scores.metrics
    with pytest.raises(InputError, match="not the teacher that"):
        vemcompress.distill(resume=out, teacher=Net(3), steps=4, device="cpu")
    del net
    with pytest.raises(InputError, match=r"given from Python; give it there again"):
        vemcompress.distill(resume=out, steps=4, device="cpu")
    code, _, err = call("distill", "--resume", out, "--steps", 4)
    assert code == 4
    assert "given from Python" in err
    code, metrics, err = call(
        "eval", out, "--data", toy_pairs(tmp_path / "pairs", 2), "--set=data.kind=paired", "--json"
    )
    assert (code, "metrics that need it are omitted" in err) == (0, True)
    assert "ssim_target" in json.loads(metrics)["metrics"]


def test_our_own_network_as_a_module_keeps_its_taps(data, tmp_path):
    teacher = vemcompress.load_generator(toy_teacher_file(tmp_path / "t.safetensors"))
    result = vemcompress.distill(teacher, data=data, out=tmp_path / "run", overrides=SHORT, device="cpu")
    assert "channel" in result.losses
    pruned = vemcompress.prune(teacher, target_macs=10**6, out=tmp_path / "small.safetensors", size=32)
    assert pruned.after["parameters"] < pruned.before["parameters"]


def test_seeds_and_stages_keep_the_module(net, data, tmp_path):
    found = vemcompress.distill_seeds([1, 2], net, data=PICTURES, out=tmp_path / "seeds", overrides=SHORT, device="cpu")
    assert [run.steps for run in found.seeds.values()] == [2, 2]
    own = {"data.size": 32, "train.steps": 1, "algorithm.features": "none", "information.name": "none"}
    stages = vemcompress.distill(
        toy_teacher(), data=data, out=tmp_path / "stages", recipe="prune_omgd", overrides=own, device="cpu"
    )
    assert Path(stages.student).is_file()
    with pytest.raises(UsageError, match="cannot be pruned"):
        vemcompress.distill(net, data=data, out=tmp_path / "x", recipe="prune_omgd", overrides=own, device="cpu")
    with pytest.raises(UsageError, match="cannot be pruned"):
        vemcompress.prune(net, target_macs=1000, out=tmp_path / "x.safetensors")


PICTURES = np.random.default_rng(0).integers(0, 256, (4, 40, 36, 3), dtype=np.uint8)


class Labelled(Dataset):
    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return torch.from_numpy(PICTURES[index]).permute(2, 0, 1), index


SOURCES = {
    "PIL": [Image.fromarray(picture) for picture in PICTURES],
    "arrays": list(PICTURES),
    "one array": PICTURES,
    "floats": [torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1 for picture in PICTURES],
    "Dataset": Labelled(),
    "dicts": [{"image": Image.fromarray(picture)} for picture in PICTURES],
}


@pytest.mark.parametrize("images", SOURCES.values(), ids=SOURCES)
def test_images_from_python_are_kept_without_loss(images, tmp_path):
    given_images.write(images, tmp_path / "kept", silent)
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in kept] == [f"{i:06}.png" for i in range(1, 5)]
    for path, picture in zip(kept, PICTURES, strict=True):
        assert np.array_equal(np.array(Image.open(path)), picture)


def test_a_run_on_images_from_python_is_resumed_by_the_command_line(tmp_path, call):
    out = tmp_path / "run"
    teacher = toy_teacher_file(tmp_path / "t.safetensors")
    vemcompress.distill(teacher, data=Labelled(), out=out, overrides=SHORT, device="cpu")
    assert len(list((out / "given_images").iterdir())) == 4
    assert call("distill", "--resume", out, "--steps", 3)[0] == 0
    with pytest.raises(UsageError, match="already has its images"):
        vemcompress.distill(resume=out, data=Labelled(), device="cpu")
    assert vemcompress.evaluate(out, data=Labelled(), device="cpu").images == 4


def test_a_list_of_files_is_data(tmp_path, data):
    files = sorted(data.iterdir())[:3]
    told = []
    vemcompress.distill(
        toy_teacher(), data=files, out=tmp_path / "run", overrides=SHORT, device="cpu", on_event=told.append
    )
    assert next(event["images"] for event in told if event["event"] == "data") == 3
    with pytest.raises(UsageError, match="too many for a recipe"):
        vemcompress.distill(toy_teacher(), data=files * 5000, out=tmp_path / "x", overrides=SHORT, device="cpu")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (42, "data: is of type int; give a folder"),
        ({"a": 1}, "data: is of type dict"),
        (b"images", "data: is of type bytes"),
        (iter([1]), "give a folder"),
        (["a.png", PICTURES[0]], "both paths and images"),
        ([1, 2], r"data\[0\]: is of type int"),
        ([None], r"data\[0\]"),
        ([PICTURES[0].astype(np.float32)], r"data\[0\]: is of type ndarray float32 of 40x36x3; give"),
        ([PICTURES[0], torch.full((3, 8, 8), 3.0)], r"data\[1\]: has values outside"),
        ([torch.full((3, 8, 8), float("nan"))], r"data\[0\]: has values outside"),
        ([torch.zeros(5, 8, 8)], r"data\[0\]: is of type Tensor torch.float32 of 5x8x8"),
        (PICTURES[:0], "has no image"),
    ],
)
def test_data_that_are_no_images_are_refused_and_leave_nothing(images, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        vemcompress.distill(toy_teacher(), data=images, out=tmp_path / "run", overrides=SHORT, device="cpu")
    assert not (tmp_path / "run").exists()


def test_images_are_not_kept_for_a_run_that_cannot_begin(tmp_path):
    images = list(PICTURES)
    with pytest.raises(InputError, match="no such file"):
        vemcompress.distill(tmp_path / "none.pth", data=images, out=tmp_path / "run", overrides=SHORT, device="cpu")
    with pytest.raises(RecipeError):
        vemcompress.distill(toy_teacher(), data=images, out=tmp_path / "run", steps=-1, device="cpu")
    assert not (tmp_path / "run").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises((UsageError, OutputError), match="already exists"):
        vemcompress.distill(toy_teacher(), data=images, out=tmp_path / "full", overrides=SHORT, device="cpu")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_a_dataset_that_fails_is_told(tmp_path):
    class Broken(Labelled):
        def __getitem__(self, index):
            raise KeyError("gone")

    with pytest.raises(InputError, match=r"data\[0\]: failed with KeyError"):
        vemcompress.distill(toy_teacher(), data=Broken(), out=tmp_path / "run", overrides=SHORT, device="cpu")


def test_images_that_may_be_from_0_to_1_are_warned_of(tmp_path):
    told = []
    images = [torch.rand(3, 40, 40) for _ in range(3)]
    run = {"out": tmp_path / "run", "overrides": SHORT, "device": "cpu"}
    vemcompress.distill(toy_teacher(), data=images, on_event=told.append, **run)
    assert any("below 0" in event["message"] for event in told if event["event"] == "warning")


@pytest.mark.parametrize("given", [{"out": 42}, {"resume": 42}, {"recipe": {"train": {}}}])
def test_a_path_of_a_wrong_type_is_refused(given):
    with pytest.raises(UsageError, match=f"{next(iter(given))}: is of type .*; give a name or a path"):
        vemcompress.distill("t.safetensors", data="d", **given)


def test_a_module_without_data_is_refused(data, tmp_path):
    with torch.device("meta"), pytest.raises(InputError, match="cannot be read"):
        vemcompress.distill(Net(3), data=data, out=tmp_path / "run")


@pytest.mark.parametrize("teacher", [42, {"a": 1}, ["a.pth"], Net])
def test_a_teacher_of_a_wrong_type_is_refused(teacher, data, tmp_path):
    with pytest.raises(
        UsageError, match=r"teacher: is of type .*; give a file, a run folder, hf://user/repo, an nn.Module"
    ):
        vemcompress.distill(teacher, data=data, out=tmp_path / "run")


def inverted(x):
    """A user's own function."""
    return -x


def test_a_function_teaches_is_cached_and_resumed_by_its_name(data, tmp_path, call):
    run = tmp_path / "run"
    more = {"train.teacher_cache": 1, "train.checkpoint_every": 1}
    result = vemcompress.distill(inverted, data=data, out=run, overrides=[*SHORT, *as_overrides(more)])
    assert result.teacher_parameters == 0
    assert "python:test_library.inverted:" in (run / "recipe.toml").read_text()
    again = vemcompress.distill(inverted, resume=run, steps=4)
    assert again.steps == 4
    found = vemcompress.evaluate(run, teacher=inverted, data=data, size=32, metrics=["l1_teacher"])
    assert 0 < found.metrics["l1_teacher"] < 1
    with pytest.raises(InputError, match="is not the teacher"):
        vemcompress.distill(lambda x: x, resume=run, steps=5)


def test_functions_that_are_no_generators_are_refused(data, tmp_path):
    for function, message in ((lambda x: x.mean(), "must return an image"), (lambda x: 1 / 0, "ZeroDivisionError")):
        with pytest.raises(InputError, match=message):
            vemcompress.distill(function, data=data, out=tmp_path / "run", overrides=SHORT)
    own = [override for override in SHORT if "student" not in override]
    with pytest.raises(InputError, match="cannot be trained"):
        vemcompress.distill(inverted, data=data, out=tmp_path / "run", overrides=own, student="teacher")
