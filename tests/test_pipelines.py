"""Pipelines: stages that begin with each other's products, each an ordinary run, resumed in the right one."""

import io
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console as Rich
from safetensors.torch import load_file
from teach_toys import toy_pairs
from toys import TOY, stop_after, toy_images, toy_teacher_file

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.commands import prune as pruning
from vemcompress.commands.distill import PipelineResult, distill
from vemcompress.commands.seeds import distill_seeds, evaluate_seeds
from vemcompress.commands.teach import teach
from vemcompress.console.talk import Talk
from vemcompress.errors import InputError, Interrupted, NumericalError, RecipeError, UsageError
from vemcompress.recipe.stages import Stage, skipped_stages
from vemcompress.system.files import sha256_file

pytestmark = pytest.mark.usefixtures("one_thread")

PRUNING = [o for o in TOY if not o.startswith("student.")]
TAUGHT = """
[data]
kind = "paired"
size = 32
[student]
width = 2
[algorithm]
name = "omgd"
features = "none"
[information]
name = "vem"
channels = 2
steps = 2
[train]
steps = 4
batch = 2
log_every = 1
sample_every = 100
checkpoint_every = 2
[[stages]]
name = "teach"
do = "teach"
recipe.gan = { name = "pix2pix", discriminator = { width = 2 } }
recipe.teacher.network = { family = "unet", width = 2, downs = 5 }
[[stages]]
name = "distill"
do = "distill"
teacher = "teach"
recipe.train.steps = 6
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return toy_pairs(tmp_path_factory.mktemp("data") / "pairs", 6)


@pytest.fixture
def taught(tmp_path):
    """The file of a recipe that teaches and then distils."""
    path = tmp_path / "taught.toml"
    path.write_text(TAUGHT)
    return path


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """An unbroken run of that recipe and its result."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "taught.toml").write_text(TAUGHT)
    return folder / "x", distill(data=pairs, out=folder / "x", recipe=folder / "taught.toml", device="cpu")


@pytest.fixture(scope="module")
def pruned(inputs, tmp_path_factory):
    """An unbroken run of the recipe that prunes first."""
    out = tmp_path_factory.mktemp("pruned") / "x"
    return out, prune(inputs, out)


def prune(inputs, out: Path, *overrides: str, **options) -> PipelineResult:
    given = {"data": inputs[1], "out": out, "recipe": "prune_omgd", "device": "cpu"} | options
    return distill(inputs[0], overrides=[*PRUNING, *overrides], **given)


def same(a: Path, b: Path, *names: str) -> None:
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def titles(events: list[dict]) -> list[str]:
    return [event["title"] for event in events if event["event"] == "stage"]


def stopping_in(title: str, step: int, events: list[dict]):
    """SIGTERM after a step within a stage."""

    def on_event(event: dict) -> None:
        events.append(event)
        if event["event"] == "step" and event["step"] == step and title in titles(events)[-1]:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


# -- the stages -----------------------------------------------------------------------------------------------------


def test_each_stage_is_the_run_that_it_is_alone(whole, pairs, taught, tmp_path):
    out, result = whole
    first, second = recipes.read(taught).stages
    for stage in (first, second):  # as files of their own
        plan = recipes.of_stage(recipes.read(taught), stage)
        (tmp_path / f"{stage.name}.toml").write_text(plan.toml())
    teach(data=pairs, out=tmp_path / "t", recipe=tmp_path / "teach.toml", device="cpu")
    alone = distill(tmp_path / "t", data=pairs, out=tmp_path / "d", recipe=tmp_path / "distill.toml", device="cpu")
    same(out / "1-teach", tmp_path / "t", "metrics.jsonl", "teacher.safetensors")
    same(out / "2-distill", tmp_path / "d", "metrics.jsonl")
    assert result.stages["distill"].losses == alone.losses
    assert (result.stages["teach"].steps, result.stages["distill"].steps) == (4, 6)


def test_the_pipelines_student_is_the_last_stages(whole):
    out, result = whole
    assert (out / "student.safetensors").read_bytes() == (out / "2-distill/student.safetensors").read_bytes()
    assert (result.student, result.stopped, result.missing) == (str(out / "student.safetensors"), None, ())
    assert vemcompress.load_generator(out).config == vemcompress.load_generator(out / "2-distill").config
    found = vemcompress.evaluate(out, metrics=["ssim_teacher"], device="cpu")
    alone = vemcompress.evaluate(out / "2-distill", metrics=["ssim_teacher"], device="cpu")
    assert (found.metrics, found.step) == (alone.metrics, 6)


