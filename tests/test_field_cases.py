"""Files as users have them, through the command line. They are in VEMCOMPRESS_TEST_DATA/field_cases."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vemcompress.weights.loading import load

DATA = Path(os.environ.get("VEMCOMPRESS_TEST_DATA", "."))
CASES = DATA / "field_cases"
if not CASES.is_dir():
    pytest.skip("VEMCOMPRESS_TEST_DATA has no field_cases", allow_module_level=True)

TINY = ["--set=algorithm.features=none", "--set=train.steps=2", "--set=information.name=none", "--set=student.width=4"]

# The file, more options, what is said on stderr.
OPEN = {
    "two_generators.pth": ([], "netG_A is used; the file also has netG_B"),
    "two_generators.pth, the second": (["--teacher-key", "netG_B"], "netG_B is used; the file also has netG_A"),
    "netG_state_dict.pth": ([], ""),
    "numpy_scalar.pth": ([], ""),
    "lightning.ckpt": ([], ""),
    "cut_antialias.pth": ([], ""),
    "aladdin_genh.pth.tar": ([], ""),
    "erik_G_AB.pth": ([], ""),
    "deep.pth": (["--teacher-class", "users_networks:Deep"], ""),
    "innerfirst.pth": (["--teacher-class", "users_networks:InnerFirst"], ""),
}
EXPORTED = ("cut_antialias.pth", "erik_G_AB.pth", "deep.pth")  # the others' steps are in one of these, or CycleGAN's


@pytest.fixture(autouse=True)
def _in_their_folder(monkeypatch):
    monkeypatch.chdir(CASES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("users_networks", None)


@pytest.mark.parametrize("case", OPEN)
def test_file_is_inspected_distilled_exported_and_used(case, call, tmp_path):
    (options, said), file = OPEN[case], case.partition(",")[0]
    size = 256 if file == "deep.pth" else 64
    code, out, err = call("inspect", file, "--size", size, *options, "--json")
    assert code == 0 and said in err, err
    assert json.loads(out)["input"]["shape"] == [3, size, size]
    data = ["--data", "images", f"--set=data.size={size}", "--out", tmp_path / "run"]
    code, out, err = call("distill", "--teacher", file, *options, *data, *TINY, "--json")
    assert code == 0 and said in err, err
    assert json.loads(out)["steps"] == 2
    if case in EXPORTED:
        code, _, err = call("export", file, *options, "--size", size, "--onnx", tmp_path / "g.onnx")
        assert code == 0 and said in err, err
    code, _, err = call("generate", file, *options, "-i", "images/good.jpg", "-o", tmp_path / "out")
    assert code == 0 and said in err, err


def test_the_key_chooses_the_network():
    expected = torch.load("two_generators.pth", weights_only=True)
    for key in ("netG_A", "netG_B"):
        assert torch.equal(load("two_generators.pth", key=key).generator.stem.weight, expected[key]["model.1.weight"])


@pytest.mark.parametrize("name", ["cut_antialias", "resnet6_batch_dropout_two_networks"])
def test_output_is_that_of_the_original(name):
    if not (DATA / "layouts" / f"{name}.pth").is_file():
        pytest.skip(f"VEMCOMPRESS_TEST_DATA has no layouts/{name}.pth")
    about = np.load(DATA / "layouts" / f"{name}.io.npz")
    with torch.no_grad():
        image = load(DATA / "layouts" / f"{name}.pth").generator(torch.from_numpy(about["input"]))
    assert (image - torch.from_numpy(about["output"])).abs().max() < 1e-4


@pytest.mark.parametrize("command", ["distill", "generate"])
def test_four_channels_need_images_of_four(command, call, tmp_path):
    def given(images):
        return {
            "distill": ["--teacher", "four_channels.pth", "--data", images, "--out", tmp_path / "run", *TINY],
            "generate": ["four_channels.pth", "-i", images, "-o", tmp_path / "out"],
        }[command]

    code, _, err = call(command, *given("images"))
    assert code == 4 and "it has 3 channels, but the network needs 4" in err
    (tmp_path / "four").mkdir()
    Image.new("RGBA", (64, 64), (9, 99, 199, 50)).save(tmp_path / "four" / "a.png")
    code, _, err = call(command, *given(tmp_path / "four"))
    assert code == 0, err


def test_bytes_are_told_with_the_range_that_helps(call, tmp_path):
    cls = ["--teacher-class", "users_networks:Bytes"]
    data = ["--data", "images", "--set=data.size=64", "--out", tmp_path / "run"]
    code, _, err = call("distill", "--teacher", "bytes.pth", *cls, *data, *TINY)
    assert code == 4 and "--teacher-range 0..255" in err
    _, _, err = call("export", "bytes.pth", *cls, "--onnx", tmp_path / "b.onnx")
    assert "--teacher-range 0..255" in err and "random" not in err
    code, _, err = call("distill", "--teacher", "bytes.pth", *cls, *data, *TINY, "--teacher-range", "0..255")
    assert code == 0 and "seem to be" not in err, err
