"""The command-line contract: exit codes, one sentence on stderr, JSON alone on stdout, and the tool from end to end."""

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from toys import TOY, toy_images, toy_teacher_file

from vemcompress import __version__
from vemcompress.cli import COMMANDS, app

SETTINGS = [f"--set={o}" for o in TOY]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return toy_teacher_file(folder / "teacher.safetensors"), toy_images(folder / "images", count=4)


@pytest.fixture(scope="module")
def run_folder(inputs):
    from vemcompress.commands.distill import distill

    out = inputs[0].parent / "run"
    distill(inputs[0], data=[inputs[1]], out=out, overrides=TOY, device="cpu")
    return out


def test_distil_inspect_eval_export_generate_bench(call, inputs, tmp_path):
    teacher, data = inputs
    run, onnx = tmp_path / "run", tmp_path / "s.onnx"
    code, out, err = call("distill", "--teacher", teacher, "--data", data, "--out", run, *SETTINGS, "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 6
    assert "teacher   resnet" in err

    code, out, _ = call("inspect", run, "--size", 32, "--json")
    seen = json.loads(out)
    assert seen["family"] == "mobile_resnet"
    assert {"config", "parameters", "macs", "input", "taps"} <= seen.keys()
    assert set(seen["macs"]) == {"true", "paper", "paper_norm"}
    assert seen["input"] == {"kind": "image", "shape": [3, 32, 32]}

    code, out, err = call("eval", run, "--data", data, "--json")
    scores = json.loads(out)
    assert code == 0
    assert {"ssim_teacher", "psnr_teacher"} <= scores["metrics"].keys()
    assert (scores["images"], scores["size"]) == (4, 32)

    code, out, err = call("export", run, "--onnx", onnx, "--uint8", "--json")
    assert code == 0, err
    assert json.loads(out)["max_abs_diff"] <= 1e-4
    code, out, _ = call("generate", onnx, "--input", data, "--out", tmp_path / "made", "--json")
    assert len(json.loads(out)["written"]) == len(list((tmp_path / "made").iterdir())) == 4
    code, out, _ = call("bench", run, "--size", 32, "--repeats", 3, "--json")
    assert set(json.loads(out)["runtimes"]) == {"torch", "onnxruntime"}


def test_the_same_results_are_shown_to_people(call, run_folder, inputs):
    for command in (["inspect", run_folder, "--size", 32], ["eval", run_folder, "--data", inputs[1]]):
        code, out, _ = call(*command)
        assert code == 0
        assert not out.lstrip().startswith("{")
    assert "omgd" in call("recipes", "list")[1]
    assert 'features = "vgg16"' in call("recipes", "show", "omgd")[1]
    assert json.loads(call("recipes", "show", "omgd", "--json")[1])["algorithm"]["ssim"] == 10


def test_an_evaluation_on_the_training_images_is_told(call, run_folder, inputs, tmp_path):
    told = "warning   the run was trained on these images"
    assert told in call("eval", run_folder, "--data", inputs[1])[2]
    assert told in call("eval", run_folder)[2]
    assert told not in call("eval", run_folder, "--data", toy_images(tmp_path / "others", 4))[2]


def test_a_run_on_few_images_is_given_a_hint(call, inputs, tmp_path):
    settings = ("--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "run", *SETTINGS, "--steps", 1)
    assert "hint      4 images to train on" in call("distill", *settings)[2]


def test_quiet_and_debug_stand_anywhere(call, run_folder, tmp_path):
    code, _, err = call("distill", "--resume", run_folder, "--quiet")
    assert (code, err) == (0, "")
    with pytest.raises(Exception, match="no such file"):
        call("inspect", tmp_path / "none.pth", "--debug")


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['EVIL']}",)


def hostile(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.pth"
    if kind == "pickle":
        torch.save({"state_dict": {"w": Evil()}}, path)
    elif kind == "bare":
        path.write_bytes(pickle.dumps(Evil()))
    elif kind == "truncated":
        torch.save({"w": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "compressed":
        torch.save({"w": torch.zeros(1000)}, folder / "plain.pth")
        with zipfile.ZipFile(folder / "plain.pth") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    elif kind == "huge":
        header = json.dumps({"w": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}}).encode()
        path = path.with_suffix(".safetensors")
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    elif kind == "foreign":
        torch.save({"encoder.0.weight": torch.zeros(3, 3)}, path)
    elif kind == "text":
        path.write_text("not weights")
    return path


@pytest.mark.parametrize("kind", ["pickle", "bare", "truncated", "compressed", "huge", "foreign", "text", "absent"])
def test_bad_weights_are_4_and_nothing_runs(call, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("EVIL", str(tmp_path / "executed"))
    code, out, err = call("inspect", hostile(tmp_path, kind))
    assert code == 4
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--recipe": "omgdd"}, 3),
        ({"--set": "train.bach=3"}, 3),
        ({"--set": "data.size=50"}, 3),
        ({"--teacher": "none.pth"}, 4),
        ({"--data": "nowhere"}, 4),
        ({"--data": "empty"}, 4),
        ({"--data": "text"}, 4),
        ({"--out": "there"}, 2),
        ({"--out": "/proc/run"}, 9),
        ({"--device": "gpu"}, 2),
        ({"--target-macs": "lots"}, 2),
        ({"--teacher": "hf://../x"}, 2),
    ],
)
def test_bad_input_has_its_exit_code_and_leaves_nothing(call, inputs, tmp_path, monkeypatch, change, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jpg").write_text("no image")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("kept")
    given = {"--teacher": inputs[0], "--data": inputs[1], "--out": "run"}
    arguments = [part for pair in (given | change).items() for part in pair]
    code, out, err = call("distill", *SETTINGS, *arguments)
    assert code == expected, err
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "run").exists()
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["file"]


def test_images_of_every_kind_train_and_bad_ones_are_named(call, inputs, tmp_path):
    data = tmp_path / "images"
    data.mkdir()
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    photo.convert("CMYK").save(data / "cmyk.jpg")
    photo.convert("P").save(data / "palette.png")
    Image.fromarray(rng.integers(0, 65536, (20, 20), dtype=np.uint16)).save(data / "sixteen.png")
    photo.resize((1, 1)).save(data / "tiny.png")
    photo.save(data / "whole.png")
    (data / "cut.png").write_bytes((data / "whole.png").read_bytes()[:900])
    (data / "text.jpg").write_text("no image")
    code, out, err = call(
        "distill", "--teacher", inputs[0], "--data", data, "--out", tmp_path / "run", *SETTINGS, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["skipped_images"] == 2
    assert "cut.png" in err
    assert "text.jpg" in err


def test_the_version_is_told_alone(call):
    assert call("--version")[:2] == (0, f"{__version__}\n")
    assert call("--version", "--quiet")[:2] == (0, f"{__version__}\n")


def test_a_hostile_override_is_3_and_named(call):
    for override in ("train.batch=" + "[" * 5000, "a" + ".a" * 5000 + "=1", "train.batch=1000000000000", "steps=3"):
        code, _, err = call("recipes", "show", "omgd", "--set", override)
        assert (code, err.count("\n")) == (3, 1)
        assert "--set" in err


def test_usage_errors_are_2(call, tmp_path):
    assert call("distill")[0] == 2
    assert call("distill", "--no-such-option")[0] == 2
    assert call("distill", "--resume", tmp_path, "--out", tmp_path)[0] == 2
    assert call("distill", "--resume", tmp_path)[0] == 4


def test_the_users_own_generator_can_teach(call, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mynet.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.c = torch.nn.Conv2d(3, 3, 3, padding=1)\n"
        "    def forward(self, x):\n        return self.c(x).tanh()\n"
    )
    torch.save({"c.weight": torch.randn(3, 3, 3, 3), "c.bias": torch.zeros(3)}, "net.pth")
    code, _, err = call("inspect", "net.pth")
    assert code == 4
    assert "--teacher-class module:Class" in err
    command = ["distill", "--teacher", "net.pth", "--teacher-class", "mynet:Net", "--data", inputs[1], "--out", "run"]
    code, _, err = call(*command, *SETTINGS)
    assert code == 0, err
    assert call("eval", "run", "--data", inputs[1], "--json")[0] == 0
    assert call("distill", "--resume", "run", "--steps", 8)[0] == 0


def test_a_nan_in_training_is_5_and_keeps_the_run(call, inputs, tmp_path):
    command = ["--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "run", *SETTINGS]
    code, _, err = call("distill", *command, "--set", "train.lr=1e30")
    assert code == 5
    assert "NaN or infinite" in err
    assert (tmp_path / "run" / "recipe.toml").exists()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_9_and_keeps_the_last_checkpoint(call, inputs, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a small file system")
    try:
        command = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--out", small / "run", *SETTINGS]
        assert call(*command)[0] == 0
        before = (small / "run" / "checkpoints" / "latest").read_text()
        with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        code, _, err = call("distill", "--resume", small / "run", "--steps", 9)
        assert code == 9
        assert "disk is full" in err
        assert (small / "run" / "checkpoints" / "latest").read_text() == before
        assert not list((small / "run" / "checkpoints").glob("*.tmp"))
        (small / "filler").unlink()
        assert call("distill", "--resume", small / "run", "--steps", 9)[0] == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_quickstart_command_is_whole_in_a_few_steps(call, tmp_path, monkeypatch):
    monkeypatch.setattr("vemcompress.commands.quickstart.tour.TRAIN_IMAGES", 6)
    code, out, err = call("quickstart", "--out", tmp_path / "q", "--steps", 3, "--device", "cpu", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert Path(result["picture"]).exists()
    assert {"parameters", "MACs, true", "torch p50, ms", "SSIM to the teacher"} <= result["rows"].keys()
    assert all(len(row) == len(result["columns"]) for row in result["rows"].values())
    assert (tmp_path / "q" / "student_uint8.onnx").exists()
    kept = json.loads((tmp_path / "q" / "run" / "evaluation.json").read_text())["evaluation"]
    assert kept["metrics"] == result["metrics"] and "ssim_target" in kept["teacher"]
    page = (tmp_path / "q" / "run" / "report.html").read_text()
    assert "onnxruntime" in page and "psnr_target" in page
    assert call("quickstart", "--out", tmp_path / "q")[0] == 2


def test_names_with_brackets_are_printed_as_they_are(call, inputs, tmp_path):
    out = tmp_path / "r[v2][/z]"
    code, shown, err = call("distill", "--teacher", inputs[0], "--data", inputs[1], "--out", out, *SETTINGS)
    assert code == 0, err
    assert str(out) in shown


def test_an_existing_folder_is_refused_before_features_are_fetched(call, inputs, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    command = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--size", 32]  # with VGG16, to be downloaded
    assert call(*command, "--out", tmp_path / "full")[0] == 2
    assert call(*command)[0] == 2


def test_an_export_says_where_its_teacher_came_from(call, run_folder, tmp_path):
    _, out, _ = call("export", run_folder, "--onnx", tmp_path / "s.onnx", "--json")
    assert json.loads(out)["metadata"]["teacher_source"].endswith("teacher.safetensors")


def test_the_library_takes_what_the_commands_take(run_folder, inputs, tmp_path):
    import vemcompress

    assert vemcompress.evaluate(run_folder, data=inputs[1]).images == 4
    assert vemcompress.export_onnx(run_folder, tmp_path / "s.onnx").max_abs_diff <= 1e-4
    assert not vemcompress.load_generator(run_folder).training
    assert vemcompress.load_energy_model(run_folder)(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)).shape == (
        1,
        1,
    )


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see that the import has begun")
def test_interrupting_an_import_leaves_with_130(inputs):
    process = subprocess.Popen(
        [sys.executable, "-m", "vemcompress", "inspect", inputs[0]], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    began = time.time()
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text() and time.time() - began < 60:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.count(b"\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is(command):
    options = [p for p in typer.main.get_command(app).commands[command].params if p.param_type_name == "option"]
    assert options and not [option.name for option in options if not option.help]


@pytest.mark.parametrize(("closed", "told"), [(">&-", True), ("2>&-", False)])
def test_a_closed_stream_is_replaced_by_dev_null(closed, told):
    command = f"{sys.executable} -m vemcompress inspect nothing.pth {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, "no such file" in done.stderr) == (4, "", told)
    assert "Error" not in done.stderr
