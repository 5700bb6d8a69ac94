"""Files for devices: each gives PyTorch's images in its own runtime and describes its input, or is not written."""

import errno
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from export_toys import Small, latent_toy, toy
from PIL import Image
from torch import nn
from toys import toy_images

from vemcompress.commands.export import export_model
from vemcompress.commands.generate import generate
from vemcompress.data.images import save_png
from vemcompress.errors import ExportError, InputError, OutputError, UsageError
from vemcompress.export.exporting import export
from vemcompress.export.formats import FORMATS
from vemcompress.export.result import ExportResult
from vemcompress.weights.artifact import save_generator

DEVICES = ("openvino", "litert", "coreml", "ncnn", "executorch")
ENDS = {
    "openvino": ("x", "y"),
    "coreml": ("x", "y"),
    "ncnn": ("in0", "out0"),
    "executorch": ("0", "0"),
    "litert": ("serving_default_args_0", "serving_default_output_0_output"),
}


def need(name: str) -> None:
    try:
        FORMATS[name].check("fp32", False)
    except ExportError as error:
        pytest.skip(str(error))


@dataclass
class Made:
    """An export into a folder of its own, and what could be seen of it."""

    model: nn.Module
    result: ExportResult
    folder: Path
    events: list[dict]
    printed: str
    elsewhere: list[Path]  # files that a converter left in the working folder


@pytest.fixture(scope="module", params=DEVICES)
def made(request, tmp_path_factory) -> Made:
    need(request.param)
    folder, working = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("working")
    events, saved, void = [], [os.dup(1), os.dup(2)], working.parent / "printed"
    with pytest.MonkeyPatch.context() as patch, void.open("w") as log:
        patch.chdir(working)
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        try:
            model, about = toy("mobile_resnet"), {"size": (32, 48), "on_event": events.append}
            (result,) = export(model, folder / "m", formats=request.param, metadata={"licence": "MIT"}, **about)
        finally:
            os.dup2(saved[0], 1), os.dup2(saved[1], 2)
    return Made(model, result, folder, events, void.read_text(), list(working.iterdir()))


def run(result: ExportResult, x: np.ndarray) -> np.ndarray:
    """What the file gives, as an app would run it that has read its description alone."""
    about, path = result.metadata, result.path
    if result.format == "openvino":
        library = FORMATS["openvino"].module()
        hint = {"INFERENCE_PRECISION_HINT": about["inference_precision_hint"]}
        return library.Core().compile_model(str(path), "CPU", hint)({"x": x})["y"]
    if result.format == "litert":
        opened = FORMATS["litert"].module("ai_edge_litert.interpreter").Interpreter(str(path))
        opened.allocate_tensors()
        given, drawn = opened.get_input_details()[0], opened.get_output_details()[0]
        assert (given["name"], drawn["name"]) == (about["input_name"], about["output_name"])
        opened.set_tensor(given["index"], x)
        opened.invoke()
        return opened.get_tensor(drawn["index"])
    if result.format == "ncnn":
        library = FORMATS["ncnn"].module()
        net = library.Net()
        net.load_param(str(path)), net.load_model(str(result.files[1]))
        one = net.create_extractor()
        one.input(about["input_name"], library.Mat(x[0]).clone())
        return np.array(one.extract(about["output_name"])[1])[None]
    runtime = FORMATS["executorch"].module("executorch.runtime").Runtime.get()
    program = runtime.load_program(path.read_bytes())
    return program.load_method("forward").execute([torch.from_numpy(x)])[0].numpy().copy()


