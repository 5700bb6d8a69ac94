"""A run is never lost: kills, resuming bit for bit, locks, full disks, signals."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import TOY, stop_after, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.errors import InputError, Interrupted, NumericalError, OutputError, RecipeError, UsageError
from vemcompress.runs import checkpoint
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import Log
from vemcompress.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

COMMAND = [sys.executable, "-m", "vemcompress", "distill"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return toy_teacher_file(folder / "teacher.safetensors"), toy_images(folder / "images")


def run(inputs, out: Path, *overrides: str, **options):
    teacher, data = inputs
    return distill(teacher, data=[data], out=out, overrides=[*TOY, *overrides], device="cpu", **options)


def same_run(a: Path, b: Path) -> None:
    """Student, energy network, connectors, optimisers and log, to the bit."""
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    last = (a / "checkpoints" / "latest").read_text().strip()
    assert (b / "checkpoints" / "latest").read_text().strip() == last
    for name in ("student", "energy", "connectors", "optimizers"):
        x, y = (checkpoint.tensors_from(r / "checkpoints" / last / f"{name}.safetensors") for r in (a, b))
        assert x.keys() == y.keys()
        assert all(torch.equal(x[k], y[k]) for k in x), name


def test_a_run_leaves_what_the_design_names(inputs, tmp_path):
    events = []
    result = run(inputs, tmp_path / "run", on_event=events.append)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {
        "recipe.toml",
        "student.safetensors",
        "metrics.jsonl",
        "samples",
        "checkpoints",
        "environment.json",
    } <= names
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(environment["teacher"]["sha256"]) == 64
    assert environment["student"]["parameters"] == result.parameters < result.teacher_parameters
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"ssim", "recon", "tv", "channel", "energy", "information"} <= lines[-1].keys()
    assert [e["event"] for e in events].count("plan") == 1
    assert (tmp_path / "run" / "samples" / "teacher.png").exists()
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*")] != []


def test_a_resumed_run_ends_as_an_unbroken_one(inputs, tmp_path):
    run(inputs, tmp_path / "whole")
    with pytest.raises(Interrupted, match="step 4 of 6"):
        run(inputs, tmp_path / "broken", on_event=stop_after(4))
    assert json.loads(_latest(tmp_path / "broken").joinpath("state.json").read_text())["step"] == 4
    distill(resume=tmp_path / "broken", overrides=["data.workers=1", "data.on_device=never"], device="cpu")
    same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("at", [4, 6])
def test_a_sheet_lost_by_a_kill_after_the_checkpoint_is_drawn_by_the_resumed_run(inputs, tmp_path, monkeypatch, at):
    def killed(trainer):
        if trainer.step == at:
            raise KeyboardInterrupt

    whole, broken, pace = tmp_path / "whole", tmp_path / "broken", ("train.sample_every=2", "train.checkpoint_every=2")
    run(inputs, whole, *pace)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "sample", killed)
        run(inputs, broken, *pace)
    distill(resume=broken, device="cpu")
    sheet = f"samples/step-{at:06d}.png"
    assert (broken / sheet).read_bytes() == (whole / sheet).read_bytes()
    same_run(whole, broken)


def _latest(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()


def killed_and_resumed(inputs, tmp_path, kills: int, steps: int) -> None:
    """One run to its end, and one that is killed `kills` times at random moments; both checkpoint every 5 steps."""
    overrides = [f"--set={o}" for o in (*TOY, f"train.steps={steps}", "train.checkpoint_every=5")]
    teacher, data = inputs
    start = [*COMMAND, "--teacher", str(teacher), "--data", str(data), "--device", "cpu", *overrides, "--quiet"]
    subprocess.run([*start, "--out", str(tmp_path / "whole")], env=ENVIRONMENT, check=True, capture_output=True)
    broken, moments = tmp_path / "broken", random.Random(0)
    for kill in range(kills):
        command = [*COMMAND, "--resume", str(broken), "--device", "cpu"] if (broken / "recipe.toml").exists() else [
            *start, "--out", str(broken)]  # fmt: skip
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for_work(process, broken, during_save=kill % 3 == 0)
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
    resume = [*COMMAND, "--resume", str(broken), "--device", "cpu"]
    subprocess.run(resume, env=ENVIRONMENT, check=True, capture_output=True)
    same_run(tmp_path / "whole", broken)


def _wait_for_work(process, run: Path, during_save: bool) -> None:
    """Until this process has taken a step, or has a checkpoint half written."""
    log, began = run / "metrics.jsonl", time.time()
    first = log.stat().st_mtime_ns if log.exists() else 0
    while process.poll() is None and time.time() - began < 60:
        if during_save and list((run / "checkpoints").glob("*.tmp")):
            return
        if not during_save and log.exists() and log.stat().st_mtime_ns != first:
            return
        time.sleep(0.001)


def test_three_kills_change_nothing(inputs, tmp_path):
    killed_and_resumed(inputs, tmp_path, kills=3, steps=200)


@pytest.mark.slow
def test_twenty_kills_change_nothing(inputs, tmp_path):
    killed_and_resumed(inputs, tmp_path, kills=20, steps=1500)


def test_a_kill_before_the_first_checkpoint_resumes_from_the_start(inputs, tmp_path):
    run(inputs, tmp_path / "whole")
    run(inputs, tmp_path / "early")
    for path in (tmp_path / "early" / "checkpoints").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    distill(resume=tmp_path / "early", device="cpu")
    same_run(tmp_path / "whole", tmp_path / "early")


def test_resuming_a_finished_run_does_nothing_or_the_steps_asked_for(inputs, tmp_path):
    run(inputs, tmp_path / "run")
    before = (tmp_path / "run" / "student.safetensors").read_bytes()
    assert distill(resume=tmp_path / "run", device="cpu").steps == 6
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == before
    assert distill(resume=tmp_path / "run", overrides=["train.steps=8"], device="cpu").steps == 8


def test_kill_during_save_keeps_the_previous_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 5, {"a": b"five"})
    half = tmp_path / "step-000010.tmp"
    half.mkdir()
    (half / "a").write_bytes(b"te")
    assert checkpoint.latest(tmp_path, needed=()).name == "step-000005"
    assert half.exists()  # a process without the lock may look, and must not take away what another is writing
    checkpoint.discard_unfinished(tmp_path)
    assert not half.exists()
    assert checkpoint.latest(tmp_path, needed=()).name == "step-000005"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, step, {"a": str(step).encode()})
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000010", "step-000015"]
    (tmp_path / "step-000015" / "a").write_bytes(b"xx")
    assert checkpoint.latest(tmp_path, needed=()).name == "step-000010"
    (tmp_path / "step-000010" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="no other checkpoint is complete"):
        checkpoint.latest(tmp_path, needed=())


def test_a_pointer_that_is_no_text_is_passed_over(tmp_path):
    checkpoint.save(tmp_path, 5, {"a": b"five"})
    (tmp_path / "latest").write_bytes(b"\xff\xfe")
    assert checkpoint.latest(tmp_path, needed=()).name == "step-000005"


WHOLE = {"student.safetensors": b"s", "optimizers.safetensors": b"o", "state.json": b'{"step": 5}'}


@pytest.mark.parametrize("absent", WHOLE)
def test_a_checkpoint_without_what_a_run_needs_is_damaged(absent, tmp_path):
    checkpoint.save(tmp_path, 5, WHOLE)
    checkpoint.save(tmp_path, 10, {name: data for name, data in WHOLE.items() if name != absent})
    assert checkpoint.latest(tmp_path, WHOLE).name == "step-000005"


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "[" * 100_000])
def test_a_manifest_that_names_nothing_is_damage(manifest, tmp_path):
    target = checkpoint.save(tmp_path, 5, WHOLE)
    assert checkpoint.damage(target) is None
    (target / "manifest.json").write_text(manifest)
    assert "manifest.json" in checkpoint.damage(target)


@pytest.mark.parametrize("state", [b"{", b"\xff\xfe", b"[]", b"{}", b'{"step": "5"}', b'{"step": true}'])
def test_a_state_without_a_step_is_damage(state, tmp_path):
    assert checkpoint.damage(checkpoint.save(tmp_path, 5, WHOLE | {"state.json": state}))


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, {"a": b"five"})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        checkpoint.save(tmp_path, 10, {"a": b"ten"})
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path, needed=()).name == "step-000005"
    assert not list(tmp_path.glob("*.tmp"))


def test_the_log_forgets_steps_that_will_be_taken_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    Log(path, 2).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_second_process_on_a_run_is_refused(inputs, tmp_path):
    run(inputs, tmp_path / "run")
    being_written = tmp_path / "run" / "checkpoints" / "step-000009.tmp"
    with RunFolder(tmp_path / "run").locked():
        being_written.mkdir()
        command = [*COMMAND, "--resume", str(tmp_path / "run"), "--set=train.steps=9"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 9
    assert "another process" in done.stderr
    assert being_written.exists()


def test_an_existing_folder_is_not_touched(inputs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="--resume"):
        run(inputs, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("method", "call"), [("iterdir", "check_new"), ("is_file", "check_existing"), ("mkdir", "create")]
)
def test_a_run_folder_that_one_may_not_enter_is_an_output_error(method, call, tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, forbidden)
    with pytest.raises(OutputError, match="no permission"):
        getattr(RunFolder(tmp_path), call)()


def test_a_teacher_that_changed_is_refused_on_resume(tmp_path):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    run((teacher, data), tmp_path / "run")
    toy_teacher_file(teacher, seed=1)
    with pytest.raises(InputError, match="not the teacher"):
        distill(resume=tmp_path / "run", overrides=["train.steps=9"], device="cpu")


def test_checks_come_in_the_order_recipe_teacher_data_output(inputs, tmp_path):
    teacher, data = inputs
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("")
    wrong = {"recipe": "omgdd", "teacher": tmp_path / "no.pth", "data": [tmp_path / "none"], "out": tmp_path / "there"}
    right = {"recipe": "omgd", "teacher": teacher, "data": [data], "out": tmp_path / "new"}
    expected = [RecipeError, InputError, InputError, UsageError]
    for i, error in enumerate(expected):
        given = right | dict(list(wrong.items())[i:])
        with pytest.raises(error, match=r"omgdd|no\.pth|none|there"):
            distill(given.pop("teacher"), overrides=TOY, device="cpu", **given)
    assert not (tmp_path / "new").exists()


def test_sigint_saves_and_leaves_with_130(inputs, tmp_path):
    teacher, data = inputs
    overrides = [f"--set={o}" for o in (*TOY, "train.steps=100000")]
    command = [*COMMAND, "--teacher", str(teacher), "--data", str(data), "--out", str(tmp_path / "run"), *overrides]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_work(process, tmp_path / "run", during_save=False)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    state = json.loads((_latest(tmp_path / "run") / "state.json").read_text())
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == state["step"]
    assert "--resume" in err


@pytest.mark.parametrize(
    "override", ["data.size=64", "information.channels=4", "information.name=none", "student.width=8", "train.batch=2"]
)
def test_resuming_does_not_change_what_is_learnt(inputs, tmp_path, override):
    run(inputs, tmp_path / "run")
    with pytest.raises(UsageError, match="cannot change within a run"):
        distill(resume=tmp_path / "run", overrides=[override], device="cpu")


def test_a_run_killed_before_it_had_a_recipe_leaves_its_folder_free(inputs, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    assert run(inputs, tmp_path / "run").steps == 6


def test_equal_students_are_equal_files(inputs, tmp_path):
    for name in ("a", "b"):
        run(inputs, tmp_path / name)
    assert (tmp_path / "a" / "student.safetensors").read_bytes() == (
        tmp_path / "b" / "student.safetensors"
    ).read_bytes()


def test_a_run_can_be_resumed_from_another_folder(inputs, tmp_path, monkeypatch):
    teacher, data = inputs
    monkeypatch.chdir(data.parent)
    run((teacher.name, data.name), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert distill(resume="run", overrides=["train.steps=7"], device="cpu").steps == 7


def test_a_run_goes_on_where_its_files_have_moved(inputs, tmp_path):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    run((teacher, data), tmp_path / "run")
    moved = teacher.rename(tmp_path / "moved.safetensors"), data.rename(tmp_path / "moved")
    done = distill(moved[0], data=moved[1], resume=tmp_path / "run", overrides=["train.steps=7"], device="cpu")
    assert done.steps == 7


def test_other_images_and_fewer_steps_are_told(inputs, tmp_path):
    teacher, data = inputs[0], toy_images(tmp_path / "images", count=3)
    run((teacher, data), tmp_path / "run")
    toy_images(data, count=4)
    events = []
    distill(resume=tmp_path / "run", overrides=["train.steps=3"], device="cpu", on_event=events.append)
    assert any("differ from those that this run began with" in e.get("message", "") for e in events)
    assert "steps = 6" in (tmp_path / "run" / "recipe.toml").read_text()


def test_a_run_without_a_checkpoint_may_still_change(inputs, tmp_path):
    with pytest.raises(NumericalError):
        run(inputs, tmp_path / "run", "train.lr=1e30")
    overrides = ["train.lr=1e-4", "student.width=3"]
    assert distill(resume=tmp_path / "run", overrides=overrides, device="cpu").steps == 6
