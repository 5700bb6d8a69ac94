"""Several seeds: ordinary runs, resumed together, and their mean and spread."""

import json
import os
import shutil
import signal
from math import sqrt
from pathlib import Path

import pytest
from toys import TOY, logged

import vemcompress
from vemcompress.commands.distill import distill
from vemcompress.commands.seeds import Spread, distill_seeds, evaluate_seeds, spread, spreads
from vemcompress.errors import InputError, Interrupted, NumericalError, RecipeError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = (*TOY, "train.steps=4", "train.checkpoint_every=2", "data.held_out=1")
ONLY = {"metrics": ["ssim_teacher"], "device": "cpu"}


def run(inputs, out: Path, seeds, *overrides: str, **options):
    teacher, data = inputs
    return distill_seeds(seeds, teacher, data=data, out=out, overrides=[*SHORT, *overrides], device="cpu", **options)


@pytest.fixture(scope="module")
def whole(inputs):
    """A folder of two seeds' runs and its result."""
    out = inputs[0].parent / "whole"
    return out, run(inputs, out, [1, 2])


def same_run(a: Path, b: Path) -> None:
    for name in ("metrics.jsonl", "student.safetensors", "best/best.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_mean_and_sample_deviation_as_by_hand():
    assert spread([1, 2, 6]) == Spread(3, pytest.approx(sqrt(7)), 3)
    assert spread([0.1] * 3) == Spread(pytest.approx(0.1), 0, 3)
    assert spread([5]) == Spread(5, None, 1)
    assert spreads([{"a": 1, "b": 4}, {"a": 3}]) == {"a": Spread(2, pytest.approx(sqrt(2)), 2), "b": Spread(4, None, 1)}


def test_each_seed_is_the_run_that_it_is_alone(inputs, whole, tmp_path):
    out, result = whole
    distill(inputs[0], data=inputs[1], out=tmp_path / "alone", overrides=[*SHORT, "train.seed=2"], device="cpu")
    same_run(tmp_path / "alone", out / "seed-2")
    assert (out / "seed-1" / "metrics.jsonl").read_bytes() != (out / "seed-2" / "metrics.jsonl").read_bytes()
    assert [r.run for r in result.seeds.values()] == [str(out / "seed-1"), str(out / "seed-2")]


def test_the_result_spreads_the_last_losses_and_the_best_values(whole):
    out, result = whole
    last = [logged(out / f"seed-{s}")[-1] for s in (1, 2)]
    ssim = [line["ssim"] for line in last]
    assert result.losses["ssim"] == Spread(
        pytest.approx(sum(ssim) / 2), pytest.approx(abs(ssim[0] - ssim[1]) / sqrt(2)), 2
    )
    assert not {"step", "lr"} & result.losses.keys()
    best = [json.loads((out / f"seed-{s}/best/best.json").read_text())["value"] for s in (1, 2)]
    assert (result.best["metric"], result.best["on"]) == ("ssim_teacher", "held_out")
    assert result.best["value"].mean == pytest.approx(sum(best) / 2)


def test_an_interrupted_seed_is_resumed_done_ones_are_skipped_missing_ones_made(inputs, tmp_path):
    whole = run(inputs, tmp_path / "whole", [1, 2, 3])
    broken = tmp_path / "broken"
    with pytest.raises(Interrupted, match=f"seed 2: stopped by SIGTERM at step 3 of 4.*--resume {broken}`"):
        run(inputs, broken, [1, 2, 3], on_event=_stop_in_second_run(3))
    assert not (broken / "seed-3").exists()
    events = []
    result = distill_seeds(resume=broken, device="cpu", on_event=events.append)
    titles = [e["title"] for e in events if e["event"] == "stage"]
    assert titles == ["seed 1 (1 of 3), done before", "seed 2 (2 of 3)", "seed 3 (3 of 3)"]
    assert [e["step"] for e in events if e["event"] == "step"] == [4, 1, 2, 3, 4]
    for seed in (1, 2, 3):
        same_run(tmp_path / "whole" / f"seed-{seed}", broken / f"seed-{seed}")
    assert (result.losses, result.best) == (whole.losses, whole.best)


def _stop_in_second_run(step: int):
    runs = []

    def on_event(event):
        runs.extend([1] if event["event"] == "plan" else [])
        if event["event"] == "step" and event["step"] == step and len(runs) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


def test_what_is_done_is_known_without_teacher_or_training(whole, inputs, tmp_path):
    shutil.copytree(whole[0], tmp_path / "moved")
    events = []
    result = distill_seeds(resume=tmp_path / "moved", teacher=tmp_path / "none", device="cpu", on_event=events.append)
    assert {e["event"] for e in events} == {"stage", "report"}
    assert (result.losses, result.best) == (whole[1].losses, whole[1].best)
    assert result.seeds[2].student == str(tmp_path / "moved" / "seed-2" / "student.safetensors")
    assert result.seeds[2].parameters == whole[1].seeds[2].parameters


def test_more_steps_and_removed_runs_are_made_up_for(whole, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / "seed-1")
    result = distill_seeds(resume=folder, overrides=["train.steps=5"], device="cpu")
    assert [r.steps for r in result.seeds.values()] == [5, 5]
    assert [vemcompress.recipe.read(folder / f"seed-{s}/recipe.toml").train.seed for s in (1, 2)] == [1, 2]


def test_a_run_whose_end_was_not_recorded_still_tells_its_losses(whole, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(whole[0], folder)
    (folder / "seeds.json").write_text('{"seeds": [1, 2], "done": []}')
    assert distill_seeds(resume=folder, device="cpu").losses == whole[1].losses


def test_a_nan_says_in_which_seed_and_keeps_what_is_done(inputs, tmp_path):
    with pytest.raises(NumericalError, match=r"^seed 7: step"):
        run(inputs, tmp_path / "x", [7, 8], "train.lr=1e30")
    assert json.loads((tmp_path / "x" / "seeds.json").read_text()) == {"seeds": [7, 8], "done": []}


@pytest.mark.parametrize("change", [{"teacher": "none.pth"}, {"data": "nowhere"}, {"overrides": ["data.size=50"]}])
def test_nothing_is_left_where_a_check_fails(inputs, tmp_path, change):
    given = {"teacher": inputs[0], "data": inputs[1], "overrides": SHORT, "out": tmp_path / "a" / "b"}
    with pytest.raises((InputError, RecipeError)):
        distill_seeds([1, 2], device="cpu", **given | change)
    assert list(tmp_path.iterdir()) == []


def test_no_run_of_any_seed_is_written_over(inputs, whole, tmp_path):
    with pytest.raises(UsageError, match=f"--resume {whole[0]}, or give another --out"):
        run(inputs, whole[0], [3])
    (tmp_path / "x" / "seed-2").mkdir(parents=True)
    (tmp_path / "x" / "seed-2" / "mine").touch()
    with pytest.raises(UsageError, match="seed-2: already exists"):
        run(inputs, tmp_path / "x", [1, 2])
    assert not (tmp_path / "x" / "seed-1").exists()


def test_a_start_that_was_killed_at_once_is_started_again(inputs, tmp_path):
    (tmp_path / "x" / "seed-1" / "samples").mkdir(parents=True)
    (tmp_path / "x" / "seeds.json").write_text('{"seeds": [1], "done": []}')
    with pytest.raises(InputError, match="none of its runs has started"):
        distill_seeds(resume=tmp_path / "x")
    assert run(inputs, tmp_path / "x", [1]).losses["ssim"].std is None


def test_eval_spreads_every_metric_last_and_best_apart(whole):
    out, _ = whole
    found = evaluate_seeds(out, **ONLY)
    alone = [vemcompress.evaluate(out / f"seed-{seed}", **ONLY) for seed in (1, 2)]
    assert found.metrics["ssim_teacher"] == spread(one.metrics["ssim_teacher"] for one in alone)
    assert found.best["picked_by"] == "ssim_teacher"
    assert found.best["metrics"]["ssim_teacher"] == spread(one.best["metrics"]["ssim_teacher"] for one in alone)
    assert json.loads(json.dumps(found.as_dict()))["seeds"]["2"]["metrics"] == alone[1].metrics


def test_eval_takes_no_mean_over_runs_of_unequal_length(whole, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(whole[0], folder)
    distill(resume=folder / "seed-1", overrides=["train.steps=5"], device="cpu")
    with pytest.raises(InputError, match=f"seed 2 is at step 4 of 5; .*--resume {folder} --steps 5`"):
        evaluate_seeds(folder, **ONLY)
    shutil.rmtree(folder / "seed-2")
    with pytest.raises(InputError, match="seed 2 has no student yet"):
        evaluate_seeds(folder, **ONLY)


def test_where_one_model_is_wanted_a_folder_of_seeds_names_its_runs(whole):
    with pytest.raises(InputError, match=r"several seeds; give one of them, such as .*seed-1"):
        vemcompress.load_generator(whole[0])


def test_the_commands_from_seeds_to_a_table(call, inputs, tmp_path):
    settings, folder = [f"--set={o}" for o in SHORT], tmp_path / "x"
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--out", folder, *settings]
    code, out, err = call(*start, "--seeds", "3,1", "--json")
    assert code == 0, err
    assert list(json.loads(out)["seeds"]) == ["3", "1"]
    code, out, err = call("distill", "--resume", folder, "--quiet")
    assert (code, err) == (0, "")
    assert "mean ± std (n)" in out and "seed 3" in out
    code, out, _ = call("eval", folder, "--metric", "ssim_teacher")
    assert code == 0
    assert any(line.startswith("ssim_teacher") and "±" in line and "(2)" in line for line in out.splitlines())


@pytest.mark.parametrize(
    "extra",
    [
        ["--seeds", "1,two"],
        ["--seeds", ""],
        ["--seeds", "1,2,1"],
        ["--seeds", "-1,2"],
        ["--seeds", "2147483648"],
        ["--seeds", "1,2", "--seed", "3"],
        ["--seeds", "1,2", "--set", "train.seed=3"],
    ],
)
def test_bad_lists_are_2_and_leave_nothing(call, inputs, tmp_path, extra):
    code, out, err = call("distill", "--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "x", *extra)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "x").exists()


def test_a_resumed_folder_has_its_own_seeds(call, whole, tmp_path):
    assert call("distill", "--resume", whole[0], "--seeds", "1,2")[0] == 2
    assert call("distill", "--resume", whole[0], "--seed", "1")[0] == 2
    (tmp_path / "seeds.json").write_text("[1, 2]")
    code, _, err = call("distill", "--resume", tmp_path)
    assert (code, err.count("\n")) == (4, 1)
    assert call("eval", tmp_path)[0] == 4