def drawn_by(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def test_a_file_draws_in_its_own_runtime_what_pytorch_draws(made):
    if made.result.format == "coreml":
        pytest.skip("only a Mac runs Core ML")
    x, last = noise(1, 3, 32, 48), made.result.metadata["layout"] == "NHWC"
    found = run(made.result, np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x)
    expected = drawn_by(made.model, x)
    assert expected.std() > 0.1 and made.result.max_abs_diff <= 1e-4
    assert np.abs((found.transpose(0, 3, 1, 2) if last else found) - expected).max() <= 1e-4


def test_a_package_for_core_ml_says_what_goes_in_and_out(made):
    if made.result.format != "coreml":
        pytest.skip("of Core ML")
    said = FORMATS["coreml"].module().utils.load_spec(str(made.result.path)).description
    (given,), (drawn,) = said.input, said.output
    assert (given.name, list(given.type.multiArrayType.shape)) == ("x", [1, 3, 32, 48])
    assert (drawn.name, given.shortDescription) == ("y", made.result.input)
    assert said.metadata.license == "MIT" and made.result.metadata.items() <= dict(said.metadata.userDefined).items()
    assert made.result.max_abs_diff is None and "only a Mac" in made.result.notes[0]


def test_a_description_tells_how_the_file_is_fed(made):
    about, name = made.result.metadata, made.result.format
    assert about["layout"] == ("NHWC" if name == "litert" else "NCHW") and about["range"] == "-1..1"
    assert (about["precision"], about["licence"], about["family"]) == ("fp32", "MIT", "mobile_resnet")
    given, drawn = ENDS[name]
    sides = {"litert": "1 x 32 x 48 x 3, -1..1", "openvino": "N x 3 x H x W, -1..1, H and W multiples of 4, at least 8"}
    told = f"float32 {sides.get(name, '1 x 3 x 32 x 48, -1..1')}"
    assert (made.result.input, made.result.output) == (f"{given}: {told}", f"{drawn}: {told}")
    if name != "openvino":
        assert (about["input_name"], about["output_name"], about["size"]) == (given, drawn, "32x48")
    for path in made.result.files:
        if path.suffix == ".json":
            assert json.loads(path.read_text()) == about | {"format": name}


def test_an_export_leaves_its_files_and_nothing_else(made):
    assert sorted(made.folder.iterdir()) == sorted(made.result.files) and made.elsewhere == []
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    assert made.result.bytes == sum(path.stat().st_size for path in files)
    assert made.result.path.name == f"m{FORMATS[made.result.format].suffix}"


def test_a_converter_is_silent_and_progress_ends_at_its_total(made):
    assert made.printed == ""
    done = [event["done"] for event in made.events]
    assert done == sorted(done) and done[-1] == made.events[-1]["total"] and made.events[0]["stage"] == "convert"


@pytest.mark.parametrize("name", ["openvino", "litert", "executorch"])
def test_bytes_go_in_and_come_out_where_uint8_is_asked_for(name, tmp_path):
    need(name)
    model = toy("unet_instance")  # of one channel, whose order in memory a runtime may take for another
    (result,) = export(model, tmp_path / "m", formats=name, uint8=True, size=32)
    assert result.max_level_diff <= 1 and result.metadata["layout"] == "NHWC" and "uint8" in result.input
    x = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 1), np.uint8)
    opened = FORMATS[name].open(result.path)
    found, expected = opened.run(x), drawn_by(model, x.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    assert found.dtype == np.uint8 and opened.uint8 and found.shape == (1, 32, 32, 3)
    assert np.abs(found - (expected.transpose(0, 2, 3, 1) * 127.5 + 127.5)).max() <= 1


@pytest.mark.parametrize("name", DEVICES)
def test_a_generator_from_latent_vectors_is_exported(name, tmp_path):
    need(name)
    model = latent_toy("dcgan")
    uint8 = name == "coreml"
    (result,) = export(model, tmp_path / "m", formats=name, uint8=uint8)
    assert result.input.endswith("x 6, uniform in -1..1") and "16 x 16" in result.output
    if uint8:  # a picture comes out, of numbers that are none
        said = FORMATS["coreml"].module().utils.load_spec(str(result.path)).description
        assert said.output[0].type.imageType.width == 16 and list(said.input[0].type.multiArrayType.shape) == [1, 6]
        return
    z = noise(1, 6)
    assert np.abs(FORMATS[name].open(result.path).images(z) - drawn_by(model, z)).max() <= 1e-4


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return toy_images(tmp_path_factory.mktemp("photos") / "A", 4)


@pytest.mark.parametrize("name", ["openvino", "litert", "executorch"])
def test_int8_is_smaller_and_judged_on_photos(name, photos, tmp_path):
    need(name)
    about = {"formats": name, "size": 32}
    (whole,) = export(toy("unet_batch"), tmp_path / "whole", **about)
    (result,) = export(toy("unet_batch"), tmp_path / "m", **about, precision="int8", calibrate=photos, least_ssim=0.9)
    assert result.bytes < 0.6 * whole.bytes and result.max_abs_diff is None and result.metadata["precision"] == "int8"
    assert result.quantised.layers and result.quantised.ssim >= 0.9
    x = noise(1, 3, 32, 32)
    assert np.abs(FORMATS[name].open(result.path).images(x) - drawn_by(toy("unet_batch"), x)).mean() < 0.1


def test_int8_of_executorch_is_calibrated_on_latent_vectors(tmp_path):
    need("executorch")
    (result,) = export(latent_toy("dcgan"), tmp_path / "m", formats="executorch", precision="int8")
    assert result.quantised.ssim >= 0.98


def test_fp16_is_half_as_large_and_compared_with_fp32(photos, tmp_path):
    need("ncnn")
    found = export_model(toy("mobile_resnet"), tmp_path / "m", formats=["ncnn"], precision="fp16", calibrate=photos)
    before, after = found.compared
    assert (before.precision, after.precision, after.images) == ("fp32", "fp16", "held-out photos")
    assert after.bytes < 0.6 * before.bytes and after.ssim > 0.99 and before.p50_ms > 0
    assert sorted(tmp_path.iterdir()) == sorted(found.files[0].files)


@pytest.mark.parametrize("name", DEVICES)
def test_a_library_that_is_absent_is_named_with_its_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, FORMATS[name].packages[0].partition(".")[0], None)
    for module in [module for module in sys.modules if module.startswith(FORMATS[name].packages[0].partition(".")[0])]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError, match=rf"--format {name}: .* is not installed.* 'vemcompress\[{name}\]'"):
        export(toy("mobile_resnet"), tmp_path / "m", formats=name)
    assert not list(tmp_path.iterdir())


