"""The speed of a run, the remaining time that it reports, and its exit before the time limit."""

import json
from pathlib import Path

import pytest
from teach_toys import TRAIN, UNET, toy_pairs
from test_seeds import SHORT
from test_training import same_run
from toys import TOY

from vemcompress.commands.distill import distill
from vemcompress.commands.seeds import distill_seeds
from vemcompress.commands.teach import teach
from vemcompress.errors import UsageError
from vemcompress.training import pace
from vemcompress.training.pace import Estimate, Limit, Pace

pytestmark = pytest.mark.usefixtures("one_thread")

HELD_OUT = "data.held_out=1"  # so that a best checkpoint is judged


class Clock:
    """Stands still, unless a test moves it."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    stopped = Clock()
    monkeypatch.setattr(pace, "now", stopped)
    return stopped


def run(inputs, out: Path, *overrides: str, **options):
    teacher, data = inputs
    return distill(teacher, data=data, out=out, overrides=[*TOY, HELD_OUT, *overrides], device="cpu", **options)


def paced(clock: Clock, seconds, total: int, every: int = 1, **others: int) -> Pace:
    """A pace after steps of so many seconds, of which every n-th is of another kind."""
    others = {"save": 10**6, "sample": 10**6} | others
    found = Pace(0, total, kind=lambda step: step % every == 0, images=4, others=others)
    for duration in seconds:
        with found.stepping():
            clock.seconds += duration
    return found


# -- the rate --------------------------------------------------------------------------------------------------------


def test_the_time_left_is_known_from_the_second_step_on_and_a_slow_start_does_not_stay_in_it(clock):
    assert paced(clock, [60], 100).remaining is None
    assert [paced(clock, [60, 20, 4, 1, 1][:n], 100).remaining for n in (2, 3, 4, 5)] == [98 * 20, 97 * 4, 96, 95]


def test_the_first_step_of_a_kind_which_compiles_does_not_make_the_time_left_absurd(clock):
    found = paced(clock, [60, 1, 1, 1, 90], 1000, every=5)
    assert found.remaining == 796 * 1 + 199 * 3
    assert paced(clock, [60, 1, 1, 1, 90, 1, 1, 1, 1, 2], 1000, every=5).remaining == 792 * 1 + 198 * 2


def test_the_rate_is_that_of_the_last_steps(clock):
    found = paced(clock, [9, 9, 9] + 50 * [4] + 50 * [2], 1000)
    assert (found.recent, found.mean, found.images_per_second) == (2, 3, 2)
    assert found.remaining == 2 * (1000 - 103)


def test_the_time_left_counts_each_kind_of_step_by_itself(clock):
    found = paced(clock, [9, 9, 9] + [1, 1, 1, 1, 5] * 20 + [1, 1], 205, every=5)
    assert found.remaining == pytest.approx(sum(5 if step % 5 == 0 else 1 for step in range(106, 206)), abs=20 * 4)
    steady = paced(clock, [9, 9, 9] + [1 if step % 5 else 5 for step in range(4, 101)], 200, every=5)
    assert steady.remaining == 80 * 1 + 20 * 5


def test_a_few_steps_that_waited_for_a_busy_machine_do_not_move_the_rate(clock):
    found = paced(clock, [9, 9, 9] + [1, 1, 60] * 6, 1000)
    assert (found.recent, found.remaining) == (1, 1000 - 21)
    assert found.slowest == 60  # --max-hours still counts with it


def test_the_estimate_is_told_after_20_steps_and_again_where_it_proves_wrong(clock):
    found, estimate, told = paced(clock, [], 1200), Estimate(), []
    for step in range(1, 1201):
        with found.stepping():
            clock.seconds += 1.15 if step <= 60 else 0.07  # the machine is busy at first
        if estimate.is_news(found):
            told.append((step, found.remaining))
    assert told[0][0] == 20 and len(told) == 2
    assert told[0][1] == pytest.approx(1180 * 1.15)
    assert told[1][0] < 100 and told[1][1] == pytest.approx((1200 - told[1][0]) * 0.07)


def test_the_time_left_includes_saves_and_samples(clock):
    found = paced(clock, [1] * 10, 40, save=15, sample=20)
    with found.beside("save"):
        clock.seconds += 7
    with found.beside("sample"):
        clock.seconds += 2
    assert found.remaining == 30 + 3 * 7 + 2 * 2  # saves at 15, 30 and 40, samples at 20 and 40


def test_a_step_tells_images_per_second_and_the_time_left(inputs, tmp_path):
    events = []
    run(inputs, tmp_path / "run", "train.batch=2", on_event=events.append)
    steps = [e for e in events if e["event"] == "step"]
    assert [e["images_per_second"] is None for e in steps] == [True] + [False] * 5
    assert steps[4]["images_per_second"] == pytest.approx(2 / steps[4]["seconds_per_step"])
    assert steps[4]["remaining"] > 0


# -- the limit -------------------------------------------------------------------------------------------------------


def test_a_run_leaves_while_a_step_a_sample_and_the_save_fit_in(clock):
    limit, found = Limit(100 / 3600), paced(clock, [1] * 80, 1000, sample=85)
    found.seconds = {"save": 10.0, "sample": 6.0}
    assert not limit.leaves(found)
    for _ in range(4):
        with found.stepping():
            clock.seconds += 1
    assert limit.leaves(found)  # 84 s, a step, its sample and the save are 101
    clock.seconds = 89
    with found.stepping():
        clock.seconds += 0
    assert not limit.leaves(found)
    clock.seconds = 89.5
    assert limit.leaves(found)


def test_the_first_save_is_taken_for_a_minute_and_more_but_for_a_tenth_of_the_time_at_most(clock):
    long, short = Limit(10), Limit(0.01)
    found = paced(clock, [1], 100)
    clock.seconds = 36000 - 82
    assert not long.leaves(found)
    clock.seconds = 36000 - 80
    assert long.leaves(found)
    clock.seconds = 36 - 4.7
    assert not short.leaves(found)
    clock.seconds = 36 - 4.5
    assert short.leaves(found)


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf")])
def test_no_time_is_a_usage_error(inputs, tmp_path, hours):
    with pytest.raises(UsageError, match="--max-hours"):
        run(inputs, tmp_path / "run", max_hours=hours)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("left_at", "checkpoints"), [(4, "step-000004"), (3, "step-000003")])
def test_a_run_that_left_in_time_ends_as_an_unbroken_one(inputs, tmp_path, clock, left_at, checkpoints):
    """At step 3 a regular checkpoint is due, which judges the best one; at 4 none is, and none is judged."""
    run(inputs, tmp_path / "whole")
    clock.seconds = 0
    broken = run(inputs, tmp_path / "broken", max_hours=1, on_event=_two_hours_at(clock, left_at))
    assert (broken.stopped, broken.steps, broken.total_steps) == ("max_hours", left_at, 6)
    assert (tmp_path / "broken/checkpoints/latest").read_text().strip() == checkpoints
    resumed = distill(resume=tmp_path / "broken", device="cpu")
    assert (resumed.stopped, resumed.steps) == (None, 6)
    same_run(tmp_path / "whole", tmp_path / "broken")
    assert (tmp_path / "whole/best/best.json").read_bytes() == (tmp_path / "broken/best/best.json").read_bytes()


def _two_hours_at(clock: Clock, step: int):
    def on_event(event):
        if event["event"] == "step" and event["step"] == step:
            clock.seconds += 2 * 3600

    return on_event


def test_at_least_one_step_is_made_each_time(inputs, tmp_path):
    assert run(inputs, tmp_path / "run", max_hours=1e-9).steps == 1
    again = [distill(resume=tmp_path / "run", device="cpu", max_hours=1e-9) for _ in range(6)]
    assert [result.steps for result in again] == [2, 3, 4, 5, 6, 6]
    run(inputs, tmp_path / "whole")
    same_run(tmp_path / "whole", tmp_path / "run")


def test_the_last_step_is_a_finished_run_even_if_the_time_is_over(inputs, tmp_path):
    assert run(inputs, tmp_path / "run", "train.steps=1", max_hours=1e-9).stopped is None


def test_a_teacher_leaves_in_time_and_goes_on(tmp_path):
    data = toy_pairs(tmp_path / "pairs", 6)
    done = teach(data=data, out=tmp_path / "t", overrides=[*TRAIN, *UNET], device="cpu", max_hours=1e-9)
    assert (done.stopped, done.steps) == ("max_hours", 1)
    assert teach(resume=tmp_path / "t", device="cpu").stopped is None


# -- several seeds ---------------------------------------------------------------------------------------------------


def test_the_time_is_for_all_seeds_together_and_none_begins_that_would_not_step(inputs, tmp_path):
    options = {"data": inputs[1], "overrides": SHORT, "device": "cpu"}
    whole = distill_seeds([1, 2], inputs[0], out=tmp_path / "whole", **options)
    first = distill_seeds([1, 2], inputs[0], out=tmp_path / "broken", max_hours=1e-9, **options)
    assert (first.stopped, list(first.seeds), first.missing) == ("max_hours", [1], (2,))
    assert (first.losses, first.best) == ({}, None)
    assert not (tmp_path / "broken" / "seed-2").exists()
    assert json.loads((tmp_path / "broken" / "seeds.json").read_text())["done"] == []
    last = distill_seeds(resume=tmp_path / "broken", device="cpu")
    assert (last.stopped, last.missing, last.losses, last.best) == (None, (), whole.losses, whole.best)


def test_the_next_seed_begins_only_where_it_can_make_a_step(clock):
    limit = Limit(100 / 3600)
    for second, over in ((0, False), (50, True)):  # it took 30 s to its first step, and a save takes 25
        clock.seconds = second
        Limit.of(limit)
        found = Pace(0, 1, kind=lambda step: 0, images=1, others={"save": 1, "sample": 1})
        with found.stepping():
            clock.seconds += 30
        found.seconds["save"] = 25.0
        limit.leaves(found)
        assert limit.over is over


def test_judging_a_teacher_is_no_step_and_counts_as_often_as_it_comes(clock):
    def judged(step: int) -> bool:
        return step % 20 == 0

    found = Pace(0, 100, kind=lambda step: 0, images=1, others={"save": 100, "sample": 100, "finish": judged})
    for step in range(1, 31):
        with found.stepping():
            clock.seconds += 1
        if found.due("finish", step):
            with found.beside("finish"):
                clock.seconds += 600
    assert found.recent == 1
    assert found.remaining == 70 + 4 * 600


def test_a_run_leaves_before_a_judgement_that_would_pass_the_time(clock):
    limit = Limit(1000 / 3600)
    found = Pace(0, 100, kind=lambda step: 0, images=1, others={"save": 100, "finish": lambda step: step == 12})
    found.seconds |= {"save": 10.0, "finish": 990.0}
    left = []
    for _ in range(11):
        with found.stepping():
            clock.seconds += 1
        left.append(limit.leaves(found))
    assert left == [False] * 10 + [True]


# -- the command -----------------------------------------------------------------------------------------------------


def test_leaving_in_time_is_success_and_tells_how_to_go_on(call, inputs, tmp_path):
    settings = [f"--set={override}" for override in SHORT]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--max-hours", "1e-9", *settings]
    code, out, err = call(*start, "--out", tmp_path / "a", "--json")
    assert (code, json.loads(out)["stopped"], json.loads(out)["steps"]) == (0, "max_hours", 1), err
    code, out, _ = call("distill", "--resume", tmp_path / "a", "--max-hours", "1e-9", "--quiet")
    assert code == 0
    assert "2 of 4" in out and f"next\n  vemcompress distill --resume {tmp_path / 'a'}\n" in out
    code, out, _ = call(*start, "--out", tmp_path / "b", "--seeds", "1,2,3")
    assert code == 0
    assert "1 of 4 steps" in out and "still to do: seed 2, 3" in out
    assert call("distill", "--resume", tmp_path / "a", "--max-hours", "0")[0] == 2


def test_a_plain_line_tells_rate_and_time_left(call, inputs, tmp_path):
    settings = [f"--set={override}" for override in TOY]
    start = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "a", *settings]
    _, _, err = call(*start)
    line = next(line for line in err.splitlines() if line.startswith("step 5/6"))
    assert " s/step " in line and " images/s " in line and " left " in line
