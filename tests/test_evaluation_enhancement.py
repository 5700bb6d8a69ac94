"""Figures of enhancement: luma without the border, LPIPS, offered if the ground truth is a better version of the
input."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_enlarged import photos

from vemcompress.data.sets import test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import UsageError
from vemcompress.evaluation.enhancement import luma
from vemcompress.evaluation.extractors import PERCEPTUAL, PerceptualDistance
from vemcompress.evaluation.report import evaluate
from vemcompress.networks import build_generator, parse_config

pytestmark = pytest.mark.usefixtures("one_thread", "no_inception")


@pytest.fixture
def images(tmp_path):
    values = {"size": 16, "degrade": "bicubic2", "crop": "random", "roots": (str(photos(tmp_path / "p", 3, 60, 50)),)}
    return test_set(DataSettings(**values), scale=2)


def network():
    torch.manual_seed(0)
    return build_generator(parse_config({"family": "srvgg", "width": 4, "blocks": 1, "scale": 2})).eval()


def test_luma_is_that_of_pillow():
    """Pillow's YCbCr is JPEG's, of 0 to 255; BT.601's studio range lies linearly within it."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    full = np.array(Image.fromarray(pixels).convert("YCbCr"))[:, :, 0].astype(float)
    found = luma(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0, 0] * 255
    assert np.abs(found.numpy() - (16 + full * 219 / 255)).max() < 1


def test_figures_are_those_computed_by_hand(images):
    model = network()
    result = evaluate(model, None, images)
    inputs, targets = images.views((3, 3))
    with torch.no_grad():
        made = ((model(inputs) + 1) * 127.5).round().clamp(0, 255) / 255
    a, b = (luma(x.double())[:, :, 2:-2, 2:-2] for x in (made, (targets + 1) / 2))
    expected = (-10 * (a - b).square().mean((1, 2, 3)).log10()).mean().item()
    assert result.metrics["psnr_y_target"] == pytest.approx(expected, abs=1e-3)
    assert 0 < result.metrics["ssim_y_target"] < 1
    assert "without 2 pixels at each border" in result.protocol["psnr_y_target"]
    assert "lpips_vgg16_target" not in result.skipped


def test_a_perceptual_distance_comes_with_its_features_and_is_called_what_it_is(images, squeezenet_weights):
    features = {"features": "squeezenet1_1_caffe", "features_weights": squeezenet_weights}
    result = evaluate(network(), None, images, **features)
    name = "perceptual_squeezenet1_1_caffe_target"
    assert result.metrics[name] > 0 and "(not LPIPS)" in result.protocol[name]
    distance = PerceptualDistance("perceptual squeezenet1_1_caffe", squeezenet_weights)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(distance(x, x), torch.zeros(2)) and distance(x, -x).min() > 0
    assert PERCEPTUAL == ("lpips vgg16", "lpips squeezenet1_1", "perceptual squeezenet1_1_caffe")


def test_where_nothing_is_enhanced_they_are_not_offered(tmp_path):
    images = test_set(DataSettings(size=16, roots=(str(photos(tmp_path / "p", 2)),)))
    plain = build_generator(parse_config({"family": "mobile_resnet", "width": 2, "blocks": 1})).eval()
    assert not [name for name in evaluate(plain, plain, images).metrics if "_y_" in name]
    with pytest.raises(UsageError, match="ground truth"):
        evaluate(plain, plain, images, metrics=["psnr_y_target"])