class Unknown(nn.Module):
    """An operation that no device has."""

    def forward(self, x):
        return torch.erfinv(0.9 * x.tanh())


@pytest.mark.parametrize("name", DEVICES)
def test_an_operation_that_a_format_lacks_is_named(name, tmp_path):
    need(name)
    with pytest.raises(ExportError, match=r"erf_?inv") as caught:
        export(Small(Unknown()), tmp_path / "m", formats=name, size=32)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


class Sorted(nn.Module):
    """ExecuTorch writes it, and has no kernel for it."""

    def forward(self, x):
        return torch.sort(x, 3)[0]


@pytest.mark.parametrize("name", ["ncnn", "executorch"])
def test_an_operation_that_a_runtime_alone_lacks_is_named(name, tmp_path):
    need(name)
    with pytest.raises(ExportError, match=r"has no operation aten::sort"):
        export(Small(Sorted()), tmp_path / "m", formats=name, size=32)
    assert not list(tmp_path.iterdir())


USAGE = {
    "latent": (
        {"precision": "int8", "calibrate": "broken", "model": "dcgan"},
        "--calibrate: this model draws from latent vectors",
    ),
    "unknown": ({"formats": "tflite"}, r"format 'tflite' is not known; choose from onnx, openvino, litert"),
    "none": ({"formats": []}, "no format"),
    "ending": ({"formats": "ncnn", "path": "m.onnx"}, r"--format ncnn writes \.ncnn\.param files"),
    "folder": ({"formats": "ncnn", "path": "taken"}, r"taken: is a folder; .* taken/student\.ncnn\.param"),
    "weights": ({"formats": "openvino", "path": "f.xml"}, r"f\.bin: is a folder"),
    "precision": ({"formats": "ncnn", "precision": "int8"}, "--format ncnn: has no int8; choose fp32 or fp16"),
    "bits": ({"formats": "ncnn", "precision": "int4"}, "precision 'int4' is not known"),
    "uint8": ({"formats": "ncnn", "uint8": True}, "--format ncnn: takes only floats; omit --uint8"),
    "size": ({"formats": "ncnn", "size": 33}, "multiples of 4 and at least 8"),
    "small": (
        {"formats": "ncnn", "precision": "fp16", "size": 8},
        "is scored by SSIM, which needs images of at least 11 px",
    ),
    "no photos": ({"precision": "int8"}, "--precision int8: give a folder of .* photos to --calibrate"),
    "photos": ({"calibrate": "photos"}, "--calibrate: photos are for int8 and fp16"),
    "package": ({"formats": "coreml", "path": "own.mlpackage"}, "own.mlpackage: is a folder with other files"),
    "file": ({"formats": "coreml", "path": "file.mlpackage"}, "file.mlpackage: is a file"),
}
REFUSED = {
    "absent": ({"calibrate": "nowhere"}, "--calibrate: nowhere: no such folder"),
    "empty": ({"calibrate": "taken"}, "--calibrate: taken: no images in this folder"),
    "broken": ({"calibrate": "broken"}, r"--calibrate: broken/a\.png: .*remove it from the folder"),
    "labels": ({"calibrate": "broken", "model": "of_labels"}, "--calibrate: the network takes 11 channels, not photos"),
}


@pytest.mark.parametrize("case", [*USAGE, *REFUSED])
def test_what_cannot_be_is_refused_in_a_sentence_before_any_work(case, tmp_path, monkeypatch):
    for folder in ("taken", "own.mlpackage", "f.bin", "broken"):
        (tmp_path / folder).mkdir()
    for file in ("file.mlpackage", "own.mlpackage/diary.txt", "broken/a.png", "broken/b.png"):
        (tmp_path / file).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    about, sentence = (USAGE | REFUSED)[case]
    about = {"path": "m", "formats": "onnx"} | ({"precision": "int8"} if case in REFUSED else {}) | about
    if about["formats"] in DEVICES:
        need(about["formats"])
    model = about.pop("model", "mobile_resnet")
    events = []
    with pytest.raises(UsageError if case in USAGE else ExportError, match=sentence) as caught:
        export(latent_toy(model) if model == "dcgan" else toy(model), **about, on_event=events.append)
    assert "\n" not in str(caught.value) and events == [] and sorted(tmp_path.rglob("*")) == before


