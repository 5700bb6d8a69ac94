"""Dense prediction: a class for every pixel, learnt from label maps and from a teacher's scores."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toys import TOY, stop_after

from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.generate import generate
from vemcompress.data.indices import class_colours
from vemcompress.data.pair_stream import PairStream
from vemcompress.data.pairs import find_pairs
from vemcompress.errors import Interrupted, RecipeError, UsageError
from vemcompress.export.exporting import export_onnx
from vemcompress.losses.classes import cross_entropy, soft_divergence
from vemcompress.networks.energy import EnergyConfig
from vemcompress.runs.pictures import to_uint8
from vemcompress.weights.energy import load_energy_model
from vemcompress.weights.loading import load

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 5
LABELS = ("data.kind=labels", f"data.classes={CLASSES}", "data.void=9")
NET = ("student.width=2", "student.downs=3")
TINY = tuple(o for o in TOY if not o.startswith(("algorithm.", "student."))) + LABELS + NET


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of five grey levels, and which level each pixel has; the upper left corner is of no class."""
    root, rng = tmp_path_factory.mktemp("dense"), np.random.default_rng(0)
    for split in ("train", "test"):
        for folder in (root / split, root / f"{split}_label"):
            folder.mkdir()
        for i in range(4):
            numbers = rng.integers(0, CLASSES, (5, 5)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            Image.fromarray((numbers * 60)[:, :, None].repeat(3, 2)).save(root / split / f"{i}.png")
            numbers[:8, :8] = 9
            Image.fromarray(numbers).save(root / f"{split}_label" / f"{i}.png")
    return root


def run(data, out, *overrides, **options):
    return distill(data=data, out=out, recipe="dense", overrides=[*TINY, *overrides], device="cpu", **options)


# -- terms -----------------------------------------------------------------------------------------------------------


def test_the_cross_entropy_is_a_mean_over_pixels_of_which_void_ones_count_nothing():
    scores = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.0, -1.0]]).T.reshape(1, 3, 1, 2)
    truth = torch.full((1, 3, 1, 2), -1.0)
    truth[0, 2, 0, 0] = 1
    by_hand = -(2 - np.log(np.exp([1.0, 0, 2]).sum())) / 2  # of two pixels, the second is void
    assert cross_entropy(truth, scores).item() == pytest.approx(by_hand, abs=1e-6)


def test_the_cross_entropy_of_a_batch_is_the_mean_of_its_parts():
    torch.manual_seed(0)
    truth, scores = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    truth[0] = -1
    parts = [cross_entropy(t, s) for t, s in zip(truth.chunk(2), scores.chunk(2), strict=True)]
    assert cross_entropy(truth, scores).item() == pytest.approx(sum(parts).item() / 2, abs=1e-6)


def test_the_divergence_is_summed_over_teachers_and_has_no_gradient_for_them():
    torch.manual_seed(0)
    teachers, student = torch.randn(4, 3, 2, 2, requires_grad=True), torch.randn(2, 3, 2, 2, requires_grad=True)
    t, s = ((x.detach().double() / 2).softmax(1) for x in (teachers, student))
    wanted = sum(4 * (one * (one / s).log()).sum() / 8 for one in t.chunk(2))
    found = soft_divergence(teachers, student, 2.0)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    found.backward()
    assert teachers.grad is None and student.grad.abs().sum() > 0
    assert soft_divergence(student, student).item() == pytest.approx(0, abs=1e-6)


# -- data and pictures -----------------------------------------------------------------------------------------------


def test_targets_are_a_channel_for_each_class_that_keeps_to_its_photo(photos):
    pairs = find_pairs(photos, kind="labels", classes=CLASSES, void=9, label_target="onehot")
    assert pairs.channels == (3, CLASSES)
    batch = PairStream(pairs, size=32, load_size=40, batch=4, seed=0)._prepare(0)
    assert set(batch.target.unique().tolist()) == {-1.0, 1.0}
    level = ((batch.input[:, 0] + 1) * 127.5 / 60).round()
    known = batch.target.amax(1) > 0
    assert (~known).any() and torch.equal(batch.target.argmax(1)[known], level.long()[known])
    with pytest.raises(RecipeError, match=f"{CLASSES} channels, one for each class, but the network's output has 3"):
        PairStream(pairs, channels=(3, 3), size=32, batch=1, seed=0)
    other = find_pairs(photos, kind="labels", classes=CLASSES, void=9)
    assert other.channels == (3, 3)  # pictures in the labels' colours, as before


