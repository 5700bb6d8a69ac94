"""The score that picks the best checkpoint is the one that eval reports, on images that are read once."""

import pytest
import torch
from test_eval_pairs import Even, Painter, city, street
from test_miou_onnx import graph
from torch import nn
from toys import toy_images

from vemcompress.data import squares
from vemcompress.data.sets import test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError, NumericalError, RecipeError
from vemcompress.evaluation import evaluate, load_extractor
from vemcompress.evaluation.judge import judge_by, scorer
from vemcompress.evaluation.onnx_segmenter import OnnxSegmenter
from vemcompress.networks.features import squeezenet_features
from vemcompress.runs.best import Score

CHANNELS = (3, 3)


def domains(root, inputs=5):
    toy_images(root / "testA", count=inputs), toy_images(root / "testB", count=7)
    return test_set(DataSettings(kind="unpaired", size=32, roots=(str(root),)))


def test_a_score_is_what_eval_reports_under_the_same_name(tmp_path, squeezenet_weights):
    images, segmenter = street(city(tmp_path / "data", count=11)), OnnxSegmenter(graph(tmp_path / "m.onnx"))
    extractor = load_extractor("squeezenet1_1", squeezenet_weights)
    student, teacher = Painter(1), Even(0.5)
    given = {"teacher": teacher, "segmenter": segmenter, "features": extractor}
    scores = [scorer(by, images, CHANNELS, "cpu", **given)(student) for by in ("ssim_teacher", "l1_target", "miou")]
    scores.append(scorer("frechet", images, CHANNELS, "cpu", **given)(student))
    options = {"features": "squeezenet1_1", "features_weights": squeezenet_weights, "segmenter": segmenter}
    names = [score.name for score in scores]
    found = evaluate(student, teacher, images, metrics=names, **options)
    assert {score.name: score.value for score in scores} == pytest.approx(found.metrics)
    assert names[-1] == "frechet_squeezenet1_1" and {score.images for score in scores} == {11}


def test_the_other_domain_is_what_is_real_of_unpaired_images(tmp_path, squeezenet_weights):
    images, extractor = domains(tmp_path), load_extractor("squeezenet1_1", squeezenet_weights)
    score = scorer("frechet", images, CHANNELS, "cpu", features=extractor)(Even(0.2))
    options = {"features": "squeezenet1_1", "features_weights": squeezenet_weights, "metrics": [score.name]}
    assert score.value == pytest.approx(evaluate(Even(0.2), None, images, **options).metrics[score.name])


def test_features_that_a_recipe_learns_by_are_not_called_by_an_extractors_name(tmp_path):
    torch.manual_seed(0)
    score = scorer("frechet", domains(tmp_path), CHANNELS, "cpu", features=squeezenet_features(caffe=True))
    near, far = score(nn.Identity()), score(Even(1.0))
    assert near.name == "frechet" and near.better_than(far.value)


def test_images_are_read_and_the_teacher_runs_once(tmp_path, monkeypatch):
    toy_images(tmp_path / "data", count=9)
    read, counted = squares.read_image, []
    monkeypatch.setattr(squares, "read_image", lambda path, *how: counted.append(path) or read(path, *how))
    images, teacher = test_set(DataSettings(size=32, roots=(str(tmp_path / "data"),))), Painter(1)
    score = scorer("ssim_teacher", images, CHANNELS, "cpu", teacher=teacher)
    first, second = score(Painter()), score(Painter())
    assert first == second and (len(counted), teacher.seen) == (9, 9)


def test_several_candidates_are_scored_in_one_pass_as_each_alone(tmp_path, monkeypatch, squeezenet_weights):
    images, extractor = street(city(tmp_path / "data", count=9)), load_extractor("squeezenet1_1", squeezenet_weights)
    segmenter, teacher = OnnxSegmenter(graph(tmp_path / "m.onnx")), Painter(1)
    names = ["ssim_teacher", "l1_target", "miou", "frechet"]
    given = {"teacher": teacher, "segmenter": segmenter, "features": extractor}
    judge = judge_by(names, images, CHANNELS, "cpu", **given)
    decoded = []
    monkeypatch.setattr(squares, "read_image", lambda path, *how: decoded.append(path))
    candidates = {"narrow": Painter(2), "wide": Even(0.5)}
    found = judge(candidates)
    assert found == {name: judge(network) for name, network in candidates.items()}
    assert found["narrow"]["l1_target"] != found["wide"]["l1_target"]
    assert (list(found["wide"]), decoded, teacher.seen, candidates["narrow"].seen) == (
        [*names[:3], "frechet_squeezenet1_1"], [], 9, 18,
    )  # fmt: skip


