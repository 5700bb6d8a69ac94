"""The graph that takes photos as they are: uint8 NHWC of any size."""

import numpy as np
import onnxruntime
import pytest
import torch
from export_toys import toy
from torch import nn

from vemcompress.errors import ExportError
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.exporting import export_onnx
from vemcompress.export.uint8 import uint8_reference


class Gain(nn.Module):
    """Exact arithmetic, and a rule about sizes: what goes in at gain 1 must come out."""

    multiple, min_size, in_channels = 8, 16, 3

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        assert x.shape[2] % 8 == 0 and x.shape[3] % 8 == 0
        return x * self.gain


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_network_that_changes_nothing_returns_every_level_at_any_size(tmp_path):
    export_onnx(Gain(1.0), tmp_path / "x.onnx", uint8=True)
    run = session(tmp_path / "x.onnx")
    for shape in ((1, 1, 1, 3), (2, 3, 17, 3), (1, 16, 256, 3), (3, 25, 8, 3)):
        image = (np.arange(np.prod(shape)) % 256).astype(np.uint8).reshape(shape)
        assert np.array_equal(run.run(None, {"image": image})[0], image)


def test_values_beyond_the_range_are_clamped_not_wrapped(tmp_path):
    export_onnx(Gain(3.0), tmp_path / "x.onnx", uint8=True)
    image = np.full((1, 9, 9, 3), 250, np.uint8)
    image[:, :, :4] = 5
    seen = session(tmp_path / "x.onnx").run(None, {"image": image})[0]
    assert (seen[:, :, :4] == 0).all() and (seen[:, :, 4:] == 255).all()


@pytest.mark.parametrize("name", ["mobile_resnet", "unet_instance"])
def test_odd_sizes_agree_with_pytorch_to_one_level(name, tmp_path):
    model = toy(name)
    result = export_onnx(model, tmp_path / "x.onnx", uint8=True)
    assert result.max_level_diff <= 1 and result.metadata["layout"] == "NHWC"
    run, network = session(tmp_path / "x.onnx"), deployment_copy(model)
    for height, width in ((5, 3), (31, 50), (64, 33)):
        image = torch.randint(0, 256, (2, height, width, model.config.in_channels), dtype=torch.uint8)
        seen = run.run(None, {"image": image.numpy()})[0]
        assert seen.shape == (2, height, width, 3) and seen.dtype == np.uint8
        expected = uint8_reference(network, image, contract_of(network)).numpy()
        assert np.abs(seen.astype(int) - expected).max() <= 1


def test_one_hot_labels_are_no_levels_of_a_photo(tmp_path):
    with pytest.raises(ExportError, match="11 channels, and only photos"):
        export_onnx(toy("of_labels"), tmp_path / "x.onnx", uint8=True)
    assert not list(tmp_path.iterdir())
