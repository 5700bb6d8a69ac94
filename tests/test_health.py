"""A run that diverges with finite numbers gets one warning, and can end with an error."""

import json
from pathlib import Path

import pytest
import torch
from teach_toys import TRAIN, UNET, toy_pairs
from test_stepper import CPU
from torch import nn
from toys import TOY, stop_after, toy_teacher

from vemcompress.commands.distill import distill
from vemcompress.errors import Interrupted, NumericalError
from vemcompress.runs import checkpoint
from vemcompress.training.health import Health, is_constant
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer, Update
from vemcompress.weights.artifact import save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

RUINED = "train.lr=1e9"


def run(inputs, out: Path, *overrides: str, **options):
    """A student's source says its width too."""
    toy = [toy for toy in TOY if not (toy.startswith("student.") and any("student.source" in o for o in overrides))]
    return distill(inputs[0], data=inputs[1], out=out, overrides=[*toy, *overrides], device="cpu", **options)


def judged(*steps: dict[str, float], strict: bool = False) -> tuple[Health, list[dict]]:
    """Of the terms of one update, step by step."""
    events = []
    health = Health(strict, events.append)
    for step, terms in enumerate(steps, 1):
        health.look("student", step, list(terms), list(terms.values()))
    return health, events


# -- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "diverges"),
    [
        ([1.0, 9e3], False),
        ([1.0, 1.1e4], True),  # the second value is not in the mean that it is judged by
        ([2.0, 4.0, 4e4], True),
        ([-1.0, 1.0, -1.0, 0.5], False),  # its plain mean is about 0
        ([0.0, 0.0, 1.0, 50.0], False),  # begins at 0, as a ramp does
        ([1e-7, 1e-7, 200.0], True),
        ([1.0, 9e3, 9e3, 2e4], True),  # ruined by the first step
        ([1.0] * 5 + [5e3] * 20 + [9e3], False),  # the first five alone count
        ([1.0] * 5 + [5e3] * 20 + [2e4], True),
    ],
)
def test_a_loss_diverges_beyond_ten_thousand_times_its_first_mean(values, diverges):
    health, events = judged(*({"recon": value} for value in values))
    assert ("loss" in health.found) == diverges == bool(events)


def test_a_term_that_begins_near_zero_is_measured_with_the_first_total():
    assert not judged({"ssim": 10.0, "ramp": 0.0}, {"ssim": 10.0, "ramp": 900.0})[1]
    assert judged({"ssim": 10.0, "ramp": 0.0}, {"ssim": 10.0, "ramp": 1100.0})[1]


def test_terms_of_opposite_signs_do_not_hide_each_other_in_the_total():
    health, _ = judged({"a": 0.0, "b": 0.01}, {"a": 99.0, "b": -99.0})
    assert health.found["loss"]["what"] == "the student update's total loss"


def test_a_state_judges_on_as_the_health_that_it_was_taken_from():
    health, _ = judged({"recon": 1.0}, {"recon": 3.0})
    restored = Health(False, lambda event: None)
    restored.state = json.loads(json.dumps(health.state))
    for one in (health, restored):
        one.look("student", 3, ["recon"], [2.1e4])
    assert restored.found == health.found and health.found["loss"]["first"] == 2.0


@pytest.mark.parametrize("total", [10**400, "x", None, [1]], ids=["beyond floats", "text", "null", "list"])
def test_a_state_that_cannot_be_is_begun_anew(total):
    health = Health(False, lambda event: None)
    health.state = {"found": {}, "first": {"student": {"ssim": [total, 1]}}}
    assert health.state == {"found": {}, "first": {}}


def test_a_ruined_student_is_told_once_and_is_in_the_result_and_the_run_folder(inputs, tmp_path):
    events = []
    result = run(inputs, tmp_path / "run", RUINED, on_event=events.append)
    (told,) = [event for event in events if event["event"] == "diverged"]
    assert (told["kind"], told["step"]) == ("loss", 2) and "channel" in told["message"]
    assert result.as_dict()["diverged"]["loss"]["value"] > 1e4 * told["first"]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["diverged"] == result.diverged
    assert run(inputs, tmp_path / "sound").diverged == {}


