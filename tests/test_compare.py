"""One table over runs: kept evaluations, refusals, mean and spread, Pareto fronts, files."""

import csv
import json
import shutil
from math import sqrt

import numpy as np
import pytest
from PIL import Image
from toys import TOY, toy_images, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.commands.compared import Member
from vemcompress.commands.comparison_rows import pareto
from vemcompress.commands.distill import distill
from vemcompress.commands.seeds import Spread, distill_seeds
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation.conditions import digest
from vemcompress.runs import panels as drawing
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.panels import Mark, panels

pytestmark = pytest.mark.usefixtures("one_thread", "no_inception")

SHORT = [o for o in TOY if not o.startswith(("information", "train.steps"))] + [
    "train.steps=3",
    "information.name=none",
]
ON = {"device": "cpu", "latency": False}
METRICS = ["ssim_teacher", "psnr_teacher"]


@pytest.fixture(scope="module")
def folder(inputs):
    """Runs `a` and `b` that differ in the seed, `narrow`, and `seeds` of two."""
    home = inputs[0].parent / "runs"
    for name, own in {"a-seed1": ["train.seed=1"], "a-seed2": ["train.seed=2"], "narrow": ["student.width=2"]}.items():
        distill(inputs[0], data=inputs[1], out=home / name, overrides=[*SHORT, *own], device="cpu")
    distill_seeds([3, 4], inputs[0], data=inputs[1], out=home / "seeds", overrides=SHORT, device="cpu")
    return home


@pytest.fixture
def runs(folder, tmp_path):
    """Copies, for tests that change them."""
    return shutil.copytree(folder, tmp_path / "runs")


def kept(run):
    return json.loads((run / "evaluation.json").read_text())


def evaluated(events):
    return [event["title"].split("/")[-1] for event in events if event["event"] == "stage"]


def test_an_evaluation_is_kept_and_taken_until_the_student_changes(runs, inputs):
    told = []
    alone = vemcompress.evaluate(runs / "narrow", device="cpu")
    assert kept(runs / "narrow")["evaluation"]["metrics"] == alone.metrics
    first = vemcompress.compare([runs / "narrow", runs / "a-seed1"], on_event=told.append, **ON)
    assert evaluated(told) == ["a-seed1 (2 of 2)"]
    assert (
        first.rows[[row.name for row in first.rows].index("narrow")].metrics["ssim_teacher"].mean
        == alone.metrics["ssim_teacher"]
    )
    distill(resume=runs / "narrow", overrides=["train.steps=4"], device="cpu")
    told.clear()
    vemcompress.evaluate(runs / "a-seed1", metrics=["l1_teacher"], device="cpu")  # less is no reason to forget
    again = vemcompress.compare([runs / "narrow", runs / "a-seed1"], on_event=told.append, **ON)
    assert evaluated(told) == ["narrow (1 of 2)"]
    assert {row.name: row.steps for row in again.rows} == {"narrow": 4, "a-seed1": 3}
    assert all("ssim_teacher" in row.metrics for row in again.rows)


@pytest.mark.parametrize("damage", ["", "[]", '{"version": 1}', "other", "conditions"])
def test_a_damaged_evaluation_is_made_anew_with_a_word(runs, damage):
    vemcompress.evaluate(runs / "narrow", device="cpu")
    path, told = runs / "narrow" / "evaluation.json", []
    said = kept(runs / "narrow")
    said["evaluation"]["metrics" if damage == "other" else "conditions"] = {"ssim_teacher": "high", "size": 3}
    path.write_text(json.dumps(said) if damage in ("other", "conditions") else damage)
    vemcompress.compare([runs / "narrow"], on_event=told.append, **ON)
    assert evaluated(told) == ["narrow (1 of 1)"]
    assert any("evaluation.json: is damaged" in event.get("message", "") for event in told)
    assert kept(runs / "narrow")["evaluation"]["metrics"]


def test_other_images_are_refused_until_data_makes_one_protocol(runs, tmp_path):
    others, told = toy_images(tmp_path / "others", 5), []
    pair = [runs / "a-seed1", runs / "narrow"]
    vemcompress.evaluate(pair[0], data=others, device="cpu")
    with pytest.raises(
        UsageError, match=r"a-seed1 and .*narrow: were evaluated on different images \(5 of .*others, and 4 of .*--data"
    ):
        vemcompress.compare(pair, **ON)
    result = vemcompress.compare(pair, data=others, on_event=told.append, **ON)
    assert result.images == 5
    assert kept(pair[1])["evaluation"]["images"] == 5
    assert sum(event["event"] == "eval" for event in told) == 1  # the first's was made on these already