def test_networks_are_scored_in_evaluation_mode_and_get_their_modes_back(tmp_path):
    toy_images(tmp_path / "data")
    images = test_set(DataSettings(size=32, roots=(str(tmp_path / "data"),)))
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9))
    network[1].eval()
    score = scorer("ssim_teacher", images, CHANNELS, "cpu", teacher=nn.Identity())(network)
    assert (network.training, network[0].training, network[1].training) == (True, True, False)
    assert network[0].num_batches_tracked == 0 and score.value > 0.99


def test_better_is_higher_or_lower_and_never_equal():
    up, down = Score("ssim_teacher", 0.5, True, "held_out", 3), Score("l1_target", 0.5, False)
    assert [up.better_than(v) for v in (0.4, 0.5, 0.6)] == [True, False, False]
    assert [down.better_than(v) for v in (0.4, 0.5, 0.6)] == [False, False, True]
    said = {"metric": "ssim_teacher", "value": 0.5, "higher_is_better": True, "on": "held_out", "images": 3}
    assert up.as_dict() == said


@pytest.mark.parametrize(
    ("by", "data", "says"),
    [
        ("ssim_teacher", "pairs", "a teacher that does not learn"),
        ("miou", "pairs", "train.segmenter"),
        ("frechet", "pairs", "set train.features"),
        ("l1_target", "domains", "data.kind to paired or labels"),
        ("frechet", "photos", "data.kind to paired, labels or unpaired"),
        ("fid", "one", "at least 2 images"),
        ("psnr", "pairs", "use one of ssim_teacher"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_run_begins(tmp_path, by, data, says):
    toy_images(tmp_path / "photos", count=2)
    images = {
        "pairs": lambda: street(city(tmp_path / "data", count=2)),
        "domains": lambda: domains(tmp_path),
        "one": lambda: domains(tmp_path, inputs=1),
        "photos": lambda: test_set(DataSettings(size=32, roots=(str(tmp_path / "photos"),))),
    }[data]()
    with pytest.raises(RecipeError, match=says):
        scorer(by, images, CHANNELS, "cpu")


def test_miou_needs_label_maps_that_images_were_drawn_from(tmp_path):
    segmenter = OnnxSegmenter(graph(tmp_path / "m.onnx"))
    images = street(city(tmp_path / "data", count=2), direction="AtoB")
    with pytest.raises(RecipeError, match=r"data\.direction"):
        scorer("miou", images, CHANNELS, "cpu", segmenter=segmenter)
    with pytest.raises(InputError, match="has 3 classes, but the label maps have 4"):
        scorer("miou", street(tmp_path / "data", classes=4), (4, 3), "cpu", segmenter=segmenter)


def test_images_that_cannot_be_read_are_told_and_none_left_is_an_error(tmp_path):
    root, told = city(tmp_path / "data", count=3), []
    (root / "test" / "1.png").write_bytes(b"no")
    score = scorer("l1_target", street(root), CHANNELS, "cpu", on_event=told.append)(Painter())
    assert (score.value, score.images, [event["event"] for event in told]) == (0, 2, ["skipped"])
    for path in (root / "test").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(InputError, match="none of 3 images to choose the best by"):
        scorer("l1_target", street(root), CHANNELS, "cpu")


def test_nan_stops_and_names_the_image(tmp_path):
    with pytest.raises(NumericalError, match=r"the student gives NaN or Inf for .*0\.png"):
        scorer("l1_target", street(city(tmp_path / "data")), CHANNELS, "cpu")(Even(float("nan")))