def test_a_stages_recipe_is_its_own_and_has_no_stages(whole):
    for name in ("1-teach", "2-distill"):
        plan = recipes.read(whole[0] / name / "recipe.toml")
        assert plan.stages == ()
        assert "stages" not in (whole[0] / name / "recipe.toml").read_text()
    assert recipes.read(whole[0] / "recipe.toml").stages[1].teacher == "teach"


@pytest.mark.parametrize(("stage", "step"), [("teach", 3), ("distill", 1), ("distill", 5)])
def test_a_kill_in_any_stage_resumes_bit_for_bit(whole, pairs, taught, tmp_path, stage, step):
    events, broken = [], tmp_path / "x"
    with pytest.raises(Interrupted, match=rf"^stage {stage}: .*`vemcompress distill --resume {broken}`"):
        distill(data=pairs, out=broken, recipe=taught, device="cpu", on_event=stopping_in(stage, step, events))
    taught.unlink()
    events.clear()
    result = distill(resume=broken, device="cpu", on_event=events.append)
    done = [", done before" if stage == "distill" else "", ""]
    assert titles(events) == [f"stage 1 of 2: teach{done[0]}", "stage 2 of 2: distill"]
    assert next(e["step"] for e in events if e["event"] == "step") == step + 1
    same(broken / "1-teach", whole[0] / "1-teach", "metrics.jsonl", "teacher.safetensors")
    same(broken / "2-distill", whole[0] / "2-distill", "metrics.jsonl")
    assert result.stages["distill"].losses == whole[1].stages["distill"].losses
    found, expected = (load_file(run / "2-distill" / "student.safetensors") for run in (broken, whole[0]))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_until_leaves_the_rest_for_a_resume(whole, pairs, taught, tmp_path):
    first = distill(data=pairs, out=tmp_path / "x", recipe=taught, until="teach", device="cpu")
    assert (first.stopped, first.missing, first.student) == ("until", ("distill",), None)
    assert not (tmp_path / "x" / "2-distill").exists()
    assert vemcompress.evaluate(tmp_path / "x", metrics=["l1_target"], device="cpu").role == "teacher"
    result = distill(resume=tmp_path / "x", device="cpu")
    assert (result.stopped, list(result.stages)) == (None, ["teach", "distill"])
    same(tmp_path / "x" / "2-distill", whole[0] / "2-distill", "metrics.jsonl")


def test_max_hours_are_those_of_all_stages(whole, pairs, taught, tmp_path):
    first = distill(data=pairs, out=tmp_path / "x", recipe=taught, max_hours=1e-9, device="cpu")
    assert (first.stopped, first.missing, first.stages["teach"].steps) == ("max_hours", ("distill",), 1)
    distill(resume=tmp_path / "x", device="cpu")
    same(tmp_path / "x" / "2-distill", whole[0] / "2-distill", "metrics.jsonl")


def test_the_display_says_which_stage_it_is_in(inputs, tmp_path):
    talk = Talk()
    talk.err = Rich(file=io.StringIO(), force_terminal=True, width=100)
    with talk.talking() as on_event:
        prune(inputs, tmp_path / "x", on_event=on_event)
    assert "stage 2 of 2: distill \x1b" in talk.err.file.getvalue()


def test_what_is_done_is_known_without_training(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "moved")
    events = []
    result = distill(resume=tmp_path / "moved", device="cpu", on_event=events.append)
    assert {e["event"] for e in events} == {"stages", "stage", "report"}
    assert result.stages["distill"].losses == whole[1].stages["distill"].losses
    assert result.student == str(tmp_path / "moved" / "student.safetensors")


def test_more_steps_are_the_last_stages(whole, tmp_path):
    out = tmp_path / "x"
    shutil.copytree(whole[0], out)
    result = distill(resume=out, overrides=["train.steps=7"], device="cpu")
    assert (result.stages["teach"].steps, result.stages["distill"].steps) == (4, 7)
    assert sha256_file(out / "student.safetensors") == sha256_file(out / "2-distill" / "student.safetensors")
    with pytest.raises(UsageError, match="stage teach is finished"):
        distill(resume=out, overrides=["stages.teach.train.steps=9"], device="cpu")


def test_a_stage_that_went_on_by_itself_is_the_pipelines_student(whole, tmp_path):
    out = tmp_path / "x"
    shutil.copytree(whole[0], out)
    distill(resume=out / "2-distill", overrides=["train.steps=7"], device="cpu")
    assert distill(resume=out, device="cpu").stages["distill"].steps == 7
    assert sha256_file(out / "student.safetensors") == sha256_file(out / "2-distill" / "student.safetensors")