def test_images_are_known_by_their_contents(tmp_path):
    a, b = (sorted(toy_images(tmp_path / name, 2).iterdir()) for name in "ab")
    assert digest(a) == digest(b) != digest(b[:1])
    pixels = np.array(Image.open(b[0]))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(b[0])
    assert digest(a) != digest(b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 40}, r"images of different sizes \(40, and 32\); give --size N"),
        ({"real": "real"}, None),
        ({"seed": 5}, r"different seeds \(5, and 0\)"),
    ],
)
def test_conditions_that_differ_are_named(runs, tmp_path, options, message):
    if "real" in options:
        options = {"real": toy_images(tmp_path / "real", 3)}
    vemcompress.evaluate(runs / "a-seed1", device="cpu", **options)
    pair = [runs / "a-seed1", runs / "narrow"]
    if message is None:  # what only one was compared with is no figure of the other
        assert "ssim_teacher" in vemcompress.compare(pair, **ON).rows[0].metrics
        return
    with pytest.raises(UsageError, match=message):
        vemcompress.compare(pair, **ON)


def test_runs_of_other_data_are_refused_and_named(runs, inputs, tmp_path):
    other = toy_images(tmp_path / "copy", 4)  # the same images in another place
    distill(inputs[0], data=other, out=tmp_path / "run", overrides=SHORT, device="cpu")
    pair = [runs / "narrow", tmp_path / "run"]
    with pytest.raises(UsageError, match=r"narrow and .*run: were trained on different data \(.*images, and .*copy\)"):
        vemcompress.compare(pair, **ON)
    assert len(vemcompress.compare(pair, data=other, **ON).rows) == 2


def test_with_two_teachers_nothing_is_compared_with_them(runs, inputs, tmp_path, squeezenet_weights):
    teacher = toy_teacher_file(tmp_path / "other.safetensors", seed=1)
    distill(teacher, data=inputs[1], out=tmp_path / "run", overrides=SHORT, device="cpu")
    pair = [runs / "narrow", tmp_path / "run"]
    with pytest.raises(UsageError, match=r"no metric can be compared: .*2 different teachers"):
        vemcompress.compare(pair, metrics=["ssim_teacher"], **ON)
    more = {"features": "squeezenet1_1", "features_weights": squeezenet_weights, "real": inputs[1]}
    result = vemcompress.compare(pair, **more, **ON)
    assert result.by == "frechet_squeezenet1_1" and not result.higher_is_better and result.teacher is None
    assert set(result.rows[0].metrics) == {"frechet_squeezenet1_1", "mmd_squeezenet1_1"}
    assert "different teachers" in result.left_out["ssim_teacher"]


def test_mean_and_spread_as_by_hand_of_a_folder_and_of_runs_apart(folder):
    several = [folder / "a-seed1", folder / "a-seed2", folder / "narrow", folder / "seeds"]
    found = {row.name: row for row in vemcompress.compare(several, metrics=["ssim_teacher"], **ON).rows}
    assert list(map(len, (found[n].seeds for n in ("a-seed1", "a-seed2", "narrow", "seeds")))) == [1, 1, 1, 2]
    pair = [kept(folder / "seeds" / f"seed-{seed}")["evaluation"]["metrics"]["ssim_teacher"] for seed in (3, 4)]
    spread = Spread(pytest.approx(sum(pair) / 2), pytest.approx(abs(pair[0] - pair[1]) / sqrt(2)), 2)
    assert found["seeds"].metrics["ssim_teacher"] == spread
    merged = {
        row.name: row for row in vemcompress.compare(several[:3], seeds=True, metrics=["ssim_teacher"], **ON).rows
    }
    assert set(merged) == {"a", "narrow"} and merged["a"].seeds == (1, 2)
    mean = (found["a-seed1"].metrics["ssim_teacher"].mean + found["a-seed2"].metrics["ssim_teacher"].mean) / 2
    assert merged["a"].metrics["ssim_teacher"].mean == pytest.approx(mean)
    assert merged["a"].macs.mean > merged["narrow"].macs.mean
    whole = vemcompress.compare(several, seeds=True, metrics=["ssim_teacher"], **ON).rows
    assert sorted(len(row.seeds) for row in whole) == [1, 4]


def test_a_pipelines_seed_is_no_difference_in_its_stages_either(tmp_path):
    text = "[[stages]]\nname='s'\ndo='distill'\nrecipe.train.steps=6\nrecipe.train.seed="
    members = []
    path = tmp_path / "recipe.toml"
    for seed in ("1", "2", "2\nrecipe.train.log_every=7"):
        path.write_text(f"[train]\nseed = {seed[0]}\n{text}{seed}\n")
        members.append(Member(tmp_path, recipes.read(path), RunFolder(tmp_path)).apart_from_seed())
    assert members[0] == members[1] != members[2]


