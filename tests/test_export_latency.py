"""Latency: both runtimes, within the time allowed."""

import time

import pytest
import torch
from export_toys import toy

from vemcompress.errors import InputError, UsageError
from vemcompress.export.exporting import export_onnx
from vemcompress.export.latency import _measure, bench, bench_in_turns
from vemcompress.weights.graphs.session import open_onnx


def test_bench_measures_both_runtimes_and_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    result = bench(toy("mobile_resnet"), size=32, threads=1, warmup=1, repeats=4)
    assert set(result["runtimes"]) == {"torch", "onnxruntime"} and not result["skipped"]
    for times in result["runtimes"].values():
        assert 0 < times["p50_ms"] <= times["p95_ms"] and times["runs"] == 4
    assert (result["size"], result["threads"], result["batch"]) == ([32, 32], 1, 1)
    assert torch.get_num_threads() == before


def test_bench_of_an_onnx_file_says_why_pytorch_is_missing(tmp_path):
    export_onnx(toy("mobile_resnet"), tmp_path / "x.onnx", uint8=True)
    result = bench(tmp_path / "x.onnx", size=(33, 20), repeats=3)
    assert list(result["runtimes"]) == ["onnxruntime"] and "no PyTorch model" in result["skipped"]["torch"]


def test_a_network_of_label_maps_has_a_latency_too(tmp_path):
    export_onnx(toy("of_labels"), tmp_path / "x.onnx")
    for model in (toy("of_labels"), tmp_path / "x.onnx"):
        assert "onnxruntime" in bench(model, size=32, threads=1, warmup=1, repeats=3)["runtimes"]
    with pytest.raises(InputError, match="does not accept photos"):
        open_onnx(tmp_path / "x.onnx")


def test_bench_stops_at_its_budget():
    start = time.perf_counter()
    result = _measure(lambda: time.sleep(0.01), 1000, 100_000, 0.2)
    assert time.perf_counter() - start < 2 and 3 <= result["runs"] < 100


def test_several_networks_run_in_turns():
    order, networks = [], {name: toy("mobile_resnet") for name in "ab"}
    for name, network in networks.items():
        network.forward = lambda x, name=name, run=network.forward: order.append(name) or run(x)
    found = bench_in_turns(networks, size=32, threads=1, warmup=2, repeats=4)
    assert [times["runs"] for times in found.values()] == [4, 4] and all(
        0 < t["p50_ms"] <= t["p95_ms"] for t in found.values()
    )
    assert order[-12:] == ["a", "b"] * 6
    assert bench_in_turns(networks, size=32, threads=1, warmup=5, repeats=90, budget=1e-9)["a"]["runs"] == 3
    with pytest.raises(UsageError):
        bench_in_turns(networks, size=30)


def test_bench_refuses_what_it_cannot_do(tmp_path):
    for model, options in (
        (toy("mobile_resnet"), {"size": 30}),
        (toy("mobile_resnet"), {"runtimes": ("tensorrt",)}),
        (toy("mobile_resnet"), {"device": "nonsense"}),
        (toy("mobile_resnet"), {"repeats": 0}),
    ):
        with pytest.raises(UsageError):
            bench(model, **{"size": 32, **options})