def test_a_resumed_run_tells_it_no_second_time_and_gives_the_same_result(inputs, tmp_path):
    whole = run(inputs, tmp_path / "whole", RUINED)
    with pytest.raises(Interrupted):
        run(inputs, tmp_path / "broken", RUINED, on_event=stop_after(4))
    events = []
    resumed = distill(resume=tmp_path / "broken", device="cpu", on_event=events.append)
    assert resumed.diverged == whole.diverged
    assert "diverged" not in [event["event"] for event in events]
    states = [checkpoint.latest(tmp_path / n / "checkpoints") / "state.json" for n in ("whole", "broken")]
    assert states[0].read_bytes() == states[1].read_bytes()


def test_a_strict_run_that_diverges_ends_with_5_and_keeps_its_checkpoint(call, inputs, tmp_path):
    settings = [f"--set={override}" for override in (*TOY, RUINED, "train.checkpoint_every=1")]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], *settings]
    code, _, err = call(*start, "--out", tmp_path / "a", "--strict")
    assert (code, checkpoint.latest(tmp_path / "a" / "checkpoints").name) == (5, "step-000001")
    assert "step 2: the student update's loss term 'channel' is" in err and "checkpoint is kept" in err
    code, out, err = call(*start, "--out", tmp_path / "b")
    assert code == 0 and "diverged" in out and "warning   step 2" in err
    assert call("distill", "--resume", tmp_path / "b", "--strict")[0] == 5  # it has diverged already


def test_of_several_seeds_the_one_that_has_diverged_is_named_and_fails_where_strict(call, inputs, tmp_path):
    settings = [f"--set={override}" for override in (*TOY, RUINED, "train.steps=2")]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], *settings]
    code, out, err = call(*start, "--out", tmp_path / "runs", "--seeds", "1,2")
    assert code == 0 and out.count("diverged  step 2") == 2, err
    assert call("distill", "--resume", tmp_path / "runs")[0] == 0
    code, _, err = call("distill", "--resume", tmp_path / "runs", "--strict")
    assert code == 5 and "so the run has diverged" in err


def test_a_strict_teacher_that_diverges_ends_with_5_too(call, tmp_path):
    data = toy_pairs(tmp_path / "pairs", 4)
    settings = [f"--set={override}" for override in (*TRAIN, *UNET, "gan.lr=1e9")]
    code, _, err = call("teach", "--data", data, "--out", tmp_path / "run", "--strict", *settings)
    assert code == 5 and "so the run has diverged" in err


@pytest.mark.parametrize("strict", [False, True])
def test_a_loss_that_the_host_reads_a_step_late_is_judged_too(strict):
    layer, steps = nn.Linear(1, 1), []
    update = Update("student", {"layer": layer}, lambda step: {"loss": layer.weight.sum() * 0 + step}, Optimizer(0.1))
    runner, health = Runner([update], CPU, deferred=True), Health(strict, steps.append)
    runner.guard.watch = health.look
    for step, value in enumerate((1.0, 1e6), 1):
        runner.apply(update, value, step)
        runner.settle()
    assert not steps  # the host has not looked yet
    if strict:
        with pytest.raises(NumericalError, match="step 2"):
            runner.settle(wait=True)
    else:
        runner.settle(wait=True)
        assert [event["step"] for event in steps] == [2]


# -- images ----------------------------------------------------------------------------------------------------------


def test_images_that_are_alike_though_their_inputs_differ_are_constant():
    inputs = torch.rand(4, 3, 8, 8) * 2 - 1
    assert is_constant(nn.Threshold(2.0, 0.25), inputs)
    assert not is_constant(nn.Identity(), inputs)
    assert not is_constant(nn.Threshold(2.0, 0.25), inputs[:1].expand(4, -1, -1, -1))  # as one image alone
    assert not is_constant(nn.Threshold(2.0, 0.25), inputs, torch.full_like(inputs, 0.25))  # as it should be


def test_a_student_whose_images_are_all_alike_is_told_and_is_an_error_where_strict(inputs, tmp_path):
    student = toy_teacher("mobile_resnet")
    for parameter in list(student.parameters())[-2:]:
        nn.init.zeros_(parameter)
    save_generator(tmp_path / "student.safetensors", student)
    dead, events = (f"student.source={tmp_path / 'student.safetensors'}", "train.lr=1e-12"), []
    result = run(inputs, tmp_path / "run", *dead, on_event=events.append)
    assert [(e["kind"], e["step"]) for e in events if e["event"] == "diverged"] == [("output", 3)]
    assert "the student makes the same image" in result.diverged["output"]["message"]
    with pytest.raises(NumericalError, match="same image"):
        run(inputs, tmp_path / "strict", *dead, "train.strict=true")
    assert checkpoint.latest(tmp_path / "strict" / "checkpoints") is None
