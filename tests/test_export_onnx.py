"""Exports agree with PyTorch in ONNX Runtime, or leave no file."""

import errno
import json
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_toys import TOYS, Small, toy
from torch import nn

from vemcompress.errors import ExportError, OutputError, UsageError
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.exporting import export_onnx, origin
from vemcompress.networks import parse_config
from vemcompress.weights.loading import Loaded


class Noisy(Small):
    def forward(self, x):
        return self.conv(x) + torch.rand_like(x)


def run(path, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.parametrize("name", [name for name in TOYS if name != "unet_batch"])
def test_export_agrees_with_pytorch_on_sizes_it_was_not_traced_at(name, tmp_path):
    model, path = toy(name), tmp_path / "x.onnx"
    result = export_onnx(model, path)
    assert result.max_abs_diff <= 1e-4 and result.bytes == path.stat().st_size
    assert {shape[0] for shape in result.shapes} == {1, 3} and len({shape[2:] for shape in result.shapes}) == 2
    for shape in ((1, 48, 16), (4, 32, 80)):
        x = torch.rand(shape[0], model.config.in_channels, *shape[1:]) * 2 - 1
        expected = model(x).detach().numpy()
        assert expected.std() > 0.01
        assert np.abs(run(path, x) - expected).max() <= 1e-4


def test_batchnorm_left_in_training_mode_is_exported_in_eval_mode_and_the_file_says_what_it_is(tmp_path):
    model, x = toy("unet_batch"), torch.rand(1, 3, 32, 32)
    expected = model(x).detach().numpy()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = export_onnx(model, tmp_path / "x.onnx", metadata={"source": "facades", "licence": "MIT"})
    assert np.abs(run(tmp_path / "x.onnx", x) - expected).max() <= 1e-4
    file = onnx.load(tmp_path / "x.onnx")
    said = {entry.key: entry.value for entry in file.metadata_props}
    assert said == result.metadata and parse_config(json.loads(said["config"])) == model.config
    assert (said["layout"], said["range"], said["multiple"], said["source"]) == ("NCHW", "-1..1", "16", "facades")
    assert next(o.version for o in file.opset_import if not o.domain) == result.opset >= 18
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_batchnorm_that_always_uses_the_batch_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"'extra'.*statistics of the batch"):
        export_onnx(Small(nn.BatchNorm2d(3, track_running_stats=False)), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "tolerance"), [(Noisy(), 1e-4), (Small(nn.Softmax(1)), -1.0)])
def test_disagreement_leaves_the_earlier_file_and_no_other(model, tolerance, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(ExportError, match="differs from PyTorch") as caught:
        export_onnx(model, path, tolerance=tolerance)
    assert caught.value.exit_code == 7
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_full_disk_is_exit_9_and_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        export_onnx(Small(), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_impossible_targets_are_refused_before_any_work(tmp_path):
    for path, opset, error in (
        (tmp_path / "absent" / "x.onnx", 18, OutputError),
        (tmp_path, 18, UsageError),
        (tmp_path / "x.onnx", 17, UsageError),
    ):
        with pytest.raises(error):
            export_onnx(None, path, opset=opset)


def test_export_is_silent_and_reports_by_events(tmp_path, capfd):
    events = []
    export_onnx(Small(), tmp_path / "x.onnx", on_event=events.append)
    assert capfd.readouterr() == ("", "")
    assert [event["stage"] for event in events] == ["trace", "compare", "compare", "written"]
    assert [event["done"] for event in events] == [0, 1, 2, 4] and {event["total"] for event in events} == {4}


def test_deployment_copy_drops_dropout_and_folds_spectral_norm():
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1))
    model = Small(nn.Sequential(nn.Dropout(0.5), conv))
    copy, x = deployment_copy(model), torch.rand(1, 3, 8, 8)
    assert not any(isinstance(module, nn.Dropout) for module in copy.modules())
    assert "extra.1.weight" in copy.state_dict() and torch.allclose(copy(x), model.eval()(x))


@pytest.mark.parametrize("size", ["256", 64.0, (64,), (64, 64, 64), (64, "a"), 0])
def test_a_size_that_is_none_is_a_usage_error(size, tmp_path):
    with pytest.raises(UsageError, match="give a number of pixels of at least 1"):
        export_onnx(toy("mobile_resnet"), tmp_path / "m.onnx", size=size)
    assert not list(tmp_path.iterdir())


def test_sizes_of_a_foreign_network_are_found_by_trying():
    for name, multiple, least in (("unet_batch", 16, 16), ("mobile_resnet", 4, 8)):
        contract = contract_of(nn.Sequential(toy(name)))
        assert (contract.in_channels, contract.out_channels) == (3, 3)
        assert (contract.multiple, contract.min_size) == (multiple, least)


def test_network_that_gives_no_image_is_refused(tmp_path):
    with pytest.raises(ExportError, match="image-to-image"):
        export_onnx(Small(nn.Flatten()), tmp_path / "x.onnx")


@pytest.mark.parametrize("teacher", ["{", "[1]", '"x"', "null", "StyleGAN"])
def test_what_a_file_says_of_its_teacher_may_be_nonsense(teacher):
    loaded = Loaded(toy("resnet"), "a.safetensors", "0" * 64, "artifact", metadata={"teacher": teacher})
    assert origin(loaded) == {"source": "a.safetensors", "sha256": "0" * 64}