def test_an_override_that_does_not_fit_a_stage_to_come_is_not_kept(pairs, taught, tmp_path):
    out = tmp_path / "x"
    distill(data=pairs, out=out, recipe=taught, until="teach", device="cpu")
    before = (out / "recipe.toml").read_bytes()
    for override in ("data.size=40", "train.stepz=4"):
        with pytest.raises(RecipeError, match="stage distill"):
            distill(resume=out, overrides=[override], device="cpu")
    assert (out / "recipe.toml").read_bytes() == before
    assert distill(resume=out, overrides=["train.steps=5"], device="cpu").stages["distill"].steps == 5


def test_a_pipeline_that_moved_between_two_stages_goes_on(inputs, pruned, tmp_path):
    with pytest.raises(Interrupted):
        prune(inputs, tmp_path / "old" / "x", on_event=stop_after(4))
    moved = shutil.move(tmp_path / "old", tmp_path / "new") / Path("x")
    distill(resume=moved, device="cpu")
    same(moved / "2-distill", pruned[0] / "2-distill", "metrics.jsonl", "student.safetensors")
    same(moved, pruned[0], "1-prune/student.safetensors")


def test_each_stage_can_be_resumed_by_itself(whole, pruned, tmp_path):
    shutil.copytree(whole[0], tmp_path / "x")
    shutil.copytree(pruned[0], tmp_path / "y")
    assert distill(resume=tmp_path / "x" / "2-distill", device="cpu").steps == 6
    assert teach(resume=tmp_path / "x" / "1-teach", device="cpu").steps == 4
    assert distill(resume=tmp_path / "y" / "1-prune", device="cpu") == pruning.known(
        vemcompress.runs.folder.RunFolder(tmp_path / "y" / "1-prune")
    )
    with pytest.raises(UsageError, match="distill --resume"):
        teach(resume=tmp_path / "x", device="cpu")


# -- pruning --------------------------------------------------------------------------------------------------------


def test_prune_omgd_begins_with_a_quarter_of_the_teachers_macs(pruned):
    out, result = pruned
    found = result.stages["prune"]
    assert 0.15 < found.after["macs"]["true"] / found.before["macs"]["true"] <= 0.25
    plan = recipes.read(out / "2-distill" / "recipe.toml")
    assert plan.student.source == str(out / "1-prune" / "student.safetensors")
    assert plan.student.sha256 == sha256_file(out / "1-prune" / "student.safetensors")
    small, last = (vemcompress.load_generator(out / name) for name in ("1-prune", "2-distill"))
    assert small.config == last.config


def test_a_stage_that_prunes_tells_what_it_did_and_can_be_evaluated(pruned, inputs):
    folder = pruned[0] / "1-prune"
    made = json.loads((folder / "environment.json").read_text())
    assert made["pruned"]["method"] == "l1"
    assert made["teacher"]["sha256"] == sha256_file(inputs[0])
    assert vemcompress.evaluate(folder, metrics=["ssim_teacher"], device="cpu").metrics["ssim_teacher"] > 0


