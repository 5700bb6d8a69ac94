"""Segmentation networks in ONNX files: their inputs, the outputs that are accepted, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from miou_files import evaluate_miou
from onnx import TensorProto, helper
from PIL import Image

from vemcompress.errors import InputError
from vemcompress.evaluation.onnx_segmenter import OnnxSegmenter, open_segmenter

FREE = ("n", 3, "h", "w")


def graph(path: Path, *nodes, image=FREE, scores=FREE, types=(TensorProto.FLOAT, TensorProto.FLOAT), said=None) -> Path:
    """A file with these nodes from `x` to `y`; its scores are its input where there are none."""
    ends = [helper.make_tensor_value_info(n, t, s) for n, t, s in zip("xy", types, (image, scores), strict=True)]
    body = helper.make_graph(nodes or [helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, said or {})
    onnx.save(model, path)
    return path


def images(n: int = 2, height: int = 4, width: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_float_graph_is_fed_what_its_metadata_says(tmp_path):
    said = {"scale": "255", "mean": "104,117,123.5", "std": "1,2,4"}
    found = OnnxSegmenter(graph(tmp_path / "m.onnx", said=said))(images())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((104, 117, 123.5), (1.0, 2, 4)))
    torch.testing.assert_close(found, (images() - mean) / std)


def test_a_graph_without_metadata_gets_pixels_in_0_to_1_and_says_so(tmp_path):
    segmenter = OnnxSegmenter(graph(tmp_path / "m.onnx"))
    torch.testing.assert_close(segmenter(images()), images() / 255.0)
    assert "assumed" in segmenter.protocol
    assert segmenter.classes == 3


def test_a_uint8_graph_gets_the_pixels_as_they_are(tmp_path):
    nodes = (
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["y"], to=1),
    )
    path = graph(tmp_path / "m.onnx", *nodes, image=("n", "h", "w", 3), types=(TensorProto.UINT8, TensorProto.FLOAT))
    for given in (images(), images() / 255.0):
        torch.testing.assert_close(OnnxSegmenter(path)(given), images().float())


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_graph_may_give_class_numbers(tmp_path, keepdims):
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=keepdims)
    shape = ("n", 1, "h", "w") if keepdims else ("n", "h", "w")
    path = graph(tmp_path / "m.onnx", node, scores=shape, types=(TensorProto.FLOAT, TensorProto.INT64))
    segmenter = OnnxSegmenter(path)
    assert segmenter.classes is None
    assert torch.equal(segmenter(images()), images().long().argmax(1))


def test_a_graph_of_one_size_gets_that_size_one_by_one(tmp_path):
    segmenter = OnnxSegmenter(graph(tmp_path / "m.onnx", image=(1, 3, 8, 8), scores=(1, 3, 8, 8)))
    expected = F.interpolate(images() / 255.0, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(segmenter(images()), expected)
    assert "8x8" in segmenter.protocol


def test_half_precision_scores_are_widened(tmp_path):
    path = graph(tmp_path / "m.onnx", types=(TensorProto.FLOAT16,) * 2)
    assert OnnxSegmenter(path)(images()).dtype == torch.float32


def test_miou_with_a_graph(tmp_path):
    """Its scores are R, G and B: a red image is class 0."""
    Image.fromarray(np.array([[0, 0], [0, 1]], np.uint8)).save(tmp_path / "label.png")
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    found = evaluate_miou([red], [tmp_path / "label.png"], open_segmenter(graph(tmp_path / "m.onnx")), 3)
    assert found == {"miou": 0.375, "pixel_accuracy": 0.75, "iou": {"0": 0.75, "1": 0.0, "2": None}}


def _pooled(path):
    return graph(path, helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0), scores=("n",))


def _grey(path):
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[1])
    return graph(path, axes, helper.make_node("ReduceMean", ["x", "axes"], ["y"]), scores=("n", 1, "h", "w"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: graph(p, said={"family": "resnet"}), "not a segmentation network: it is a generator"),
        (_pooled, "not a segmentation network: it takes 3 channels and gives"),
        (lambda p: graph(p, image=("n", 1, "h", "w")), "takes 1 channels"),
        (_grey, "one score a pixel"),
        (lambda p: graph(p, said={"mean": "0.5"}), "mean '0.5'; it must be 3"),
        (lambda p: graph(p, said={"scale": "nan"}), "scale 'nan'"),
        (lambda p: graph(p, said={"std": "1,0,1"}), "std or scale 0"),
        (lambda p: p.write_bytes(b"weights") and p, "not an ONNX"),
        (lambda p: p, "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path, make, said):
    with pytest.raises(InputError, match=said):
        open_segmenter(make(tmp_path / "m.onnx"))


def test_nan_scores_are_refused(tmp_path):
    path = graph(tmp_path / "m.onnx", helper.make_node("Log", ["x"], ["y"]), said={"mean": "2,2,2"})
    with pytest.raises(InputError, match="gives NaN"):
        open_segmenter(path)(images())


def test_a_segmenter_of_other_classes_is_refused_before_it_runs(tmp_path):
    with pytest.raises(InputError, match="has 3 classes, but the label maps have 11"):
        evaluate_miou([], [], open_segmenter(graph(tmp_path / "m.onnx")), 11)


def test_weights_that_are_no_onnx_are_taken_for_drns(tmp_path):
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(InputError, match="not the weights of DRN-D-105"):
        open_segmenter(tmp_path / "m.pth")


def test_the_camvid_script_trains_exports_and_scores(tmp_path, monkeypatch, capsys):
    import segmentation_camvid as script

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in (split, f"{split}_label"):
            (tmp_path / kind).mkdir()
        for i in range(4):
            truth = rng.integers(0, 12, (3, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(truth).save(tmp_path / f"{split}_label" / f"{i}.png")
            Image.fromarray(np.stack([20 * truth] * 3, 2)).save(tmp_path / split / f"{i}.png")
    exported, export = [], script.export
    monkeypatch.setattr(script, "BATCH", 2)
    monkeypatch.setattr(script, "export", lambda *given: (exported.append(given), export(*given)))
    argv = ["", str(tmp_path), "--out", str(tmp_path / "net.onnx"), "--size", "32", "--epochs", "2"]
    monkeypatch.setattr("sys.argv", argv)
    script.main()
    assert "mIoU" in capsys.readouterr().out
    # The file computes what the network computed, for other sizes and numbers too.
    network, mean, std, *_ = exported[0]
    images, _, _ = script.read(tmp_path, "train", 48)
    x = (images[:3] / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        found = open_segmenter(tmp_path / "net.onnx")(images[:3])
        torch.testing.assert_close(found, network(x), atol=1e-3, rtol=1e-3)
