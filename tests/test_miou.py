"""mIoU: the arithmetic against torchmetrics, DRN against its published layout and protocol, and what is refused."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from miou_files import Miou, evaluate_miou
from PIL import Image
from published import randomise
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import segmenters
from vemcompress.evaluation.segmentation import confusion, iou_per_class, mean_iou, pixel_accuracy
from vemcompress.evaluation.segmenters import DRNSegmenter, Segmenter, class_map, load_drn
from vemcompress.networks.segmentation import DRN

NARROW = {"classes": 5, "widths": (4, 4, 8, 8, 8, 12, 12, 12), "depths": (1, 1, 2, 1, 3, 1, 1, 1)}


class Oracle(Segmenter):
    """Reads the class number off the red channel."""

    name, protocol = "oracle", "an oracle"

    def __init__(self, classes: int | None = 3):
        self.classes = classes

    def __call__(self, images):
        return images[:, 0].long()


def narrow(seed: int = 0) -> DRN:
    return randomise(DRN(**NARROW), seed)


def photos(*red, size: int = 4) -> torch.Tensor:
    """One image for each class number."""
    return torch.tensor(red, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def labels(folder: Path, *maps) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(maps))]
    for path, values in zip(paths, maps, strict=True):
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return paths


def drn_of_names(tensors: dict, x: torch.Tensor) -> torch.Tensor:
    """DRN-D's function written down from the names in its file and the paper's strides and dilations."""

    def conv(name, norm, h, stride=1, dilation=1):
        weight = tensors[f"{name}.weight"]
        h = F.conv2d(h, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation)
        statistics = (tensors[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(h, *statistics)

    for level, (stride, dilation) in enumerate(
        ((1, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 2), (1, 4), (1, 2), (1, 1))
    ):
        if f"base.{level}.0.weight" in tensors:
            x = conv(f"base.{level}.0", f"base.{level}.1", x, stride, dilation).relu()
            continue
        block = 0
        while (at := f"base.{level}.{block}") + ".conv1.weight" in tensors:
            s = stride if block == 0 else 1
            h = conv(f"{at}.conv1", f"{at}.bn1", x).relu()
            h = conv(f"{at}.conv2", f"{at}.bn2", h, s, dilation).relu()
            h = conv(f"{at}.conv3", f"{at}.bn3", h)
            shortcut = f"{at}.downsample.0.weight" in tensors
            x = (h + (conv(f"{at}.downsample.0", f"{at}.downsample.1", x, s) if shortcut else x)).relu()
            block += 1
    h = F.conv2d(x, tensors["seg.weight"], tensors["seg.bias"])
    h = F.conv_transpose2d(h, tensors["up.weight"], None, 8, 4, groups=len(tensors["up.weight"]))
    return h.log_softmax(1)


def test_drn_has_the_published_names_shapes_and_size():
    with torch.device("meta"):
        state = DRN().state_dict()
    shapes = {
        "base.0.0.weight": (16, 3, 7, 7),
        "base.2.0.weight": (32, 16, 3, 3),
        "base.3.0.downsample.0.weight": (256, 32, 1, 1),
        "base.5.22.conv2.weight": (256, 256, 3, 3),
        "base.6.0.conv3.weight": (2048, 512, 1, 1),
        "base.7.0.weight": (512, 2048, 3, 3),
        "base.8.1.running_var": (512,),
        "seg.weight": (19, 512, 1, 1),
        "up.weight": (19, 1, 16, 16),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    base = sum(t.numel() for k, t in state.items() if k.startswith("base.") and not k.endswith(buffers))
    assert round((base + 512 * 1000 + 1000) / 1e6, 1) == 54.8  # the paper's, with ImageNet's 1000 classes


@torch.no_grad()
def test_drn_computes_what_its_names_say():
    network, x = narrow(), torch.randn(2, 3, 40, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x), drn_of_names(network.state_dict(), x))


@torch.no_grad()
def test_drns_upsampling_is_bilinear_between_pixel_centres():
    x = torch.randn(1, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    found, expected = DRN(**NARROW).up(x), F.interpolate(x, scale_factor=8, mode="bilinear")
    torch.testing.assert_close(found[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])


@pytest.fixture
def toy_drn(monkeypatch):
    """`load_drn` builds a narrow network, whose weights are small files."""
    monkeypatch.setattr(segmenters, "DRN", lambda: DRN(**NARROW))


def test_weights_load_as_data_parallel_and_old_torch_saved_them(toy_drn, tmp_path):
    network, images = narrow(), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    network.up.weight.copy_(DRN(**NARROW).up.weight)  # the kernel that a file without one means
    kept = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked") and k != "up.weight"}
    torch.save({f"module.{k}": v for k, v in kept.items()}, tmp_path / "drn.pth", _use_new_zipfile_serialization=False)
    torch.testing.assert_close(load_drn(tmp_path / "drn.pth")(images), DRNSegmenter(network)(images))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("base.3.0.conv1.weight"), "'base.3.0.conv1.weight' is missing"),
        (lambda s: s.update({"seg.bias": torch.zeros(19)}), "'seg.bias' is 19 of float32, not 5 of float32"),
        (lambda s: s.update({"seg.bias": torch.ones(5, dtype=torch.int64)}), "'seg.bias' is 5 of int64"),
        (lambda s: s.update({"fc.weight": torch.zeros(1)}), "'fc.weight' is surplus"),
    ],
)
def test_weights_of_another_network_are_refused(toy_drn, tmp_path, change, said):
    state = narrow().state_dict()
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=f"not the weights of DRN-D-105.*{said}"):
        load_drn(tmp_path / "other.pth")


@torch.no_grad()
def test_the_published_protocol(tmp_path):
    """Fed at 32 px, normalised, the log-probabilities resized by Pillow one class at a time, counted by numpy."""
    rng, network = np.random.default_rng(0), narrow()
    images = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    truth = rng.integers(0, 6, (3, 64, 128)).astype(np.uint8)
    truth[truth == 5] = 255
    mean, std = (
        np.array(v, np.float32)[:, None, None] for v in (segmenters.CITYSCAPES_MEAN, segmenters.CITYSCAPES_STD)
    )
    hist = np.zeros((5, 5))
    for image, label in zip(images, truth, strict=True):
        scores = network(torch.from_numpy((image.astype(np.float32) / 255 - mean) / std)[None])[0].numpy()
        planes = [Image.fromarray(s).resize((128, 64), Image.Resampling.BILINEAR) for s in scores]
        guess, counted = np.argmax([np.asarray(p) for p in planes], 0), label < 5
        hist += np.bincount(5 * label[counted].astype(int) + guess[counted], minlength=25).reshape(5, 5)
    meter = Miou(DRNSegmenter(network), 5)
    meter.take(torch.from_numpy(images), labels(tmp_path, *truth))
    # A few pixels may lie between two classes to the last bit.
    assert abs(meter.matrix.numpy() - hist).sum() <= 1e-3 * hist.sum()
    assert len(set(meter.matrix.sum(0).tolist())) > 2


def test_floats_and_bytes_are_the_same_image():
    segmenter, images = DRNSegmenter(narrow()), torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(segmenter(images), segmenter(images / 255.0))
    with pytest.raises(UsageError, match=r"floats in \[0, 1\]"):
        segmenter(images / 127.5 - 1)


@torch.no_grad()
def test_sides_that_8_does_not_divide_keep_their_place():
    images = torch.randint(0, 256, (1, 3, 36, 44), dtype=torch.uint8)
    assert DRNSegmenter(narrow())(images).shape == (1, 5, 36, 44)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 20), present=st.integers(1, 20), ignored=st.booleans())
def test_the_arithmetic_is_torchmetrics(seed, classes, present, ignored):
    random = torch.Generator().manual_seed(seed)
    truth, guess = torch.randint(0, min(present, classes), (2, 3, 16, 16), generator=random)
    ignore = 0 if ignored else 255
    truth[torch.rand(truth.shape, generator=random) < 0.3] = ignore
    matrix = confusion(truth, guess, classes, ignore)
    options = {"num_classes": classes, "ignore_index": ignore}
    each = MulticlassJaccardIndex(average="none", **options)(guess, truth)
    ours = iou_per_class(matrix, ignore)
    torch.testing.assert_close(ours.nan_to_num(0).float(), each.masked_fill(ours.isnan(), 0))
    if matrix.any():
        assert pixel_accuracy(matrix) == pytest.approx(
            float(MulticlassAccuracy(average="micro", **options)(guess, truth))
        )
    if matrix.any() and not ours.isnan().all():
        macro = MulticlassJaccardIndex(average="macro", **options)(guess, truth)
        assert mean_iou(matrix, ignore) == pytest.approx(float(macro), abs=1e-6)


def test_a_class_that_never_appears_is_none_and_does_not_count(tmp_path):
    half = [[0, 0, 1, 1]] * 4
    found = evaluate_miou([photos(0)], labels(tmp_path, half), Oracle(), ["sky", "road", "car"])
    assert found == {"miou": 0.25, "pixel_accuracy": 0.5, "iou": {"sky": 0.5, "road": 0.0, "car": None}}


def test_batches_and_sizes_of_label_maps_do_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    paths = labels(tmp_path, *(rng.integers(0, 3, (size, 2 * size)) for size in (4, 5, 6, 7, 8)))
    images = photos(0, 1, 2, 1, 0)
    whole = evaluate_miou([images], paths, Oracle(), 3)
    assert evaluate_miou(images.split(2), paths, Oracle(), 3) == whole
    assert 0 < whole["miou"] < 1


def test_scores_shrink_as_pillow_shrinks():
    scores = torch.randn(4, 60, 50, generator=torch.Generator().manual_seed(0))
    planes = [Image.fromarray(s.numpy()).resize((20, 15), Image.Resampling.BILINEAR) for s in scores]
    assert (class_map(scores, 15, 20).numpy() == np.argmax([np.asarray(p) for p in planes], 0)).mean() > 0.99


def test_class_numbers_keep_their_values_when_resized():
    numbers = torch.tensor([[0, 7], [7, 0]])
    assert class_map(numbers, 4, 4).unique().tolist() == [0, 7]


@pytest.mark.parametrize(
    ("values", "options", "error", "said"),
    [
        ([[0, 3]], {}, InputError, r"0\.png: label value 3 is outside the 3 classes"),
        ([[255, 255]], {}, InputError, "no labelled pixel in 1 label maps"),
        ([[0, 1]], {"segmenter": Oracle(19)}, InputError, "oracle: has 19 classes, but the label maps have 3"),
        ([[0, 1]], {"segmenter": Oracle(None), "images": photos(9)}, InputError, "gives classes 9 to 9"),
        ([[0, 1]], {"images": photos(0, 1)}, UsageError, "got 0 for 1"),
        ([[0, 1]], {"images": photos()}, UsageError, "0 images and 1 label maps"),
        ([[0, 1]], {"classes": 1}, UsageError, "2 to 255 classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, values, options, error, said):
    given = {"images": photos(0), "segmenter": Oracle(), "classes": 3} | options
    with pytest.raises(error, match=said):
        evaluate_miou(given["images"].split(1), labels(tmp_path, values), given["segmenter"], given["classes"])


def test_the_protocol_says_what_was_compared(tmp_path):
    meter = Miou(Oracle(), 3, ignore=2)
    meter.take(photos(0), labels(tmp_path, [[0, 1, 2]]))
    assert "label 2 ignored" in meter.protocol
    assert "an oracle" in meter.protocol
    assert "3x1; 1 images" in meter.protocol


def test_camvids_own_label_maps_score_1_against_themselves(tmp_path):
    folder = Path(os.environ.get("VEMCOMPRESS_TEST_DATA", tmp_path)) / "camvid" / "test_label"
    if not folder.is_dir():
        pytest.skip("VEMCOMPRESS_TEST_DATA names no folder with camvid/")
    paths = sorted(folder.iterdir())[:4]
    maps = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths])
    guess = maps.masked_fill(maps == 11, 3)[:, None].expand(-1, 3, -1, -1)
    found = evaluate_miou([guess], paths, Oracle(None), 11, ignore=11)
    assert (found["miou"], found["pixel_accuracy"]) == (1, 1)
    assert math.isclose(found["iou"]["3"], 1)