@pytest.mark.parametrize(
    ("costs", "values", "higher", "front"),
    [
        ([1, 2, 3], [5, 4, 6], False, [True, True, False]),
        ([1, 2, 3], [5, 4, 6], True, [True, False, True]),
        ([1, 1, 1], [2, 2, 3], False, [True, True, False]),  # equal points are both on it
        ([2, 1], [3, 3], False, [False, True]),
        ([1, None, 3], [5, 1, None], False, [True, False, False]),
    ],
)
def test_the_pareto_front_as_by_hand(costs, values, higher, front):
    assert pareto(costs, values, higher) == front


def test_rows_are_sorted_and_marked_and_the_teacher_is_one(folder, inputs):
    result = vemcompress.compare(
        [folder / "a-seed1", folder / "narrow"], by="psnr_teacher", metrics=METRICS, device="cpu", threads=1
    )
    values = [row.metrics["psnr_teacher"].mean for row in result.rows]
    assert result.higher_is_better and values == sorted(values, reverse=True)
    front = pareto([row.macs.mean for row in result.rows], values, True)
    assert [("macs" in row.front) for row in result.rows] == front
    assert all(row.p50_ms > 0 for row in (*result.rows, result.teacher)) and result.threads == 1
    teacher = vemcompress.load_generator(inputs[0])
    assert result.teacher.macs.mean == teacher.config.cost(32, 32).macs()["true"]
    paper = vemcompress.compare([folder / "narrow"], count_as="paper", **ON).rows[0].macs.mean
    assert paper > vemcompress.compare([folder / "narrow"], **ON).rows[0].macs.mean


def test_the_command_prints_json_a_table_and_files(call, folder, tmp_path):
    files = ["--csv", tmp_path / "t.csv", "--png", tmp_path / "t.png"]
    code, out, err = call("compare", folder / "a-seed1", folder / "seeds", "--no-latency", "--json", *files)
    assert code == 0, err
    assert [row["name"] for row in json.loads(out)["rows"]].count("seeds") == 1
    table = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert {row["run"] for row in table} == {"teacher", "a-seed1", "seeds"}
    row = next(row for row in table if row["run"] == "seeds")
    assert row["seeds"] == "3 4" and float(row["ssim_teacher_std"]) > 0
    assert Image.open(tmp_path / "t.png").size[0] >= 500
    code, out, _ = call("compare", folder / "a-seed1", folder / "seeds", "--no-latency")
    line = next(line for line in out.splitlines() if line.startswith("seeds"))
    assert code == 0 and " ± " in line and "ssim_teacher *" in out


def test_what_cannot_be_compared_is_refused(folder, inputs, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong, kind, message in (
        ([], UsageError, "no run"),
        ([tmp_path / "empty"], InputError, "is not a run folder"),
        ([inputs[0]], InputError, "is not a run folder"),
        ([folder / "narrow", folder / "narrow"], UsageError, "is listed twice"),
    ):
        with pytest.raises(kind, match=message):
            vemcompress.compare(wrong, **ON)
    for wrong, message in (
        ({"by": "fids"}, "'fids' is not known"),
        ({"by": "miou"}, "no such metric"),
        ({"count_as": "half"}, "cannot be counted"),
        ({"png": tmp_path}, "is a folder"),
    ):
        with pytest.raises(UsageError, match=message):
            vemcompress.compare([folder / "narrow"], **wrong, **ON)
    shutil.copytree(folder / "a-seed1", tmp_path / "copy")
    with pytest.raises(UsageError, match="same recipe and seed 1"):
        vemcompress.compare([folder / "a-seed1", tmp_path / "copy"], seeds=True, **ON)


def test_no_label_of_the_picture_is_cut_off_or_on_another(monkeypatch):
    written = []
    draw = drawing.ImageDraw.ImageDraw.text

    def text(self, at, text, *arguments, **options):
        anchor = options.get("anchor")
        written.append((self.textbbox(at, text, font=options["font"], anchor=anchor), anchor))
        return draw(self, at, text, *arguments, **options)

    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "text", text)
    names = [f"a-rather-long-name-of-a-run-{number}" for number in range(20)]
    marks = [Mark(1.0, 20 + 0.01 * number, std=0.1, front=number == 0) for number in range(20)]  # on one spot
    picture = panels(names, [("MACs (true), G", marks), ("latency", [None, *marks[1:]])], "fid")
    size = picture.shape[1], picture.shape[0]
    assert all(min(box) >= 0 and box[2] <= size[0] and box[3] <= size[1] for box, _ in written)
    numbers = [box for box, anchor in written if anchor == "mm"]
    assert len(numbers) == 39
    for place, one in enumerate(numbers):
        for other in numbers[:place]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
