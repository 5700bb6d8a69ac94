"""A matrix of runs: what its file may say, runs of recipes x add-ons x seeds, resumed together, failures apart."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.commands.distill import distill
from vemcompress.commands.matrix import distill_matrix
from vemcompress.commands.matrix_file import read_matrix
from vemcompress.errors import InputError, Interrupted, RecipeError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread", "no_inception")

FILE = """
[matrix]
recipes = ["omgd", "kd"]
information = ["none", "vem"]
seeds = [1]

[common]
"data.size" = 32
data.held_out = 1
"student.width" = 4
"train.steps" = 3
"train.checkpoint_every" = 1
"train.log_every" = 1

[recipe.omgd]
"algorithm.features" = "none"

[recipe.kd]
"train.steps" = 2

[information.vem]
"information.channels" = 2
"information.steps" = 2
"""
NAMES = ["omgd-none-seed1", "omgd-vem-seed1", "kd-none-seed1", "kd-vem-seed1"]


def matrix(folder: Path, text: str = FILE) -> Path:
    path = folder / "m.toml"
    path.write_text(text)
    return path


def make(inputs, folder: Path, text: str = FILE, **options):
    own = {"data": inputs[1], "out": folder / "out", "device": "cpu"} | options
    return distill_matrix(matrix(folder, text), inputs[0], **own)


@pytest.fixture(scope="module")
def whole(inputs):
    folder = inputs[0].parent
    return folder / "out", make(inputs, folder)


def same_run(a: Path, b: Path) -> None:
    for name in ("metrics.jsonl", "student.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_every_combination_is_the_run_that_it_is_alone(whole, inputs, tmp_path):
    out, result = whole
    assert list(result.runs) == NAMES and not result.failed and result.exit_code == 0
    assert [run.steps for run in result.runs.values()] == [3, 3, 2, 2]
    own = ["data.size=32", "data.held_out=1", "student.width=4", "train.steps=2", "train.checkpoint_every=1"]
    own += [
        "train.log_every=1",
        "information.name=vem",
        "information.channels=2",
        "information.steps=2",
        "train.seed=1",
    ]
    distill(inputs[0], data=inputs[1], out=tmp_path / "alone", recipe="kd", overrides=own, device="cpu")
    same_run(tmp_path / "alone", out / "kd-vem-seed1")
    row = result.rows[3]
    assert (row.recipe, row.algorithm, row.information, row.seed, row.steps) == ("kd", "kd", "vem", 1, 2)
    assert row.best["metric"] == "ssim_teacher" and row.macs > 0 and row.loss > 0
    assert result.next == f"vemcompress compare {out}"


def test_compare_takes_the_folder(whole):
    rows = vemcompress.compare([whole[0]], latency=False, device="cpu").rows
    assert {row.name for row in rows} == set(NAMES)


def test_a_killed_matrix_goes_on_where_it_was(whole, inputs, tmp_path):
    begun = []

    def kill(event):
        begun.extend([1] if event["event"] == "plan" else [])
        if event["event"] == "step" and event["step"] == 2 and len(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"run omgd-vem-seed1: stopped by SIGTERM at step 2 of 3.*--resume .*/out`"):
        make(inputs, tmp_path, on_event=kill)
    out, told = tmp_path / "out", []
    matrix(tmp_path, "changed")  # the folder knows all that it needs
    result = distill_matrix(resume=out, device="cpu", on_event=told.append)
    titles = [event["title"] for event in told if event["event"] == "stage"]
    assert titles == [f"run {n} of 4: {name}" + ", done before" * (n == 1) for n, name in enumerate(NAMES, 1)]
    assert [event["step"] for event in told if event["event"] == "step"] == [3, 1, 2, 1, 2]
    for name in NAMES:
        same_run(whole[0] / name, out / name)
    assert [row.name for row in result.rows] == NAMES


def test_a_run_that_fails_is_told_and_the_others_are_made(inputs, tmp_path, call):
    text = FILE.replace("[recipe.kd]\n", '[recipe.kd]\n"train.lr" = 1e30\n').replace('["omgd", "kd"]', '["kd", "omgd"]')
    where = ["--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "out"]
    code, out, _ = call("distill", "--matrix", matrix(tmp_path, text), *where, "--json")
    found = json.loads(out)
    assert code == 5 and list(found["runs"]) == NAMES[:2]
    assert list(found["failed"]) == NAMES[2:] and "NaN or Inf" in found["failed"]["kd-none-seed1"]["reason"]
    assert json.loads((tmp_path / "out" / "matrix.json").read_text())["done"] == NAMES[:2]
    code, out, err = call("distill", "--resume", tmp_path / "out")  # tried again
    assert code == 5 and "failed  kd-none-seed1" in out and "compare" in out
    code, out, err = call("compare", tmp_path / "out", "--no-latency", "--json", "--device", "cpu")
    assert len(json.loads(out)["rows"]) == 2 and "not finished and are omitted: kd-none-seed1" in err


def test_keys_of_a_recipe_win_over_all_and_paths_start_from_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "kd"\n')
    text = """
    [matrix]
    recipes = ["mine.toml", "gcc"]
    information = ["vem"]
    seeds = [2, 1]
    [common]
    train.steps = 5
    "teacher.source" = "teachers/t.pth"
    "data.roots" = "images"
    [recipe.mine]
    "train.steps" = 6
    "student.source" = "s.safetensors"
    "teacher.source" = "/other/t.pth"
    [recipe.gcc]
    "teacher.source" = ""
    [information.vem]
    information.weight = 0.5
    """
    entries = list(read_matrix(matrix(tmp_path, text)).entries())
    assert [entry.name for entry in entries] == [
        f"{name}-vem-seed{seed}" for seed in (2, 1) for name in ("mine", "gcc")
    ]
    mine, gcc = entries[:2]
    assert (mine.teacher, gcc.teacher) == ("/other/t.pth", "")
    plan = recipes.read(mine.recipe, mine.overrides)
    assert (plan.train.steps, plan.information.weight, plan.train.seed) == (6, 0.5, 2)
    assert plan.student.source == str(tmp_path / "s.safetensors") and plan.data.roots == (str(tmp_path / "images"),)
    plan = recipes.read(gcc.recipe, gcc.overrides)
    assert plan.teacher.source is None and plan.train.steps == 5


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (("seeds = [1]", "seeds = [1]\nsteps = 3"), RecipeError, r"unknown key 'steps' in \[matrix\] \(line 6\)"),
        (("[common]", "[comon]"), RecipeError, r"unknown key 'comon' \(line 7\). Did you mean 'common'"),
        (("[recipe.kd]", "[recipe.kt]"), RecipeError, r"unknown key 'kt' in \[recipe\] \(line 18\). Did you mean 'kd'"),
        (("[information.vem]", "[information.vid]"), RecipeError, "unknown key 'vid'"),
        (('"omgd", "kd"', '"omgd", "kdd"'), RecipeError, r"'kdd' is not known. Did you mean 'kd'.*\(line 3\)"),
        (('"none", "vem"', '"none", "wem"'), RecipeError, r"unknown add-on 'wem' in \[matrix\] \(line 4\). Did you"),
        (('["omgd", "kd"]', "[]"), RecipeError, r"recipes must be a non-empty list in \[matrix\] \(line 3\)"),
        (("seeds = [1]", ""), RecipeError, "seeds must be a non-empty list"),
        (("seeds = [1]", "seeds = []"), RecipeError, "seeds must be a non-empty list"),
        (("seeds = [1]", "seeds = [1, 1]"), UsageError, "1 is listed twice"),
        (('"omgd", "kd"', '"kd", "kd"'), RecipeError, "'kd' is listed twice"),
        (('"data.size" = 32', '"train.seed" = 3'), UsageError, r"\[matrix\] sets train.seed"),
        (('"data.size" = 32', "information.name = 'vid'"), RecipeError, r"\[matrix\] already sets information.name"),
        (('"train.steps" = 3', '"train.stops" = 3'), RecipeError, r"unknown key 'stops'.*m.toml, line 11\).*'steps'"),
        (('"information.steps" = 2', '"information.stops" = 2'), RecipeError, r"run omgd-vem.*m.toml, line 23\)"),
        (("[matrix]", "[matrix"), RecipeError, "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_with_its_line_and_leaves_nothing(inputs, tmp_path, change, kind, message):
    assert change[0] in FILE
    with pytest.raises(kind, match=message):
        make(inputs, tmp_path, FILE.replace(*change, 1))
    assert not (tmp_path / "out").exists()


def test_what_can_be_checked_is_checked_before_a_run_trains(inputs, tmp_path):
    with pytest.raises(InputError, match=r"none.toml: cannot be read: No such file"):
        distill_matrix(tmp_path / "none.toml", inputs[0], data=inputs[1], out=tmp_path / "out")
    with pytest.raises(InputError, match=r"run .*none.pth"):
        make(inputs, tmp_path, FILE.replace("[recipe.kd]\n", '[recipe.kd]\n"teacher.source" = "none.pth"\n'))
    with pytest.raises(UsageError, match="run kd-none-seed1: no teacher"):
        make(inputs, tmp_path, FILE.replace("[recipe.kd]\n", '[recipe.kd]\n"teacher.source" = ""\n'))
    with pytest.raises(UsageError, match="no output"):
        make(inputs, tmp_path, out=None)
    with pytest.raises(UsageError, match="the matrix lists the seeds and add-ons"):
        make(inputs, tmp_path, seed=3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("page", "runs"), [("docs/recipes.md", 18), ("docs/rivals.toml", 44)])
def test_the_documents_matrices_are_ones(page, runs, tmp_path):
    text = (Path(__file__).parents[1] / page).read_text()
    blocks = [text] if page.endswith(".toml") else re.findall(r"```toml\n(.*?)```", text, re.S)
    file = next(block for block in blocks if "[matrix]" in block)
    entries = list(read_matrix(matrix(tmp_path, file)).entries())
    assert len(entries) == runs
    for entry in entries:
        assert recipes.read(entry.recipe, entry.overrides).train.steps in (600, 5000)


def test_pipelines_are_runs_too(inputs, tmp_path):
    text = (
        FILE.replace('["omgd", "kd"]', '["prune_omgd"]')
        .replace('"none", "vem"', '"none"')
        .replace('"student.width" = 4\n', "")
    )
    text = (
        text.partition("[recipe.omgd]")[0]
        + '[recipe.prune_omgd]\n"stages.distill.train.steps" = 2\n"algorithm.features" = "none"\n'
    )
    result = make(inputs, tmp_path, text)
    name = "prune_omgd-none-seed1"
    assert list(result.runs[name].stages) == ["prune", "distill"] and result.rows[0].steps == 2
    row = vemcompress.compare([tmp_path / "out"], latency=False, device="cpu").rows[0]
    assert (row.name, row.algorithm, row.steps) == (name, "omgd", 2)
    assert distill_matrix(resume=tmp_path / "out", device="cpu").runs[name].student == result.runs[name].student


def test_the_command_line_refuses_what_a_matrix_has_itself(call, inputs, tmp_path):
    file = matrix(tmp_path)
    for extra in (["--seeds", "1"], ["--recipe", "kd"], ["--until", "x"], ["--seed", "1"], ["--resume", tmp_path]):
        assert call("distill", "--matrix", file, "--out", tmp_path / "out", *extra)[0] == 2
    assert call("distill", "--matrix", tmp_path / "no.toml", "--out", tmp_path / "out")[0] == 4
    assert not (tmp_path / "out").exists()
