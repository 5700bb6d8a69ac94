"""eval on pairs, label maps and domains: ground truth, mIoU, and what a run's folder says of its networks."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_miou_onnx import graph
from torch import nn
from toys import TOY, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate as assess
from vemcompress.commands.teach import teach
from vemcompress.data.labels import LabelMaps
from vemcompress.data.sets import ImageSet, test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import evaluate
from vemcompress.evaluation.onnx_segmenter import OnnxSegmenter
from vemcompress.evaluation.segmenters import Segmenter

pytestmark = pytest.mark.usefixtures("no_inception")

LABELS = ("data.kind=labels", "data.classes=3", "data.direction=BtoA")
UNET = ("network.family=unet", "network.width=4", "network.downs=5")
TEACH = (*(f"teacher.{o}" for o in UNET), "gan.discriminator.width=4", "data.size=32", "train.batch=2")


class Painter(nn.Module):
    """Label maps of three classes to red, green and blue; `turn` gives every class another's colour."""

    def __init__(self, turn: int = 0):
        super().__init__()
        self.turn, self.seen = turn, 0

    def forward(self, x):
        self.seen += len(x)
        return x.roll(self.turn, 1) * 2 - 1


class Even(nn.Module):
    """Images of one value."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x[:, :3], self.value)


@pytest.fixture(scope="session")
def squeezenet(squeezenet_weights):
    return {"features": "squeezenet1_1", "features_weights": squeezenet_weights}


def city(root: Path, count: int = 5, size: int = 32, values=(0, 1, 2)) -> Path:
    """Photos (A) whose colour is their label's (B): red, green, blue; void is black. In train/ and test/."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:3] = np.eye(3, dtype=np.uint8) * 255
    for split, seed in (("train", 0), ("test", 1)):
        rng = np.random.default_rng(seed)
        for i in range(count):
            labels = rng.choice(np.array(values, np.uint8), (4, 4)).repeat(size // 4, 0).repeat(size // 4, 1)
            for folder, array in ((split, colours[labels]), (f"{split}_label", labels)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / folder / f"{i}.png")
    return root


def street(root: Path, **settings) -> ImageSet:
    settings = {"kind": "labels", "classes": 3, "direction": "BtoA", "size": 32} | settings
    return test_set(DataSettings(roots=(str(root),), **settings))


@pytest.fixture
def segmenter(tmp_path) -> OnnxSegmenter:
    """Its scores are R, G and B."""
    return OnnxSegmenter(graph(tmp_path / "m.onnx"))


def test_a_perfect_painter_reaches_what_real_photos_reach(tmp_path, segmenter):
    student, teacher, best = Painter(), Painter(1), Painter()
    images = street(city(tmp_path / "data"))
    found = evaluate(student, teacher, images, best=best, segmenter=segmenter, batch=2)
    assert (found.metrics["miou"], found.metrics["pixel_accuracy"]) == (100, 100)
    assert found.real == {"miou_real": 100, "pixel_accuracy_real": 100}
    assert (found.metrics["l1_target"], found.metrics["psnr_target"]) == (0, 100)
    assert found.metrics["ssim_target"] == pytest.approx(1)
    assert found.teacher["miou"] == 0 and found.teacher["l1_target"] > 0.5
    assert not [name for name in found.teacher if name.endswith("_teacher")]
    assert found.best["metrics"] == found.metrics
    assert found.iou["student"] == {"0": 100, "1": 100, "2": 100}
    assert (student.seen, best.seen, teacher.seen) == (5, 5, 5)
    assert "0..100" in found.protocol["miou"] and "32x32; 5 images" in found.protocol["miou"]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["iou"].keys() == found.iou.keys() >= {"real"}


def test_void_does_not_count_though_it_has_a_channel_of_its_own(tmp_path, segmenter):
    class Draws(Painter):
        def forward(self, x):
            return super().forward(x[:, :3])

    images = street(city(tmp_path / "data", values=(0, 1, 2, 3)), classes=4, void=3)
    found = evaluate(Draws(), None, images, segmenter=segmenter)
    assert found.metrics["miou"] == 100
    assert "label 3 ignored" in found.protocol["miou"]


def test_one_channel_of_red_is_segmented_as_grey(tmp_path, segmenter):
    class Red(Painter):
        out_channels = 1

        def forward(self, x):
            return x[:, :1] * 2 - 1

    found = evaluate(Red(), None, street(city(tmp_path / "data")), metrics=["miou", "l1_target"], segmenter=segmenter)
    assert found.iou["student"]["1"] == 0 < found.iou["student"]["0"]  # grey: all scores equal, and the first wins


@pytest.mark.parametrize(("direction", "expected"), [("BtoA", 0), ("AtoB", 1)])
def test_the_target_is_the_half_that_the_direction_says(tmp_path, direction, expected):
    (tmp_path / "test").mkdir()
    both = np.zeros((32, 64, 3), np.uint8)
    both[:, 32:] = 255
    Image.fromarray(both).save(tmp_path / "test" / "0.png")
    images = test_set(DataSettings(kind="paired", direction=direction, size=32, roots=(str(tmp_path),)))
    assert evaluate(Even(-1), None, images, metrics=["l1_target"]).metrics == {"l1_target": expected}


def test_real_images_are_the_pairs_targets_unless_others_are_given(tmp_path, squeezenet):
    images = street(city(tmp_path / "data"))
    found = evaluate(Painter(), Painter(1), images, **squeezenet)
    name = "frechet_squeezenet1_1"
    assert found.metrics[name] < 1e-6 < found.teacher[name]
    assert found.real_images == 5
    assert "against 5 ground-truth images of the same pairs (test + test_label) at 32 px" in found.protocol[name]
    other = evaluate(Painter(), None, images, real=toy_images(tmp_path / "noise", count=4), **squeezenet)
    assert other.metrics[name] > 0 and "against 4 real images at 32 px" in other.protocol[name]


def test_real_images_of_unpaired_data_are_the_other_domains(tmp_path, squeezenet):
    toy_images(tmp_path / "testA", count=3), toy_images(tmp_path / "testB", count=4)
    images = test_set(DataSettings(kind="unpaired", size=32, roots=(str(tmp_path),)))
    found = evaluate(Even(0.5), None, images, **squeezenet)
    assert (found.images, found.real_images) == (3, 4)
    assert "of the other domain (testA + testB)" in found.protocol["frechet_squeezenet1_1"]
    assert "l1_target" not in found.metrics


def test_pairs_that_cannot_be_read_are_named_and_left_out(tmp_path, segmenter):
    root = city(tmp_path / "data")
    (root / "test" / "2.png").write_bytes(b"not a picture")
    found = evaluate(Painter(), None, street(root), segmenter=segmenter)
    assert (found.images, found.metrics["miou"]) == (4, 100)
    assert [Path(p).name for p in found.unreadable] == ["2.png"]


class Nine(Segmenter):
    name, protocol, classes = "nine", "nine", 9


@pytest.mark.parametrize(
    ("data", "metrics", "reader", "error", "says"),
    [
        ({}, ["miou"], None, UsageError, "--segmenter"),
        ({"direction": "AtoB"}, ["miou"], Nine(), UsageError, "data.direction"),
        ({"kind": "single", "classes": None, "split": "test"}, ["miou"], Nine(), UsageError, "data.kind=labels"),
        ({"kind": "single", "classes": None}, ["l1_target"], None, UsageError, "data.kind to paired"),
        ({}, None, Nine(), InputError, "nine: has 9 classes, but the label maps have 3"),
    ],
)
def test_what_the_data_cannot_give_is_refused_in_a_sentence(tmp_path, data, metrics, reader, error, says):
    root = city(tmp_path / "data")
    images = street(root if data.get("kind") != "single" else root / "test", **data)
    with pytest.raises(error, match=says):
        evaluate(Painter(), None, images, metrics=metrics, segmenter=reader)


def test_a_metric_that_was_not_named_is_skipped_with_the_reason(tmp_path):
    found = evaluate(Painter(), None, street(city(tmp_path / "data")))
    assert "--segmenter" in found.skipped["miou"] and "l1_target" in found.metrics
    toy_images(tmp_path / "photos")
    alone = evaluate(Even(0), Even(0), test_set(DataSettings(size=32, roots=(str(tmp_path / "photos"),))))
    assert "miou" not in alone.skipped and "l1_target" not in alone.skipped


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A student of a frozen teacher on label maps, with checkpoints at 3 and 6 steps."""
    folder = tmp_path_factory.mktemp("pairs")
    teacher, root = toy_teacher_file(folder / "teacher.safetensors"), city(folder / "data")
    distill(teacher, data=[root], out=folder / "run", overrides=[*TOY, *LABELS, "data.held_out=2"], device="cpu")
    return folder / "run"


def best_at(run: Path, step: int, teacher: Path | None = None) -> None:
    """Say that the best was at this step; its network is then `teacher`'s."""
    said = {"step": step, "metric": "ssim_teacher", "value": 0.5, "on": "held_out", "images": 2}
    (run / "best" / "best.json").write_text(json.dumps(said | {"higher_is_better": True}))
    if teacher is not None:
        (run / "best" / "student.safetensors").write_bytes(teacher.read_bytes())


def test_the_best_checkpoint_is_scored_beside_the_last(run):
    best_at(run, 3, run.parent / "teacher.safetensors")
    found = assess(run, device="cpu")
    assert (found.step, found.best["step"], found.best["picked_by"], found.best["on"]) == (
        6, 3, "ssim_teacher", "held_out",
    )  # fmt: skip
    assert found.best["metrics"]["l1_teacher"] == 0 < found.metrics["l1_teacher"]
    assert found.best["metrics"].keys() == found.metrics.keys()
    assert found.images == 5


def test_the_last_is_scored_once_where_it_is_the_best(run):
    best_at(run, 6)
    (run / "best" / "student.safetensors").unlink()
    found = assess(run, device="cpu")
    assert found.best["step"] == found.step == 6
    assert found.best["metrics"] == found.metrics
    (run / "best" / "best.json").unlink()
    assert assess(run, device="cpu", metrics=["l1_target"]).best is None


def test_a_best_json_that_says_nothing_is_an_error(run):
    (run / "best" / "best.json").write_text("[]")
    with pytest.raises(InputError, match=r"best\.json: is not valid"):
        assess(run, device="cpu")
    (run / "best" / "best.json").unlink()


def test_a_run_that_taught_scores_its_teacher_and_an_online_one_its_own(tmp_path):
    root = city(tmp_path / "data", count=3)
    taught = tmp_path / "taught"
    teach(data=[root], out=taught, overrides=[*TEACH, *LABELS, "train.steps=2"], device="cpu")
    found = assess(taught, device="cpu")
    assert (found.role, found.teacher, found.step) == ("teacher", {}, 2)
    assert "l1_target" in found.metrics and not [name for name in found.skipped if name.endswith("_teacher")]

    online = tmp_path / "online"
    small = ("gan.name=pix2pix", "student.width=4", "student.downs=5", "algorithm.features=none")
    distill(
        data=[root],
        out=online,
        recipe="omgd_online",
        overrides=[*TEACH, *LABELS, *small, "train.steps=2"],
        device="cpu",
    )
    found = assess(online, device="cpu")
    own = assess(online / "teacher.safetensors", data=root, overrides=LABELS, size=32, device="cpu")
    assert found.teacher["l1_target"] == own.metrics["l1_target"] != found.metrics["l1_target"]


def test_the_command_line_reports_miou_of_a_run(call, run, segmenter):
    best_at(run, 3, run.parent / "teacher.safetensors")
    code, out, err = call("eval", run, "--segmenter", segmenter.name, "--json")
    said = json.loads(out)
    assert code == 0, err
    assert 0 <= said["metrics"]["miou"] <= 100 and {"miou", "l1_target"} <= said["teacher"].keys()
    assert said["real"]["miou_real"] == 100 and said["best"]["step"] == 3
    code, out, _ = call("eval", run, "--segmenter", segmenter.name, "--metric", "miou")
    assert "best (step 3)" in out and "real photos" in out and "100.00" in out


def test_a_plain_file_is_told_what_its_data_are(call, run, tmp_path):
    student, data = run / "student.safetensors", run.parent / "data"
    settings = [f"--set={o}" for o in LABELS]
    code, out, err = call("eval", student, "--data", data, "--size", 32, "--metric", "l1_target", "--json", *settings)
    assert code == 0, err
    assert json.loads(out)["metrics"] == pytest.approx(assess(run, device="cpu", metrics=["l1_target"]).metrics)
    for arguments, expected, says in (
        ([], 2, "metric miou needs a segmentation network"),
        (["--segmenter", "none.onnx"], 4, "none.onnx"),
        (["--set=train.steps=5"], 2, "only settings of the data"),
        (["--set=data.kid=labels"], 3, "Did you mean 'kind'"),
        (["--set=data.direction=CtoA"], 3, "'AtoB' or 'BtoA'"),
        (["--set=data.kind=paired"], 3, "classes applies only to label maps"),
        (["--set=data.classes=2"], 4, "label value 2 is outside the 2 classes"),
        (["--set=data.classes=4", "--segmenter", graph(tmp_path / "4.onnx", scores=("n", 4, "h", "w"))], 3, "needs 3"),
    ):
        code, out, err = call("eval", student, "--data", data, "--size", 32, "--metric", "miou", *settings, *arguments)
        assert (code, out) == (expected, "") and says in err, err


class PaletteReader(Segmenter):
    """The class whose colour is the nearest."""

    name, protocol, classes = "palette", "palette", 11

    def __call__(self, images):
        palette = torch.from_numpy(LabelMaps(11).palette[:11]).float()
        return (
            -torch.cdist(images.permute(0, 2, 3, 1).reshape(-1, 3).float(), palette)
            .view(len(images), *images.shape[2:], 11)
            .permute(0, 3, 1, 2)
        )


class PalettePainter(nn.Module):
    def forward(self, x):
        palette = torch.from_numpy(LabelMaps(11).palette[:11]).float()
        return torch.einsum("bkhw,kc->bchw", x, palette) / 127.5 - 1


def test_camvids_labels_come_back_when_they_are_drawn_as_they_are():
    root = Path(os.environ.get("VEMCOMPRESS_TEST_DATA", "")) / "camvid"
    if not os.environ.get("VEMCOMPRESS_TEST_DATA") or not root.is_dir():
        pytest.skip("VEMCOMPRESS_TEST_DATA names no folder with camvid/")
    images = street(root, classes=11, void=11, size=192)._subset([0, 100, 200])
    found = evaluate(PalettePainter(), None, images, metrics=["miou", "pixel_accuracy"], segmenter=PaletteReader())
    assert found.metrics["pixel_accuracy"] > 97  # what two resizings leave
    assert found.metrics["miou"] > 85 > found.real["miou_real"]
