"""Generators from latent vectors: exported, measured, inspected and pruned."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_toys import LATENTS, latent_toy
from torch import nn

from vemcompress.commands.inspect import describe
from vemcompress.errors import ExportError, MemoryExhausted, UsageError
from vemcompress.export import memory
from vemcompress.export.deploy import deployment_copy
from vemcompress.export.exporting import export_onnx
from vemcompress.export.latency import bench
from vemcompress.export.memory import check_batch
from vemcompress.networks import parse_config
from vemcompress.networks.base import use_image_statistics
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load


def run(path, z: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["z"]
    return session.run(None, {"z": z})[0]


@pytest.fixture(params=LATENTS)
def model(request):
    return latent_toy(request.param)


@pytest.fixture(params=LATENTS)
def file(request, tmp_path) -> Path:
    save_generator(tmp_path / "g.safetensors", latent_toy(request.param))
    return tmp_path / "g.safetensors"


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 6), np.float32)


@torch.no_grad()
def images(model: nn.Module, count: int) -> np.ndarray:
    return model(torch.from_numpy(vectors(count))).numpy()


def test_the_graph_draws_what_pytorch_draws_at_batches_it_was_not_checked_at(model, tmp_path):
    result = export_onnx(model, tmp_path / "g.onnx")
    assert result.max_abs_diff <= 1e-4 and result.shapes == [(1, 6), (3, 6), (2, 6)]
    for count in (1, 5, 8):
        expected = images(model, count)
        assert expected.std() > 0.1 and expected.shape == (count, 3, 16, 16)
        assert np.abs(run(tmp_path / "g.onnx", vectors(count)) - expected).max() <= 1e-4


def test_the_uint8_graph_gives_the_pixels_of_the_float_one(model, tmp_path):
    result = export_onnx(model, tmp_path / "g.onnx", uint8=True)
    found = run(tmp_path / "g.onnx", vectors(5))
    expected = np.clip(np.round(images(model, 5) * 127.5 + 127.5), 0, 255).transpose(0, 2, 3, 1)
    assert result.max_level_diff <= 1 and found.dtype == np.uint8 and found.shape == (5, 16, 16, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    result = export_onnx(latent_toy("dcgan"), tmp_path / "g.onnx", uint8=True, metadata={"source": "mine"})
    said = {entry.key: entry.value for entry in onnx.load(tmp_path / "g.onnx").metadata_props}
    assert said == result.metadata and parse_config(json.loads(said["config"])).family == said["family"] == "dcgan"
    told = [said[key] for key in ("input_kind", "latent", "prior", "image", "layout", "range", "source")]
    assert told == ["latent", "6", "uniform", "16", "NHWC", "0..255", "mine"]
    assert said["input"] == "z: float32 N x 6, uniform in -1..1"
    assert said["output"] == "result: uint8 N x 16 x 16 x 3, 0..255"


def test_spectral_norm_is_folded_and_the_network_left_as_it_was():
    model = latent_toy("sagan").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = deployment_copy(model)
    assert not copy.config.spectral and not any(name.endswith((".u", ".v")) for name in copy.state_dict())
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_graph_that_differs_leaves_no_file(tmp_path):
    with pytest.raises(ExportError, match=r"differs from PyTorch .* on 1 x 6"):
        export_onnx(latent_toy("sagan"), tmp_path / "g.onnx", tolerance=-1.0)
    assert not list(tmp_path.iterdir())


def test_a_module_that_says_its_latent_size_is_exported_and_measured(tmp_path):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.nz, self.drawn = 6, latent_toy("dcgan")

        def forward(self, z):
            return self.drawn(z)

    export_onnx(Plain(), tmp_path / "g.onnx")
    assert np.abs(run(tmp_path / "g.onnx", vectors(4)) - images(Plain().eval(), 4)).max() <= 1e-4
    assert bench(Plain(), repeats=3, threads=1)["size"] == [16, 16]


def test_a_generator_that_normalises_each_image_by_itself_is_exported(tmp_path):
    model = latent_toy("dcgan")
    use_image_statistics(model)
    export_onnx(model, tmp_path / "g.onnx")
    assert np.abs(run(tmp_path / "g.onnx", vectors(4)) - images(model, 4)).max() <= 1e-4


def test_bench_measures_both_runtimes_at_the_models_own_size(model, tmp_path):
    result = bench(model, repeats=3, threads=1)
    assert set(result["runtimes"]) == {"torch", "onnxruntime"} and (result["size"], result["batch"]) == ([16, 16], 1)
    export_onnx(model, tmp_path / "g.onnx", uint8=True)
    assert bench(tmp_path / "g.onnx", size=16, repeats=3, threads=1)["size"] == [16, 16]
    with pytest.raises(UsageError, match=r"16 x 16 pixels from latent vectors, not 32 x 32; omit the size"):
        bench(tmp_path / "g.onnx", size=32)


@pytest.mark.parametrize("command", ["export", "bench", "inspect", "prune", "generate"])
def test_another_size_than_the_models_own_ends_with_2(command, file, call, tmp_path):
    more = {
        "export": ("--onnx", tmp_path / "g.onnx"),
        "prune": ("--target-macs", "30k", "-o", tmp_path / "s.safetensors"),
        "generate": ("-o", tmp_path / "out"),
    }.get(command, ())
    code, _, err = call(command, file, *more, "--size", 32)
    assert code == 2 and "draws only images of 16 x 16 pixels from latent vectors, not 32 x 32" in err
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]
    code, _, err = call(command, file, *more, "--size", 16)
    assert code == 0, err


def test_inspect_tells_the_latent_size_and_needs_no_size(file, call):
    code, out, _ = call("inspect", file, "--json")
    found = json.loads(out)
    assert code == 0 and found["input"] == {"kind": "latent", "shape": [6]}
    assert found["macs"] == load(file).generator.config.cost(16, 16).macs()


def test_a_count_that_is_blind_to_layers_is_noted(tmp_path, call):
    save_generator(tmp_path / "g.safetensors", latent_toy("sagan"))
    assert call("inspect", tmp_path / "g.safetensors")[1].splitlines()[-1].startswith("The paper column is GCC's")
    assert len(json.loads(call("inspect", tmp_path / "g.safetensors", "--json")[1])["notes"]) == 1
    save_generator(tmp_path / "d.safetensors", latent_toy("dcgan"))
    assert describe(load(tmp_path / "d.safetensors"))["notes"] == []


@pytest.mark.parametrize("method", ["l1", "scale", "random"])
def test_pruning_meets_its_target_and_the_rest_draws(method, file, call, tmp_path):
    whole = load(file).generator.config.cost(16, 16).macs()["true"]
    small = tmp_path / "s.safetensors"
    target = whole * 3 // 5
    more = ("--method", method, "--least", 1) if method == "scale" else ("--method", method)
    code, out, err = call("prune", file, *more, "--target-macs", target, "-o", small, "--json")
    if method == "scale" and load(file).generator.family == "stylegan2":
        assert code == 2 and "the norms of this stylegan2 have no scales" in err
        return
    assert code == 0, err
    found = json.loads(out)
    assert found["size"] == 16 and 0.7 * target < found["after"]["macs"]["true"] <= target
    generator = load(small).generator
    assert found["after"]["macs"] == generator.config.cost(16, 16).macs()
    assert images(generator, 2).shape == (2, 3, 16, 16)


def test_what_memory_cannot_draw_at_once_is_refused_with_how_many_it_can(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 64 << 20)
    monkeypatch.setattr(memory, "_growth", lambda run: (run(), 10 << 20)[1])
    drawn = []
    with pytest.raises(MemoryExhausted, match=r"16 images of 64 x 64 pixels at a time .* use --batch 5 or less"):
        check_batch("out", drawn.append, 16, (64, 64), on_cpu=True)
    check_batch("out", drawn.append, 5, (64, 64), on_cpu=True)
    assert drawn == [1, 1]
    check_batch("out", lambda count: pytest.fail("tried"), 5, (16, 16), on_cpu=True)


def test_the_real_dcgan_is_exported_pruned_and_measured(tmp_path):
    data = os.environ.get("VEMCOMPRESS_TEST_DATA")
    if not data:
        pytest.skip("VEMCOMPRESS_TEST_DATA is not set")
    generator = load(Path(data) / "teachers/dcgan_faces_32/generator.pt").generator
    result = export_onnx(generator, tmp_path / "faces.onnx", uint8=True)
    assert result.max_abs_diff <= 1e-4 and result.max_level_diff <= 1
    assert (result.metadata["latent"], result.metadata["prior"], result.metadata["image"]) == ("100", "uniform", "32")
    assert "onnxruntime" in bench(tmp_path / "faces.onnx", repeats=3)["runtimes"]
