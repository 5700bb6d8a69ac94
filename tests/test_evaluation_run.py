"""A whole evaluation on toy generators: what is computed, what is skipped and why, and how often networks run."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vemcompress.data.images import save_png
from vemcompress.data.listing import list_images
from vemcompress.errors import InputError, NetworkError, NumericalError, UsageError
from vemcompress.evaluation import (
    METRICS,
    compute_statistics,
    evaluate,
    extractors,
    load_extractor,
    save_statistics,
)
from vemcompress.networks import build_generator, parse_config

pytestmark = pytest.mark.usefixtures("no_inception")

SQUEEZENET = "squeezenet1_1"
OPTIONS = {"size": 32, "batch": 4}
BOTH = (f"frechet_{SQUEEZENET}", f"mmd_{SQUEEZENET}")


class Gain(nn.Module):
    """An image-to-image generator that multiplies; it counts the images it saw."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain, self.seen = nn.Parameter(torch.tensor(gain)), 0

    def forward(self, x):
        self.seen += len(x)
        return x * self.gain


def photos(folder: Path, n: int, seed: int, contrast: int = 256) -> list[Path]:
    rng = np.random.default_rng(seed)
    for i in range(n):
        coarse = rng.integers(0, contrast, (8, 8, 3), dtype=np.uint8)
        save_png(folder / f"{i}.png", coarse.repeat(6, 0).repeat(6, 1))
    return list_images(folder)


@pytest.fixture
def inputs(tmp_path):
    return photos(tmp_path / "test", 10, seed=1)


@pytest.fixture
def squeezenet(squeezenet_weights):
    return {"features": SQUEEZENET, "features_weights": squeezenet_weights, **OPTIONS}


def test_a_student_equal_to_its_teacher_has_the_best_scores(inputs, squeezenet):
    found = evaluate(Gain(0.9), Gain(0.9), inputs, **squeezenet)
    assert found.metrics["ssim_teacher"] == pytest.approx(1)
    assert (found.metrics["psnr_teacher"], found.metrics["l1_teacher"]) == (100, 0)
    assert found.metrics[f"frechet_{SQUEEZENET}_to_teacher"] == pytest.approx(0, abs=1e-6)


def test_a_worse_student_scores_worse(inputs, squeezenet):
    near, far = (evaluate(Gain(g), Gain(1.0), inputs, **squeezenet).metrics for g in (0.9, 0.3))
    assert near["ssim_teacher"] > far["ssim_teacher"] and near["psnr_teacher"] > far["psnr_teacher"]
    for name in ("l1_teacher", f"frechet_{SQUEEZENET}_to_teacher", f"mmd_{SQUEEZENET}_to_teacher"):
        assert far[name] > near[name]


def test_fidelity_is_the_mean_of_images_in_zero_to_one(tmp_path):
    for i, level in enumerate((0, 255)):
        save_png(tmp_path / f"{i}.png", np.full((32, 32, 3), level, np.uint8))
    found = evaluate(Gain(0.5), Gain(1.0), list_images(tmp_path), metrics=["l1_teacher", "psnr_teacher"], **OPTIONS)
    assert found.metrics == pytest.approx({"l1_teacher": 0.25, "psnr_teacher": -20 * np.log10(0.25)})


def test_the_order_of_images_does_not_matter(inputs, squeezenet, tmp_path):
    real = photos(tmp_path / "real", 9, seed=2)
    forward = evaluate(Gain(0.8), Gain(1.0), inputs, real=real, **squeezenet)
    backward = evaluate(Gain(0.8), Gain(1.0), inputs[::-1], real=real[::-1], **squeezenet)
    assert backward.metrics == pytest.approx(forward.metrics, rel=1e-4)