@pytest.mark.parametrize("lost", ["student.safetensors", "environment.json"])
def test_a_kill_while_it_prunes_gives_the_same_file(pruned, inputs, tmp_path, monkeypatch, lost):
    write = pruning.write_atomically

    def killed(path, data):
        if Path(path).name == lost:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(pruning, "write_atomically", killed)
    monkeypatch.setattr("vemcompress.runs.folder.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(inputs, tmp_path / "x")
    monkeypatch.undo()
    distill(resume=tmp_path / "x", device="cpu", until="prune")
    same(tmp_path / "x", pruned[0], "1-prune/student.safetensors")


def test_a_budget_that_cannot_be_says_in_which_stage_and_leaves_nothing(inputs, tmp_path):
    with pytest.raises(UsageError, match=r"^stage prune: a target of"):
        prune(inputs, tmp_path / "x", "prune.target_macs=1")
    assert not (tmp_path / "x").exists()


def test_criterion_and_share_are_the_recipes(inputs, tmp_path):
    result = prune(
        inputs, tmp_path / "x", "prune.method=random", "prune.method.seed=3", "prune.share=0.5", until="prune"
    )
    found = result.stages["prune"]
    assert (found.method, found.target) == ("random", int(found.before["macs"]["true"] * 0.5))
    assert result.student == str(tmp_path / "x" / "student.safetensors")


# -- what the user brings -------------------------------------------------------------------------------------------


def test_a_pruned_student_skips_the_stage_that_prunes(inputs, pruned, tmp_path):
    events = []
    small = pruned[0] / "1-prune" / "student.safetensors"
    result = prune(inputs, tmp_path / "x", f"student.source={small}", on_event=events.append)
    assert result.skipped == {"prune": "the student is given"}
    assert titles(events) == ["stage 1 of 2: prune, skipped: the student is given", "stage 2 of 2: distill"]
    told = next(event["stages"] for event in events if event["event"] == "stages")
    assert [stage["state"] for stage in told] == ["skipped, the student is given", "to do"]
    assert not (tmp_path / "x" / "1-prune").exists()
    same(tmp_path / "x" / "2-distill", pruned[0] / "2-distill", "metrics.jsonl")
    assert distill(resume=tmp_path / "x", device="cpu").skipped == result.skipped


def test_a_teacher_of_the_needed_family_skips_the_stage_that_teaches(whole, pairs, taught, tmp_path):
    teacher = whole[0] / "1-teach" / "teacher.safetensors"
    result = distill(teacher, data=pairs, out=tmp_path / "x", recipe=taught, device="cpu")
    assert result.skipped == {"teach": "the teacher is given"}
    assert result.stages["distill"].losses == whole[1].stages["distill"].losses


def test_a_teacher_of_another_family_is_refused(inputs, pairs, taught, tmp_path):
    with pytest.raises(
        RecipeError, match=r"stage teach trains a teacher of the family unet, but .* is of the family resnet"
    ):
        distill(inputs[0], data=pairs, out=tmp_path / "x", recipe=taught, device="cpu")
    assert not (tmp_path / "x").exists()


def test_stages_whose_product_nobody_takes_any_more_are_skipped_too():
    stages = [
        Stage(name="big", do="distill"),
        Stage(name="cut", do="prune", student="big"),
        Stage(name="fine", do="distill", student="cut"),
    ]
    assert list(skipped_stages(stages, {"prune": "given"})) == ["big", "cut"]
    assert skipped_stages(stages, {}) == {}


# -- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ('name = "a"\ndo = "distill"\n[[stages]]\nname = "a"\ndo = "distill"', "two stages are named 'a'"),
        (
            'name = "a"\ndo = "distill"\nstudent = "b"\n[[stages]]\nname = "b"\ndo = "distill"',
            "stage a: takes its student from 'b', which is not an earlier stage",
        ),
        (
            'name = "a"\ndo = "distill"\n[[stages]]\nname = "b"\ndo = "distill"\nteacher = "a"',
            "stage b: takes its teacher from 'a', which gives a student",
        ),
        (
            'name = "a"\ndo = "distill"\n[[stages]]\nname = "b"\ndo = "distill"\nrecipe.train.stepz = 3',
            r"stage b: unknown key 'stepz' in \[train\] \(line 8\). Did you mean 'steps'",
        ),
        ('name = "../a"\ndo = "distill"', "cannot be a stage's name"),
        ('name = "a"\ndo = "dance"', "'dance' is not possible for do"),
        ('name = "a"\ndo = "search"', "stage a: searches a supernet; name the stage that trains it"),
        ('name = "a"\ndo = "distill"\nadversary = "b"', "adversary = 'b' must be an earlier stage"),
        ('name = "b"\ndo = "prune"\n[[stages]]\nname = "a"\ndo = "distill"\nadversary = "b"', "no discriminator"),
        ('name = "a"\ndo = "distill"\nstudnet = "b"', "unknown key 'studnet' in .stages.*'student'"),
        ('name = "a"\ndo = "distill"\nrecipe.stages = []', "its recipe has stages too"),
        ('name = "a"\ndo = "distill"\n[prune]\nshare = 0.5', "there is none; omit it"),
    ],
)
def test_bad_stages_are_refused_in_one_sentence(tmp_path, stages, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "omgd"\n[[stages]]\n{stages}\n')
    with pytest.raises(RecipeError, match=message) as caught:
        recipes.read(path)
    assert "\n" not in str(caught.value)


def test_a_stage_without_a_teacher_is_refused_before_anything_is_taught(pairs, taught, tmp_path):
    taught.write_text(TAUGHT.replace('teacher = "teach"\n', ""))
    with pytest.raises(RecipeError, match="stage distill: has no teacher"):
        distill(data=pairs, out=tmp_path / "x", recipe=taught, device="cpu")
    with pytest.raises(UsageError, match="no teacher: give --teacher"):
        distill(data=pairs, out=tmp_path / "x", recipe="prune_omgd", device="cpu")
    assert not (tmp_path / "x").exists()


def test_a_later_stage_that_does_not_fit_is_refused_before_anything_is_taught(pairs, taught, tmp_path):
    taught.write_text(TAUGHT + "recipe.data.size = 40\n")
    with pytest.raises(RecipeError, match=r"^stage distill: .*data.size 40 does not fit"):
        distill(data=pairs, out=tmp_path / "x", recipe=taught, device="cpu")
    assert not (tmp_path / "x").exists()


def test_a_width_that_no_stage_would_use_is_refused(inputs, tmp_path):
    with pytest.raises(RecipeError, match=r"student.width has no effect, because stage distill uses the student"):
        prune(inputs, tmp_path / "x", "student.width=4")


def test_a_deleted_stage_folder_is_4_and_named(call, whole, tmp_path):
    for gone in ("1-teach", "2-distill"):
        out = tmp_path / gone
        shutil.copytree(whole[0], out)
        shutil.rmtree(out / gone)
        code, _, err = call("distill", "--resume", out)
        assert (code, err.count("\n")) == (4, 1)
        assert f"{out / gone}: is missing" in err and "put the folder back" in err
    assert call("eval", tmp_path / "2-distill")[0] == 4


def test_until_names_a_stage(call, inputs, pruned, tmp_path):
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "x"]
    code, _, err = call(*start, "--recipe", "prune_omgd", "--until", "prun")
    assert (code, err.count("\n")) == (2, 1)
    assert "its stages are prune, distill" in err
    assert call(*start, "--until", "prune")[0] == 2
    assert call("distill", "--resume", pruned[0], "--until", "nope")[0] == 2
    assert call(*start, "--recipe", "prune_omgd", "--seeds", "1,2", "--until", "prune")[0] == 2
    assert not (tmp_path / "x").exists()