def test_scores_are_shown_in_the_colours_of_the_labels():
    scores = torch.full((1, CLASSES, 1, 2), -1.0)
    scores[0, 3, 0, 0] = 0.5
    colours = class_colours(CLASSES)
    assert to_uint8(scores)[0, 0].tolist() == [colours[3].tolist(), [0, 0, 0]]
    assert len(np.unique(colours, axis=0)) == CLASSES and colours.any(1).all()


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(photos, tmp_path_factory):
    """A network that label maps alone taught."""
    more = ("train.steps=150", "train.lr=1e-2", "train.log_every=50", "train.checkpoint_every=150", "student.width=4")
    return run(photos, tmp_path_factory.mktemp("runs") / "taught", *more, "train.batch=4", "data.flip=false")


def test_label_maps_alone_teach_with_vem(photos, taught):
    assert set(taught.losses) >= {"classes", "information"} and "soft" not in taught.losses
    energy = load_energy_model(taught.run)
    assert isinstance(energy.config, EnergyConfig) and energy.config.image_channels == CLASSES
    found = evaluate(taught.run, data=photos, device="cpu")
    assert set(found.metrics) == {"miou", "pixel_accuracy"} and found.real == {}
    assert found.metrics["pixel_accuracy"] > 60  # chance is 20
    assert "the network's own scores" in found.protocol["miou"] and "8 bits" not in found.protocol["miou"]


def test_the_figures_are_those_of_counting(photos, taught):
    found = evaluate(taught.run, data=photos, device="cpu", size=40 - 40 % 8)
    network, counts = load(taught.run).generator, np.zeros((CLASSES, CLASSES))
    for i in range(4):
        photo = np.array(Image.open(photos / "test" / f"{i}.png"))
        truth = np.asarray(Image.open(photos / "test_label" / f"{i}.png"))
        with torch.no_grad():
            scores = network(torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1)[0]
        for t, p in zip(truth.ravel(), scores.argmax(0).numpy().ravel(), strict=True):
            if t != 9:
                counts[t, p] += 1
    hits = counts.diagonal()
    assert found.metrics["pixel_accuracy"] == pytest.approx(100 * hits.sum() / counts.sum())
    assert found.metrics["miou"] == pytest.approx(100 * np.mean(hits / (counts.sum(0) + counts.sum(1) - hits)))


def test_a_teachers_scores_teach_too(photos, taught, tmp_path):
    result = run(photos, tmp_path / "run", teacher=taught.run)
    assert set(result.losses) >= {"classes", "soft", "information"}
    found = evaluate(result.run, data=photos, device="cpu")
    assert set(found.teacher) == {"miou", "pixel_accuracy"}
    alone = [o for o in TINY if not o.startswith("data.") or "size" in o] + ["data.kind=single"]
    unlabelled = distill(
        taught.run, data=photos / "train", out=tmp_path / "photos", recipe="dense", overrides=alone, device="cpu"
    )
    assert "classes" not in unlabelled.losses and "soft" in unlabelled.losses


def test_a_run_goes_on_bit_for_bit(photos, tmp_path):
    run(photos, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(photos, tmp_path / "broken", on_event=stop_after(4))
    distill(resume=tmp_path / "broken", device="cpu")
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "broken")]
    assert logs[0] == logs[1] and json.loads(logs[0].splitlines()[-1])["step"] == 6


def test_what_it_makes_of_photos_is_written_in_colours(photos, taught, tmp_path):
    colours = {tuple(colour) for colour in class_colours(CLASSES).tolist()}
    export_onnx(taught.student, tmp_path / "g.onnx")
    for model, out in ((taught.run, "torch"), (tmp_path / "g.onnx", "onnx")):
        generate(model, photos / "test", tmp_path / out)
        made = np.asarray(Image.open(tmp_path / out / "0.png"))
        assert {tuple(pixel) for pixel in made.reshape(-1, 3).tolist()} <= colours


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.label_target=colour"], "data.label_target=onehot"),
        (["data.direction=BtoA"], "data.direction so that the label maps are the target"),
        (["algorithm.soft=1"], "algorithm.soft needs a teacher's scores"),
        (["algorithm.classes=0"], "both weights are 0"),
        (["train.best_by=l1_target"], "needs pictures, but these networks output class scores"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(photos, tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        run(photos, tmp_path / "run", "data.held_out=1", *overrides)


def test_metrics_of_pictures_are_refused(photos, taught):
    with pytest.raises(UsageError, match="metric ssim_target needs pictures, but these networks output class scores"):
        evaluate(taught.run, data=photos, metrics=["ssim_target"], device="cpu")