def test_a_failed_export_leaves_the_earlier_files(tmp_path):
    need("ncnn")
    names = ("m.ncnn.param", "m.ncnn.bin", "m.ncnn.param.json")
    for name in names:
        (tmp_path / name).write_text("earlier")
    with pytest.raises(ExportError, match="the ncnn file differs from PyTorch"):
        export(Small(), tmp_path / "m", formats="ncnn", size=32, tolerance=-1.0)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "earlier")


def test_a_full_disk_ends_with_9_and_leaves_nothing(tmp_path, monkeypatch):
    need("ncnn")

    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"/m\.ncnn\.param: cannot write, the disk is full"):
        export(Small(), tmp_path / "m", formats="ncnn", size=32)
    assert not list(tmp_path.iterdir())


def test_an_earlier_package_is_replaced(tmp_path):
    need("coreml")
    (tmp_path / "m.mlpackage").mkdir()
    for name in ("Manifest.json", "old"):
        (tmp_path / "m.mlpackage" / name).write_text("{}")
    (result,) = export(Small(), tmp_path / "m.mlpackage", formats="coreml", size=32, precision="fp16")
    assert sorted(path.name for path in result.path.iterdir()) == ["Data", "Manifest.json"]


def test_several_formats_share_a_name_on_the_command_line(call, tmp_path):
    need("ncnn")
    save_generator(tmp_path / "g.safetensors", toy("mobile_resnet"))
    about = ("--format", "onnx,ncnn", "-o", tmp_path / "m", "--size", 32)
    code, out, err = call("export", tmp_path / "g.safetensors", *about, "--json")
    assert code == 0, err
    found = json.loads(out)["exports"]
    assert [Path(one["path"]).name for one in found] == ["m.onnx", "m.ncnn.param"]
    assert all(Path(file).exists() for one in found for file in one["files"])
    code, _, err = call("export", tmp_path / "g.safetensors", *about, "--precision", "int8")
    assert code == 2 and err == "error: --format ncnn: has no int8; choose fp32 or fp16, or another format.\n"


def test_generate_draws_with_a_file_what_pytorch_draws(made, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    save_png(tmp_path / "photo.png", photo)
    if made.result.format == "coreml":
        with pytest.raises(UsageError, match="Core ML files cannot be run here"):
            generate(made.result.path, tmp_path / "photo.png", tmp_path / "drawn.png")
        return
    generate(made.result.path, tmp_path / "photo.png", tmp_path / "drawn.png")
    wanted = drawn_by(made.model, photo.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1)
    seen = np.array(Image.open(tmp_path / "drawn.png")).transpose(2, 0, 1)
    assert np.abs(seen - (wanted[0] + 1) * 127.5).max() <= 1


@pytest.mark.parametrize("name", ["openvino", "litert", "ncnn", "executorch"])
def test_generate_refuses_a_file_that_it_cannot_open(name, tmp_path):
    need(name)
    path = tmp_path / f"m{FORMATS[name].suffix}"
    with pytest.raises(InputError, match="no such file"):
        generate(path, tmp_path, tmp_path / "out")
    path.write_text("<html>")
    with pytest.raises(InputError, match="is damaged, or is no file"):
        generate(path, tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="--teacher-key applies only to weight files"):
        generate(path, tmp_path, tmp_path / "out", teacher_key="G")


@pytest.mark.parametrize(
    "change",
    [{"multiple": "abc"}, {"multiple": "0"}, {"multiple": "9" * 9}, {"min_size": "-5"}, {"scale": "x"},
     {"input": "x: float32 1 x 3"}],
)  # fmt: skip
def test_generate_refuses_a_file_whose_metadata_were_changed(change, tmp_path):
    need("litert")
    (result,) = export(toy("mobile_resnet"), tmp_path / "m", formats="litert", size=32)
    facts = json.loads(result.files[1].read_text())
    assert facts.keys() >= {"multiple", "min_size", "input"}
    result.files[1].write_text(json.dumps(facts | change))
    with pytest.raises(InputError):
        generate(result.path, tmp_path, tmp_path / "out")


def test_generate_refuses_a_file_that_does_not_say_what_it_takes(tmp_path):
    need("litert")
    (result,) = export(toy("mobile_resnet"), tmp_path / "m", formats="litert", size=32)
    result.files[1].unlink()
    with pytest.raises(InputError, match=r"does not describe its input \(m\.tflite\.json beside it does\)"):
        generate(result.path, tmp_path, tmp_path / "out")
