"""A teacher of which only the outputs are known: pairs take its place, and nothing asks for its network."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from teach_toys import toy_pairs
from test_training import same_run
from toys import TOY, random, stop_after, toy_images

from vemcompress import recipe as recipes
from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.data.batch import Batch
from vemcompress.errors import InputError, Interrupted, RecipeError
from vemcompress.gans.teachers import Recorded, RecordedGenerator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Noise beside white: the outputs of a teacher that paints all white."""
    root = tmp_path_factory.mktemp("pairs")
    for split in ("train", "test"):
        toy_pairs(root / split, 4)
    return root


def run(data, out, *overrides, **options):
    options = {"recipe": "pairs", "device": "cpu"} | options
    return distill(data=data, out=out, overrides=[*TOY, *overrides], **options)


def test_the_lessons_are_the_other_sides_of_the_pairs_and_no_taps():
    batch = Batch(torch.zeros(2, 3, 4, 4), target=torch.rand(2, 1, 4, 4))
    teacher = Recorded(RecordedGenerator(3, 1))
    lessons = teacher(batch, random(), 1, ())
    assert torch.equal(lessons.images[0], batch.target) and lessons.taps == {}
    assert not list(teacher.parameters()) and not teacher.updates() and teacher.pictures(batch.input) == {}


def test_a_run_needs_no_teacher_and_says_where_its_lessons_are_from(pairs, tmp_path):
    result = run(pairs, tmp_path / "run")
    assert result.teacher_parameters is None and set(result.losses) >= {"ssim", "recon", "information"}
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["teacher"] == {"source": "pairs"}
    with safe_open(result.student, "pt") as file:
        assert json.loads(file.metadata()["teacher"])["source"] == "pairs"
    picture = Image.open(tmp_path / "run" / "samples" / "step-000006.png")
    assert picture.width == 3 * 260 + 4  # input | ground truth | student


def test_a_teachers_cache_has_nothing_to_keep_but_fixes_the_views(pairs, tmp_path):
    told = []
    run(pairs, tmp_path / "run", "train.teacher_cache=2", on_event=told.append)
    assert any("nothing is cached" in event.get("assumed", "") for event in told)
    assert not (tmp_path / "run" / "teacher_cache").exists()


def test_it_learns_what_the_pairs_show(pairs, tmp_path):
    """Exactly what a frozen teacher that paints all white would teach."""
    found = run(pairs, tmp_path / "run", "train.steps=40", "train.lr=3e-3")
    made = evaluate(found.run, data=pairs, metrics=["l1_target"], device="cpu")
    assert made.metrics["l1_target"] < 0.1
    assert made.teacher == {}


def test_a_run_goes_on_bit_for_bit(pairs, tmp_path):
    run(pairs, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(pairs, tmp_path / "broken", on_event=stop_after(4))
    distill(resume=tmp_path / "broken", device="cpu")
    for folder in ("whole", "broken"):  # what has no connectors writes no such file
        latest = (tmp_path / folder / "checkpoints" / "latest").read_text().strip()
        path = tmp_path / folder / "checkpoints" / latest
        shutil.copy(path / "energy.safetensors", path / "connectors.safetensors")
    same_run(tmp_path / "whole", tmp_path / "broken")


def test_the_student_may_be_of_any_family_and_of_other_channels(pairs, tmp_path):
    result = run(pairs, tmp_path / "run", "student.family=unet", "student.downs=5", "student.out_channels=1")
    assert recipes.read(tmp_path / "run" / "recipe.toml").student.out_channels == 1
    assert result.parameters > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.kind=single"], "set data.kind = 'paired'"),
        (["algorithm.name=gcc"], "GCC needs the teacher's network, but teacher.source = 'pairs'"),
        (["algorithm.name=dmad"], "DMAD needs the teacher's network"),
        (["algorithm.name=cagc"], "latent input"),
        (["algorithm.channel=1"], "has no named feature maps; set it to 0"),
        (["gan.name=pix2pix"], "which a .gan. needs; give --teacher"),
        (["student.source=teacher"], "needs an existing teacher"),
    ],
)
def test_what_needs_more_than_outputs_is_refused_with_the_reason(pairs, tmp_path, overrides, message):
    toy = [] if any("algorithm.name" in one for one in overrides) else ["algorithm.features=none"]
    toy = [o for o in toy if not any("student.source" in one for one in overrides)]
    with pytest.raises(RecipeError, match=message):
        distill(data=pairs, out=tmp_path / "run", recipe="pairs", overrides=["data.size=32", *toy, *overrides])
    assert not (tmp_path / "run").exists()


def test_stages_need_the_teachers_network(pairs, tmp_path):
    with pytest.raises(RecipeError, match="which stages need; give --teacher"):
        run(pairs, tmp_path / "run", "teacher.source=pairs", "data.kind=paired", recipe="prune_omgd")


def test_one_side_missing_is_told_by_name(tmp_path):
    toy_images(tmp_path / "a" / "A")
    toy_images(tmp_path / "b" / "trainB")
    for root, message in (
        ("a", "has A/, but B/ with the other side"),
        ("b", "has trainB/, but trainA/ with the other side"),
    ):
        with pytest.raises(InputError, match=message):
            run(tmp_path / root, tmp_path / "run")


def test_a_run_from_pairs_goes_on_with_no_other_teacher(pairs, inputs, tmp_path):
    run(pairs, tmp_path / "run", "train.steps=2")
    with pytest.raises(InputError, match="is not the teacher that"):
        distill(inputs[0], resume=tmp_path / "run", overrides=["train.steps=3"], device="cpu")


def test_a_teacher_that_is_given_takes_the_place_of_the_pairs(pairs, inputs, tmp_path):
    result = run(pairs, tmp_path / "run", "train.steps=1", teacher=inputs[0])
    assert result.teacher_parameters > 0
    assert np.asarray(Image.open(tmp_path / "run" / "samples" / "teacher.png")).size