def test_the_teachers_own_score_stands_beside_the_students(inputs, squeezenet, tmp_path):
    real = photos(tmp_path / "real", 9, seed=2)
    found = evaluate(Gain(0.2), Gain(1.0), inputs, real=real[0].parent, **squeezenet)
    assert set(found.teacher) == set(BOTH) < set(found.metrics)
    assert all(found.teacher[name] < found.metrics[name] for name in BOTH)
    assert (found.images, found.real_images, found.features) == (10, 9, SQUEEZENET)
    alone = evaluate(Gain(1.0), None, inputs, real=real, **squeezenet)
    assert {name: alone.metrics[name] for name in BOTH} == pytest.approx(found.teacher)
    assert alone.teacher == {} and "ssim_teacher" in alone.skipped


def test_statistics_of_a_file_replace_the_folder(inputs, squeezenet, tmp_path):
    real = photos(tmp_path / "real", 9, seed=2)
    statistics = compute_statistics(real, load_extractor(SQUEEZENET, squeezenet["features_weights"]), size=32)
    save_statistics(tmp_path / "real.npz", statistics)
    from_folder = evaluate(Gain(0.8), None, inputs, real=tmp_path / "real", **squeezenet)
    from_file = evaluate(Gain(0.8), None, inputs, real=tmp_path / "real.npz", **squeezenet)
    assert from_file.metrics[BOTH[0]] == pytest.approx(from_folder.metrics[BOTH[0]], rel=1e-3)
    assert from_file.real_images == 9
    assert "not only their statistics" in from_file.skipped[BOTH[1]]


def test_statistics_that_fit_no_features_are_an_error(inputs, squeezenet, tmp_path):
    np.savez(tmp_path / "real.npz", mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(InputError, match=r"real\.npz"):
        evaluate(Gain(0.8), None, inputs, real=tmp_path / "real.npz", **squeezenet)


def test_every_network_runs_once_per_image(inputs, squeezenet, tmp_path, monkeypatch):
    real = photos(tmp_path / "real", 9, seed=2)
    counted = []
    forward = extractors.Extractor.__call__
    monkeypatch.setattr(
        extractors.Extractor, "__call__", lambda self, x: counted.append(len(x)) or forward(self, x), raising=False
    )
    student, teacher = Gain(0.8), Gain(1.0)
    names = [
        *(m for m in METRICS if SQUEEZENET in m and not m.endswith(("caffe", "_target")) and "caffe_" not in m),
        "ssim_teacher",
    ]
    found = evaluate(student, teacher, inputs, real=real, metrics=names, **squeezenet)
    assert set(found.metrics) == set(names)
    assert (student.seen, teacher.seen, sum(counted)) == (10, 10, 10 + 10 + 9)


def test_weights_that_cannot_be_had_skip_by_default_and_stop_when_asked_for(inputs):
    found = evaluate(Gain(0.8), Gain(1.0), inputs, **OPTIONS)
    assert found.skipped["fid_to_teacher"] == "no network; give --inception PATH."
    assert set(found.metrics) == {"ssim_teacher", "psnr_teacher", "l1_teacher"}
    with pytest.raises(NetworkError):
        evaluate(Gain(0.8), Gain(1.0), inputs, metrics=["fid_to_teacher"], **OPTIONS)


def test_only_inceptions_distances_are_called_fid_and_every_figure_says_its_protocol(inputs, squeezenet):
    found = evaluate(Gain(0.8), Gain(1.0), inputs, **squeezenet)
    assert not [name for name in found.metrics if "fid" in name or "kid" in name]
    assert found.protocol.keys() == found.metrics.keys()
    assert all("10 " in sentence and "32 px" in sentence for sentence in found.protocol.values())
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["images"] == 10


@pytest.mark.parametrize(
    ("metrics", "teacher", "says"),
    [
        (["ssim"], True, "ssim_teacher, psnr_teacher"),
        (["ssim_teacher"], False, "--teacher"),
        (["fid"], True, "--real"),
        ([f"frechet_{SQUEEZENET}_to_teacher"], True, "--features"),
        (None, False, "--real"),
    ],
)
def test_what_cannot_be_computed_is_a_usage_error_that_says_what_to_give(metrics, teacher, says, inputs):
    with pytest.raises(UsageError, match=says):
        evaluate(Gain(0.8), Gain(1.0) if teacher else None, inputs, metrics=metrics, **OPTIONS)


def test_a_size_that_the_generator_cannot_take_is_refused(inputs):
    network = build_generator(parse_config({"family": "unet", "width": 8, "downs": 5}))
    with pytest.raises(UsageError, match="32 divides"):
        evaluate(network, network, inputs, size=40)


def test_a_metric_that_needs_larger_images_is_left_out_and_refused_where_it_was_asked_for(inputs):
    found = evaluate(Gain(0.8), Gain(1.0), inputs, size=8)
    assert "psnr_teacher" in found.metrics and "ssim_teacher" not in found.metrics
    assert "at least 11 px" in found.skipped["ssim_teacher"]
    with pytest.raises(UsageError, match="at least 11 px"):
        evaluate(Gain(0.8), Gain(1.0), inputs, size=8, metrics=["ssim_teacher"])


def test_an_output_that_is_not_finite_names_the_model_and_the_image(inputs):
    class Spoilt(Gain):
        def forward(self, x):
            y = super().forward(x)
            return torch.where(torch.arange(len(y)).view(-1, 1, 1, 1) == 2, torch.nan, y)

    with pytest.raises(NumericalError, match=r"the teacher gives NaN or Inf for .*2\.png"):
        evaluate(Gain(1.0), Spoilt(1.0), inputs, **OPTIONS)


def test_unreadable_images_are_named_and_none_left_is_an_error(inputs):
    inputs[3].write_bytes(b"not a picture")
    found = evaluate(Gain(0.8), Gain(1.0), inputs, **OPTIONS)
    assert found.images == 9 and list(found.unreadable) == [str(inputs[3])]
    with pytest.raises(InputError, match="none of 1"):
        evaluate(Gain(0.8), Gain(1.0), [inputs[3]], **OPTIONS)


def test_one_image_still_gives_fidelity(inputs, squeezenet):
    found = evaluate(Gain(0.8), Gain(1.0), inputs[:1], **squeezenet)
    assert "ssim_teacher" in found.metrics
    assert "at least 2" in found.skipped[f"frechet_{SQUEEZENET}_to_teacher"]


def test_models_get_their_modes_back(inputs):
    student = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9))
    student[1].eval()
    before = student[0].running_mean.clone()
    evaluate(student, Gain(1.0), inputs, **OPTIONS)
    assert (student.training, student[0].training, student[1].training) == (True, True, False)
    torch.testing.assert_close(student[0].running_mean, before)


