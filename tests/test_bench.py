"""bench: models and runtimes in turns, size and memory. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vemcompress
from vemcompress.errors import InputError, UsageError
from vemcompress.export.exporting import export, export_onnx
from vemcompress.export.footprint import peak_memory
from vemcompress.export.latency import in_turns
from vemcompress.networks import build_generator, parse_config
from vemcompress.weights.artifact import save_generator

QUICK = {"size": 32, "threads": 1, "repeats": 5, "warmup": 1}


def toy():
    torch.manual_seed(0)
    return build_generator(parse_config({"family": "mobile_resnet", "width": 8, "blocks": 1}))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_onnx(toy(), tmp_path_factory.mktemp("bench") / "toy.onnx").path


def test_models_and_runtimes_are_rows_with_sizes_on_the_disk(exported):
    found = vemcompress.bench_models({"a": toy(), "b": exported}, memory=False, **QUICK)
    assert found.threads == 1 and found.machine
    assert set(found.models["a"]["runtimes"]) == {"torch", "onnxruntime"}
    assert found.models["b"]["skipped"] == {"torch": "an .onnx file holds no PyTorch model"}
    row = found.models["b"]["runtimes"]["onnxruntime"]
    assert row["bytes"] == exported.stat().st_size and row["runs"] == 5
    assert 0 < row["p50_ms"] <= row["p95_ms"]
    assert found.models["a"]["size"] == [32, 32]


def test_subjects_take_turns():
    order = []
    runs = [lambda name=name: order.append(name) for name in "ab"]
    times = in_turns(runs, warmup=1, repeats=10, budget=60.0, at_once=5)
    assert [len(found) for found in times] == [10, 10]
    assert "".join(order) == "ab" + 2 * ("aaaaaa" + "bbbbbb")  # a warm-up, then one untimed run before five that count


def test_peak_memory_grows_with_the_images(exported):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process")
    small, large = (np.zeros((1, 3, side, side), np.float32) for side in (32, 1024))
    assert 0 < peak_memory("onnx", exported, small, 1) < peak_memory("onnx", exported, large, 1)


def test_a_file_that_fails_has_no_peak(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    assert peak_memory("onnx", tmp_path / "x.onnx", np.zeros((1, 3, 8, 8), np.float32), 1) is None


def test_a_runtime_that_is_not_installed_is_left_out_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    found = vemcompress.bench_models({"a": toy()}, runtimes=("torch", "ncnn"), memory=False, **QUICK).models["a"]
    assert set(found["runtimes"]) == {"torch"} and "vemcompress[ncnn]" in found["skipped"]["ncnn"]


def test_an_exported_file_runs_in_its_own_runtime(tmp_path):
    pytest.importorskip("openvino", reason="pip install 'vemcompress[openvino]'")
    path = export(toy(), tmp_path / "toy", formats=("openvino",))[0].path
    found = vemcompress.bench_models({"toy": path}, memory=False, **QUICK).models["toy"]
    assert set(found["runtimes"]) == {"openvino"} and found["size"] == [32, 32]
    assert found["runtimes"]["openvino"]["bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())


@pytest.mark.parametrize(("given", "error"), [({"runtimes": ["phone"]}, UsageError), ({"repeats": 0}, UsageError)])
def test_impossible_measurements_are_refused(given, error):
    with pytest.raises(error):
        vemcompress.bench_models({"a": toy()}, **{**QUICK, **given})


def test_a_file_that_is_absent_is_unreadable(tmp_path):
    with pytest.raises(InputError):
        vemcompress.bench_models({"a": tmp_path / "absent.onnx"}, **QUICK)


def test_the_command_lists_several_models_by_name(call, tmp_path):
    for name in ("a", "b"):
        save_generator(tmp_path / f"{name}.safetensors", toy())
    files = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    options = ("--runtime", "onnxruntime", "--size", 32, "--repeats", 3, "--threads", 1, "--no-memory")
    code, out, _ = call("bench", *files, *options, "--json")
    assert code == 0 and list(json.loads(out)["models"]) == files
    code, out, _ = call("bench", files[0], *options, "--json")
    assert code == 0 and set(json.loads(out)["runtimes"]) == {"onnxruntime"}


def test_a_signal_is_handled_after_openvino_has_compiled_and_freed_models(tmp_path):
    pytest.importorskip("openvino", reason="pip install 'vemcompress[openvino]'")
    path = export(toy(), tmp_path / "toy", formats=("openvino",))[0].path
    code = (
        "import faulthandler, os, signal, sys, pathlib\n"
        "faulthandler.enable()  # gives the main thread a stack for signals\n"
        "from vemcompress.export.formats import FORMATS\n"
        f"path = pathlib.Path({str(path)!r})\n"
        "first, second = (FORMATS['openvino'].open(path) for _ in range(2))\n"
        "del first, second\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n")


def test_a_model_of_a_file_is_exported_and_compared_as_a_network_is(tmp_path):
    save_generator(tmp_path / "toy.safetensors", toy())
    found = vemcompress.export_model(tmp_path / "toy.safetensors", tmp_path / "toy.onnx", precision="fp16", size=32)
    assert [(row.precision, row.images) for row in found.compared] == [("fp32", "noise"), ("fp16", "noise")]
    assert found.files[0].metadata["source"].endswith("toy.safetensors")


def test_models_are_named_by_path_or_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("MobileResNet").mkdir()
    save_generator(Path("MobileResNet/student.safetensors"), toy())
    models = ["MobileResNet", toy(), toy(), Path("MobileResNet")]
    found = vemcompress.bench_models(models, runtimes="torch", **QUICK)
    assert [*found.models] == ["MobileResNet", "MobileResNet 2", "MobileResNet 3"]
    assert set(found.models["MobileResNet"]["runtimes"]) == {"torch"}


@pytest.mark.parametrize("models", [[], {}, None, [None], 3, b"abc"])
def test_no_model_is_a_usage_error(models):
    with pytest.raises(UsageError):
        vemcompress.bench_models(models, runtimes="torch", **QUICK)


@pytest.mark.parametrize("size", [0, (32,), (32, 0), (32, 32, 3), "32", 32.0])
def test_a_size_that_is_none_is_a_usage_error(size):
    for measure in (vemcompress.bench_models, vemcompress.inspect):
        with pytest.raises(UsageError, match="give a number of pixels of at least 1"):
            measure(toy(), size=size)


def test_a_run_keeps_its_latency_and_that_of_others_measured_alike(tmp_path):
    run, published = tmp_path / "run", tmp_path / "published"
    for folder in (run, published):
        folder.mkdir()
        save_generator(folder / "student.safetensors", toy())
    (run / "recipe.toml").write_text("")
    found = vemcompress.bench_models([run, published], runtimes=["torch"], **QUICK)
    kept = json.loads((run / "latency.json").read_text())
    assert kept == found.as_dict() | {"models": {"student": found.models[str(run)]}}
    assert not (published / "latency.json").exists()
    (run / "latency.json").write_text(json.dumps(kept | {"models": {"teacher": {"size": [32, 32], "runtimes": {}}}}))
    vemcompress.bench_models(run, runtimes=["torch"], **QUICK)
    assert [*json.loads((run / "latency.json").read_text())["models"]] == ["teacher", "student"]
    vemcompress.bench_models(run, runtimes=["torch"], **QUICK | {"size": 64})
    assert [*json.loads((run / "latency.json").read_text())["models"]] == ["student"]
