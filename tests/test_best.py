"""The best checkpoint: picked on held-out images, kept while later ones come and go, the same after a resume."""

import json
import os
import signal

import pytest
import torch
from torch import nn
from toys import TOY, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.runs import log
from vemcompress.runs.best import Best, Score
from vemcompress.training import loop

SETTINGS = (*TOY, "data.held_out=2", "train.checkpoint_every=1", "information.name=none")
SETTINGS = tuple(s for s in SETTINGS if not s.startswith("information.") or s.endswith("none"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "teacher": toy_teacher_file(folder / "teacher.safetensors"),
        "data": toy_images(folder / "images", 6),
        "device": "cpu",
    }


def scores(*values: float, higher: bool = True):
    given = iter(values)
    return lambda network: Score("toy", next(given), higher, "held_out", 2)


def judged(best: Best, steps: int) -> list[bool]:
    return [best.judge(nn.Identity(), step) for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("higher", "better"), [(True, [True, False, False, True]), (False, [True, False, True, False])]
)
def test_the_first_of_equals_is_the_best(tmp_path, higher, better):
    assert judged(Best(tmp_path, scores(2, 2, 1, 3, higher=higher)), 4) == better


def test_a_sample_sheet_tells_the_score_of_its_step_and_the_best_so_far(tmp_path):
    best = Best(tmp_path, scores(2, 3, 1))
    assert best.summary(0) == ""
    judged(best, 2)
    assert best.summary(2) == "toy 3, the best so far (higher is better)"
    best.judge(nn.Identity(), 3)
    assert best.summary(3) == "toy 1 (higher is better; best so far: 3 at step 2)"
    assert best.summary(4) == "best toy so far: 3 at step 2 (higher is better)"


def test_a_run_passes_the_score_of_a_step_to_its_sheet(inputs, tmp_path, monkeypatch):
    headers, draw = [], loop.sheet_of

    def sheet_of(columns, given, header):
        headers.append(header)
        return draw(columns, given, header)

    monkeypatch.setattr(loop, "sheet_of", sheet_of)
    result = distill(out=tmp_path / "run", overrides=SETTINGS, **inputs)
    assert headers[-1].startswith(f"step {result.steps} of {result.steps}\n{result.best['metric']} ")
    assert "the best so far" in headers[-1] or "best so far: " in headers[-1]


def test_a_run_keeps_its_best_student_and_says_how_it_was_picked(inputs, tmp_path):
    result = distill(out=tmp_path / "run", overrides=SETTINGS, **inputs)
    said = json.loads((tmp_path / "run/best/best.json").read_text())
    assert said == result.best
    assert (said["metric"], said["on"], said["images"]) == ("ssim_teacher", "held_out", 2)
    assert (tmp_path / "run/best/student.safetensors").exists()
    assert len(list((tmp_path / "run/checkpoints").glob("step-*"))) == 2


def test_nothing_is_picked_where_nothing_was_held_out(inputs, tmp_path):
    result = distill(out=tmp_path / "run", overrides=[*SETTINGS, "data.held_out=0", "train.steps=2"], **inputs)
    assert result.best is None
    assert not (tmp_path / "run/best").exists()


def test_a_resumed_run_picks_the_same_best(inputs, tmp_path):
    def stop(event):
        if event["event"] == "step" and event["step"] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    torch.set_num_threads(1)
    distill(out=tmp_path / "whole", overrides=SETTINGS, **inputs)
    with pytest.raises(Interrupted, match="step 4 of 6"):
        distill(out=tmp_path / "broken", overrides=SETTINGS, on_event=stop, **inputs)
    distill(resume=tmp_path / "broken", device="cpu")
    for name in ("best/best.json", "best/student.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


def test_each_score_is_told_and_logged_and_the_newest_is_in_the_result(inputs, tmp_path):
    events = []
    result = distill(out=tmp_path / "run", overrides=SETTINGS, on_event=events.append, **inputs)
    told = [event for event in events if event["event"] == "score"]
    scored = log.scores(tmp_path / "run/metrics.jsonl", 6)
    assert [score["step"] for score in scored] == [1, 2, 3, 4, 5, 6]
    assert [{**score, "event": "score"} for score in scored] == [without_best(event) for event in told]
    assert result.best == max(scored, key=lambda score: score["value"]) == told[-1]["best"]
    assert result.last == scored[-1]
    assert log.last(tmp_path / "run/metrics.jsonl")[1].keys() >= {"ssim", "recon"}  # a score is no loss
    again = distill(resume=tmp_path / "run", device="cpu", on_event=events.append)
    assert again.last == result.last and events[-2]["scores"] == scored


def without_best(event: dict) -> dict:
    return {key: value for key, value in event.items() if key != "best"}


def test_what_is_no_score_is_left_out(tmp_path):
    lines = [
        {"step": 1, "event": "score", "metric": "fid", "value": 2.0},
        {"step": 2, "event": "score", "metric": "fid"},
    ]
    lines += [
        {"step": 2, "event": "score", "metric": 3, "value": 1.0},
        {"step": 2, "ssim": 1.0},
        {"step": 3, "event": 7},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert log.scores(path, 9) == [{"step": 1, "metric": "fid", "value": 2.0}]
    assert log.scores(path, 0) == [] and log.last(path) == (2, {"ssim": 1.0})


def test_a_figure_that_the_data_cannot_give_is_refused_before_the_run_begins(inputs, tmp_path):
    with pytest.raises(RecipeError, match="l1_target"):
        distill(out=tmp_path / "run", overrides=[*SETTINGS, "train.best_by=l1_target"], **inputs)
    assert not (tmp_path / "run").exists()


def test_a_score_that_is_named_in_the_recipe_needs_held_out_images(inputs, tmp_path):
    asked = [*SETTINGS, "data.held_out=0", "train.best_by=ssim_teacher"]
    with pytest.raises(RecipeError, match="no images are held out"):
        distill(out=tmp_path / "run", overrides=asked, **inputs)
    assert not (tmp_path / "run").exists()