def test_nothing_is_left_where_a_check_fails_and_nothing_is_written_over(call, inputs, pruned, tmp_path):
    given = ["--data", inputs[1], "--recipe", "prune_omgd", "--device", "cpu"]
    assert call("distill", "--teacher", "none.pth", *given, "--out", tmp_path / "x")[0] == 4
    assert call("distill", "--teacher", inputs[0], *given[2:], "--out", tmp_path / "x")[0] == 2
    assert not (tmp_path / "x").exists()
    code, _, err = call("distill", "--teacher", inputs[0], *given, "--out", pruned[0])
    assert (code, "already exists" in err) == (2, True)
    (tmp_path / "stages.json").write_text('{"stages": ["../x"], "done": []}')
    assert call("distill", "--resume", tmp_path)[0] == 4


def test_a_nan_says_in_which_stage_and_keeps_what_is_done(inputs, tmp_path):
    with pytest.raises(NumericalError, match=r"^stage distill: step"):
        prune(inputs, tmp_path / "x", "train.lr=1e30")
    assert json.loads((tmp_path / "x" / "stages.json").read_text())["done"] == ["prune"]


def test_other_commands_name_the_one_for_stages(pairs, taught, tmp_path):
    with pytest.raises(RecipeError, match="has stages; run it with `vemcompress distill`"):
        teach(data=pairs, out=tmp_path / "x", recipe=taught, device="cpu")
    with pytest.raises(RecipeError, match=r"\[prune\] needs a stage with do = 'prune'"):
        distill(data=pairs, out=tmp_path / "x", overrides=["prune.share=0.5"], device="cpu")


# -- overrides and seeds --------------------------------------------------------------------------------------------


def test_an_override_is_every_stages_or_that_of_the_named_one(taught):
    plan = recipes.read(taught, ["train.steps=9", "stages.teach.train.steps=3"])
    assert [recipes.of_stage(plan, stage).train.steps for stage in plan.stages] == [3, 9]
    with pytest.raises(RecipeError, match=r"no such stage. Did you mean 'teach'"):
        recipes.read(taught, ["stages.teech.train.steps=3"])


def test_a_pipelines_recipe_reads_back_as_itself(whole, taught):
    plan = recipes.read(whole[0] / "recipe.toml")
    assert plan.stated() == recipes.read(whole[0] / "recipe.toml").stated()
    assert [s.model_dump() for s in plan.stages] == [s.model_dump() for s in recipes.read(taught).stages]


