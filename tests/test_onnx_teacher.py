"""An .onnx file as a frozen teacher, as a model to inspect and to evaluate; other files are refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_toys import external, graph, kernel, tanh_graph
from PIL import Image
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

from vemcompress.errors import InputError, UsageError
from vemcompress.export.exporting import export_onnx, origin
from vemcompress.weights.custom_latents import own_generator
from vemcompress.weights.graphs.teacher import can_use_cuda
from vemcompress.weights.loading import Loaded, identity_of, load
from vemcompress.weights.ranges import RANGES, Ranges

SHORT = [*(f"--set={o}" for o in TOY), "--set=train.steps=2", "--set=train.best_by=none"]


@pytest.fixture
def data(tmp_path):
    return toy_images(tmp_path / "images", 4, 70)


@pytest.fixture
def exported(tmp_path):
    """A toy teacher as .safetensors and as .onnx, with the same operations."""
    path = toy_teacher_file(tmp_path / "teacher.safetensors")
    export_onnx(toy_teacher(), tmp_path / "teacher.onnx", rewrites=False)
    return path, tmp_path / "teacher.onnx"


def weights(run: Path) -> dict:
    return load(run).generator.state_dict()


def test_a_student_of_the_onnx_file_is_that_of_its_weights(exported, data, call, tmp_path):
    same = ["--set=algorithm.channel=0", "--set=student.family=mobile_resnet", "--data", data]
    for name, teacher in zip(("weights", "onnx"), exported, strict=True):
        code, _, err = call("distill", "--teacher", teacher, "--out", tmp_path / name, *SHORT, *same)
        assert code == 0, err
    first, second = weights(tmp_path / "weights"), weights(tmp_path / "onnx")
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)


def test_inspect_counts_what_the_weights_have(exported, call):
    ours, theirs = (json.loads(call("inspect", path, "--size", 64, "--json")[1]) for path in exported)
    assert theirs["macs"]["true"] == ours["macs"]["true"] and theirs["macs"]["paper"] == ours["macs"]["paper"]
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.05)
    assert (theirs["family"], theirs["origin"], theirs["range"]) == ("onnx", "onnx", "-1..1")
    assert theirs["input"]["shape"] == theirs["output"]["shape"] == [3, 64, 64]


def test_macs_are_those_of_convolutions_products_and_norms(tmp_path, call):
    body = """
        c = Conv <group = 3, pads = [1, 1, 1, 1]> (x, w)
        n = InstanceNormalization (c, s, b)
        t = ConvTranspose <strides = [2, 2]> (n, u)
        m = MatMul (t, v)
        y = Tanh (m)
    """
    grouped, up = np.ones((3, 1, 3, 3)), np.ones((3, 3, 2, 2))
    path = graph(
        *(tmp_path / "m.onnx", "float[1, 3, 64, 64] x", body, "float[1, 3, 128, 128] y"),
        **{"w": grouped, "s": np.ones(3), "b": np.zeros(3), "u": up, "v": np.eye(128)},
    )
    found = json.loads(call("inspect", path, "--json")[1])
    conv, product, norm = 27 * 64 * 64, 3 * 128 * 128 * 128, 3 * 64 * 64
    on_input, on_output = 36 * 64 * 64, 36 * 128 * 128
    assert found["macs"] == {
        "true": conv + on_input + product,
        "paper": conv + on_output + product,
        "paper_norm": conv + on_output + product + norm,
    }
    assert found["parameters"] == 27 + 6 + 36 + 128 * 128 and found["output"]["shape"] == [3, 128, 128]


FORMS = {
    "NHWC": ("float[N, H, W, 3]", "c = Transpose <perm = [0, 3, 1, 2]> (x)", "Transpose <perm = [0, 2, 3, 1]> (t)"),
    "fp16": ("float16[N, 3, H, W]", "c = Cast <to = 1> (x)", "Cast <to = 10> (t)"),
    "one": ("float[1, 3, H, W]", "c = Identity (x)", "Identity (t)"),
    "fixed": ("float[N, 3, 32, 32]", "c = Identity (x)", "Identity (t)"),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_give_the_same_images(form, tmp_path):
    taken, begin, end = FORMS[form]
    expected = load(tanh_graph(tmp_path / "plain.onnx")).generator
    body = f"{begin} d = Conv (c, w) t = Tanh (d) y = {end}"
    found = load(graph(tmp_path / "m.onnx", f"{taken} x", body, f"{taken} y", w=kernel())).generator
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    assert torch.allclose(found(x), expected(x), atol=2e-3) and found(x).shape == x.shape
    assert found.takes.only == (32 if form == "fixed" else None)


def ranged(path: Path, name: str) -> Path:
    """Takes and gives this range: what the tanh graph makes of [-1, 1]."""
    low, high = RANGES[name]
    half = (high - low) / 2
    body = "a = Sub (x, middle) n = Div (a, half) c = Conv (n, w) t = Tanh (c) b = Mul (t, half) y = Add (b, middle)"
    shape = "float[N, 3, H, W]"
    return graph(path, f"{shape} x", body, f"{shape} y", w=kernel(), half=half, middle=low + half)


@pytest.mark.parametrize("name", RANGES)
def test_a_range_is_guessed_by_a_try_and_told(name, tmp_path, call):
    path = ranged(tmp_path / "m.onnx", name)
    found, expected = load(path).generator, load(tanh_graph(tmp_path / "plain.onnx")).generator
    assert str(found.ranges) == name and not found.trusted
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.allclose(found(x), expected(x), atol=1e-4)
    _, out, err = call("inspect", path, "--size", 64, "--json")
    assert json.loads(out)["range"] == name and f"[{name.replace('..', ', ')}] (by a try on noise)" in err


def test_bytes_are_known_by_their_type_and_ends_by_their_last_node(tmp_path):
    body = "f = Cast <to = 1> (x) c = Div (f, two) y = Cast <to = 2> (c)"
    images = "uint8[N, H, W, 3]"
    found = load(graph(tmp_path / "b.onnx", f"{images} x", body, f"{images} y", two=2.0)).generator
    x = torch.tensor([-1.0, 0.0, 1.0]).expand(1, 3, 8, 3)
    assert str(found.ranges) == "0..255"
    assert torch.allclose(found(x)[0, 0, 0], torch.tensor([0, 64, 127]) / 127.5 - 1, atol=1e-5)
    shape = "float[N, 3, H, W]"
    found = load(graph(tmp_path / "s.onnx", f"{shape} x", "c = Conv (x, w) y = Sigmoid (c)", f"{shape} y", w=kernel()))
    assert str(found.generator.ranges) == "0..1" and "Sigmoid" in found.generator.assumed


def test_a_wrong_guess_stops_unless_the_range_is_stated(tmp_path, call):
    # On noise it looks like [-1, 1]; on photos that are whiter than noise it gives far more.
    body = "m = GlobalAveragePool (x) p = Greater (m, limit) q = Cast <to = 1> (p) s = Mul (q, big) y = Add (x, s)"
    more, shape = {"limit": np.full((1, 3, 1, 1), 0.3), "big": 99.0}, "float[N, 3, H, W]"
    path = graph(tmp_path / "m.onnx", f"{shape} x", body, f"{shape} y", **more)
    (tmp_path / "white").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), "white").save(tmp_path / "white" / f"{i}.png")
    arguments = ("distill", "--teacher", path, "--data", tmp_path / "white", "--out", tmp_path / "run", *SHORT)
    code, _, err = call(*arguments)
    assert code == 4 and "seem to be in 0..255 and not in -1..1" in err
    code, _, err = call(*arguments, "--teacher-range", "-1..1")
    assert code == 0, err


def test_a_fixed_size_is_the_datas_and_others_are_refused(tmp_path, data, call):
    path = tanh_graph(tmp_path / "m.onnx", "64, 64", "1")
    arguments = ["distill", "--teacher", path, "--data", data, *(o for o in SHORT if "data.size" not in o)]
    code, _, err = call(*arguments, "--out", tmp_path / "run", "--batch", 2)
    assert code == 0, err
    assert "size = 64" in (tmp_path / "run" / "recipe.toml").read_text()
    code, _, err = call(*arguments, "--out", tmp_path / "other", "--size", 32)
    assert code == 3 and "only takes images of 64 px; set it to 64" in err
    code, _, err = call("inspect", path, "--size", 32)
    assert code == 2 and "only images of 64 x 64 pixels" in err
    code, _, err = call("inspect", tanh_graph(tmp_path / "w.onnx", "64, 128"))
    assert code == 4 and "only accepts images of 128 x 64" in err


def test_eval_takes_it_as_the_student_and_as_the_teacher(exported, data, call):
    options = ["--data", data, "--size", 64, "--metric", "ssim_teacher", "--metric", "l1_teacher", "--json"]
    for model, teacher in (exported, exported[::-1]):
        code, out, err = call("eval", model, "--teacher", teacher, *options)
        assert code == 0, err
        found = json.loads(out)["metrics"]
        assert found["ssim_teacher"] > 0.9999 and found["l1_teacher"] < 1e-4


def test_a_run_is_resumed_with_the_same_file_alone(exported, data, call, tmp_path):
    path, run = exported[1], tmp_path / "run"
    more = ["--set=train.teacher_cache=1", "--set=train.checkpoint_every=1"]
    code, out, err = call("distill", "--teacher", path, "--data", data, "--out", run, *SHORT, *more, "--json")
    assert code == 0, err
    assert json.loads((run / "environment.json").read_text())["teacher"]["sha256"] == identity_of(path)
    code, out, err = call("distill", "--resume", run, "--steps", 4, "--json")
    assert code == 0 and json.loads(out)["steps"] == 4, err
    tanh_graph(path)
    code, _, err = call("distill", "--resume", run, "--steps", 5)
    assert code == 4 and "is not the teacher that" in err


def test_weights_in_another_file_are_a_part_of_what_it_is_known_by(tmp_path):
    path = external(tmp_path / "m.onnx", "w.bin")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(load(path).generator(x), load(tanh_graph(tmp_path / "plain.onnx")).generator(x))
    before = identity_of(path)
    (tmp_path / "w.bin").write_bytes(kernel(1).tobytes())
    assert identity_of(path) != before


def test_what_needs_more_than_images_is_refused_with_the_reason(exported, data, call, tmp_path):
    path = exported[1]
    common = ["--data", data, "--out", tmp_path / "run"]
    code, _, err = call("distill", "--teacher", path, *common, *SHORT, "--set=algorithm.channel=1")
    assert code == 3 and "an .onnx file has no named feature maps" in err
    code, _, err = call("distill", "--teacher", path, *common, "--recipe", "omgd_online")
    assert code == 3 and "an .onnx file, which cannot be trained in a GAN" in err
    own = [o for o in SHORT if "student" not in o]
    for teacher, student in ((exported[0], path), (path, "teacher")):
        code, _, err = call("distill", "--teacher", teacher, *common, *own, "--student", student)
        assert code == 4 and "cannot be trained" in err
    for command, more in (("prune", ["-o", tmp_path / "p.safetensors", "--ratio", 0.5]), ("export", ["--onnx", "x"])):
        code, _, err = call(command, path, *more)
        assert code == 4 and "ONNX file cannot be used here" in err
    for option, value in (("class", "a:B"), ("key", "netG")):
        code, _, err = call("inspect", path, f"--teacher-{option}", value)
        assert code == 2 and f"--teacher-{option}" in err
    assert not (tmp_path / "run").exists()


def test_four_channels_and_a_range_that_is_stated_are_taken(tmp_path, call):
    shape = "float[N, 4, H, W]"
    path = graph(tmp_path / "m.onnx", f"{shape} x", "y = Neg (x)", f"{shape} y")
    found = load(path, range="0..1").generator
    x = torch.rand(1, 4, 8, 8) * 2 - 1
    assert found.channels == (4, 4) and torch.equal(found(x), -torch.ones_like(x))  # clamped
    _, out, _ = call("inspect", path, "--size", 64, "--json")
    assert "assumed to be in [-1, 1]" in json.loads(out)["notes"][0]
    _, out, _ = call("inspect", path, "--size", 64, "--teacher-range", "0..1", "--json")
    assert json.loads(out)["notes"] == [] and json.loads(out)["range"] == "0..1"


def test_a_file_of_another_name_is_told_to_be_one(exported, call):
    code, _, err = call("inspect", exported[1].rename(exported[1].with_suffix(".bin")))
    assert code == 4 and "a name that ends in .onnx" in err


def test_a_range_that_is_none_is_told_with_the_right_ones(exported, call):
    code, _, err = call("distill", "--teacher", exported[1], "--teacher-range", "5", "--data", "d", "--out", "o")
    assert code == 3 and "write 0..255, 0..1 or -1..1" in err


def test_where_it_runs_is_told(tmp_path):
    module, told = load(tanh_graph(tmp_path / "m.onnx")).generator.module, "runs on the CPU"
    assert module.elsewhere(torch.device("cpu")) == ""
    assert can_use_cuda() or told in module.elsewhere(torch.device("cuda"))


def unusual(path: Path, domain: str = "") -> Path:
    node = helper.make_node("Blur", ["x"], ["y"], domain=domain)
    image = ["N", 3, "H", "W"]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, image)] for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain or "own", 1)]
    onnx.save(helper.make_model(helper.make_graph([node], "g", *ends), opset_imports=opsets, ir_version=9), path)
    return path


def broken(case: str, folder: Path) -> Path:
    path, image = folder / "m.onnx", "float[N, 3, H, W]"
    if case == "text":
        path.write_text("hello\n")
    elif case == "outside":
        return external(path, "../w.bin")
    elif case == "operator":
        return unusual(path, "custom.ops")
    elif case == "two":
        return graph(path, f"{image} photo, float[N, 8] style", "y = Tanh (photo)", f"{image} y")
    elif case == "labels":
        return graph(path, f"{image} x", "p = GlobalAveragePool (x) y = Flatten (p)", "float[N, 3] y")
    return path


BROKEN = {
    "text": "not an ONNX file",
    "outside": "outside its own folder",
    "operator": "custom.ops.Blur",
    "two": "photo .* style",
    "labels": "must return one image",
    "absent": "no such file",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_image_to_image_file_is_refused_in_one_sentence(case, tmp_path):
    with pytest.raises(InputError, match=BROKEN[case]) as caught:
        load(broken(case, tmp_path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


TENSORFLOW = {
    "model.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "model.tflite": b"\x1c\0\0\0TFL3" + bytes(64),
    "frozen.pb": b"\x0a\x40\x0a\x05input\x12\x0bPlaceholder" + bytes(64),
    "saved/saved_model.pb": b"\x08\x01\x12\x40" + bytes(64),
}


@pytest.mark.parametrize("name", TENSORFLOW)
def test_tensorflow_files_are_refused_with_the_way_through_onnx(name, tmp_path, call):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TENSORFLOW[name])
    for given in {path, path.parent} if path.parent != tmp_path else {path}:
        code, _, err = call("inspect", given)
        assert code == 4 and "python -m tf2onnx.convert --" in err and err.count("\n") == 1, err


def test_a_range_that_a_file_tells_otherwise_is_refused(exported, tmp_path):
    with pytest.raises(UsageError, match=r"states that its images are in \[-1, 1\]"):
        load(exported[1], range="0..1")
    taken = graph(tmp_path / "bytes.onnx", "uint8[N, H, W, 3] x", "y = Identity (x)", "uint8[N, H, W, 3] y")
    with pytest.raises(UsageError, match=r"its input is uint8, so its range is 0\.\.255"):
        load(taken, range="0..1")


def test_what_a_class_of_another_range_is_exported_as_takes_and_gives_ours(tmp_path):
    """The range that the user states is the network's inside, not the file's."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Tanh())
    loaded = Loaded(own_generator(network, "users:Bytes", Ranges.parse("0..255")), "bytes.pth", "", "class")
    result = export_onnx(loaded.generator, tmp_path / "m.onnx", metadata=origin(loaded))
    assert result.metadata["range"] == "-1..1" and result.metadata["source_range"] == "0..255"


def test_weights_in_constant_nodes_are_counted(tmp_path, call):
    body = "w = Constant <value = float[3, 3, 1, 1] {1, 0, 0, 0, 1, 0, 0, 0, 1}> () c = Conv (x, w) y = Tanh (c)"
    path = graph(tmp_path / "m.onnx", "float[N, 3, H, W] x", body, "float[N, 3, H, W] y")
    _, out, _ = call("inspect", path, "--size", 64, "--json")
    assert json.loads(out)["parameters"] == 9