def test_grey_generators_are_evaluated(inputs, squeezenet):
    network = build_generator(
        parse_config({"family": "mobile_resnet", "width": 4, "blocks": 1, "in_channels": 1, "out_channels": 1})
    )
    assert f"frechet_{SQUEEZENET}_to_teacher" in evaluate(network, network, inputs, **squeezenet).metrics


def test_real_photos_are_told_apart_by_trained_features():
    root = os.environ.get("VEMCOMPRESS_TEST_DATA")
    if not root or not (Path(root) / "features").is_dir():
        pytest.skip("VEMCOMPRESS_TEST_DATA names no folder with features/ and horse2zebra/")
    file = Path(root) / "features" / "squeezenet1_1_features_caffe.safetensors"
    horses, zebras = (list_images(Path(root) / "horse2zebra" / split)[:24] for split in ("testA", "testB"))
    options = {"features": "squeezenet", "features_weights": file, "size": 64}
    name = "frechet_squeezenet1_1_caffe"
    same = evaluate(Gain(1.0), None, horses, real=horses, **options).metrics[name]
    other = evaluate(Gain(1.0), None, horses, real=zebras, **options).metrics[name]
    halves = evaluate(Gain(1.0), None, horses[::2], real=horses[1::2], **options).metrics[name]
    assert same < 0.02 * other
    assert halves < other