def test_seeds_over_a_pipeline(call, inputs, pruned, tmp_path):
    out, settings = tmp_path / "x", [f"--set={o}" for o in PRUNING]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--recipe", "prune_omgd", "--out", out]
    code, stdout, err = call(*start, "--seeds", "0,1", "--json", "--device", "cpu", *settings)
    assert code == 0, err
    found = json.loads(stdout)
    assert list(found["seeds"]["1"]["stages"]) == ["prune", "distill"]
    assert found["losses"]["ssim"]["n"] == 2
    same(out / "seed-0" / "2-distill", pruned[0] / "2-distill", "metrics.jsonl")
    assert (out / "seed-1/2-distill/metrics.jsonl").read_bytes() != (
        out / "seed-0/2-distill/metrics.jsonl"
    ).read_bytes()
    shutil.rmtree(out / "seed-1")
    code, stdout, err = call("distill", "--resume", out, "--device", "cpu")
    assert code == 0, err
    assert "seed 0 (1 of 2), done before" in err and "stage 1 of 2: prune" in err
    assert "2 students of" in stdout
    assert evaluate_seeds(out, metrics=["ssim_teacher"], device="cpu").metrics["ssim_teacher"].n == 2


def test_a_stopped_stage_of_a_seed_goes_on(inputs, pruned, tmp_path):
    given = {"data": inputs[1], "recipe": "prune_omgd", "overrides": PRUNING, "device": "cpu"}
    with pytest.raises(Interrupted, match=rf"^seed 0: stage distill: .*--resume {tmp_path / 'x'}`"):
        distill_seeds([0], inputs[0], out=tmp_path / "x", on_event=stop_after(4), **given)
    with pytest.raises(InputError, match="seed 0 has no student yet"):
        evaluate_seeds(tmp_path / "x", device="cpu")
    distill_seeds(resume=tmp_path / "x", device="cpu")
    same(tmp_path / "x" / "seed-0" / "2-distill", pruned[0] / "2-distill", "metrics.jsonl")


def test_the_commands_from_a_pipeline_to_a_table(call, inputs, tmp_path):
    out, settings = tmp_path / "x", [f"--set={o}" for o in PRUNING]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--recipe", "prune_omgd", "--out", out]
    code, stdout, err = call(*start, *settings, "--until", "prune", "--device", "cpu")
    assert code == 0, err
    assert "pipeline  prune_omgd: 1 prune (to do), 2 distill (to do)" in err
    assert "after saving; still to do: distill" in stdout and f"next\n  vemcompress distill --resume {out}\n" in stdout
    code, stdout, err = call("distill", "--resume", out, "--json", "--quiet", "--device", "cpu")
    assert (code, err) == (0, "")
    assert json.loads(stdout)["stages"]["distill"]["steps"] == 6
    assert call("inspect", out, "--size", "32")[0] == 0
    assert call("export", out, "--onnx", tmp_path / "x.onnx", "--size", "32")[0] == 0
    code, stdout, err = call("eval", out, "--metric", "ssim_teacher", "--device", "cpu")
    assert code == 0 and "stage 2-distill, the last finished one" in err


def test_another_teacher_in_a_pipelines_place_is_refused(inputs, tmp_path):
    teacher = shutil.copy(inputs[0], tmp_path / "t.safetensors")
    prune((teacher, inputs[1]), tmp_path / "x", until="prune")
    toy_teacher_file(teacher, seed=5)
    (tmp_path / "x" / "stages.json").write_text('{"stages": ["prune", "distill"], "done": []}')
    with pytest.raises(InputError, match=r"stage prune: .*is not the teacher that"):
        distill(resume=tmp_path / "x", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prune.share=0.001", "stage prune: a target of .* needs at least"),
        ("prune.target_macs=1000000000000", "stage prune: .* meets it already"),
        ("stages.teacher.teacher.network.norm=instance", "stage prune: method scale: .* have no scales"),
    ],
)
def test_a_budget_that_a_taught_teacher_cannot_be_pruned_to_is_refused_before_it_is_taught(change, message, tmp_path):
    for domain in "AB":
        toy_images(tmp_path / f"data/train{domain}", 4)
    changes = ["data.size=32", "stages.teacher.teacher.network.width=16", change]
    with pytest.raises(UsageError, match=message):
        vemcompress.distill(data=tmp_path / "data", out=tmp_path / "run", recipe="cat", overrides=changes, device="cpu")
    assert not (tmp_path / "run").exists()
