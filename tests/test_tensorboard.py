"""`--tensorboard`: event files repeat the run's own records, each once, and do not change the run."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from toys import TOY

from vemcompress.commands.distill import distill
from vemcompress.commands.report import report
from vemcompress.errors import Interrupted, OutputError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.report.groups import group_of
from vemcompress.runs.tensorboard import Board
from vemcompress.system import devices

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = [*TOY, "train.steps=4", "train.sample_every=2", "data.held_out=1", "train.checkpoint_every=2"]


def points(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars of the event files by tag; of images their steps and widths."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    values = {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return values | {tag: [(one.step, one.width) for one in found.Images(tag)] for tag in found.Tags()["images"]}


def logged(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def check_complete(run: Path) -> None:
    """Each number of the logs is there once, and each sheet."""
    found = points(run)
    for log in ("metrics.jsonl", "timing.jsonl"):
        lines = [line for line in logged(run, log) if "event" not in line]
        assert lines or log == "timing.jsonl"  # which leaves out the first steps after a start
        for name in {name for line in lines for name in line} - {"step"}:
            end = "/all" if name == "seconds" else f"/{name}"
            (tag,) = (tag for tag in found if tag.endswith(end) and tag.startswith("seconds") == (log[0] == "t"))
            assert found[tag] == [(line["step"], pytest.approx(line[name])) for line in lines if name in line]
    scores = [(line["step"], pytest.approx(line["value"])) for line in logged(run, "metrics.jsonl") if "event" in line]
    assert found["score/ssim_teacher"] == scores and len(scores) == 2
    assert [step for step, _ in found["samples"]] == [2, 4] and found["samples"][0][1] > 256


@pytest.fixture(scope="module")
def plain(inputs, tmp_path_factory):
    """A run without event files."""
    pytest.importorskip("tensorboard")
    out = tmp_path_factory.mktemp("plain") / "run"
    with devices.threads(1):
        distill(inputs[0], data=inputs[1], out=out, overrides=STEPS, device="cpu")
    return out


def test_a_board_has_every_number_and_sheet_and_leaves_the_run_as_it_is(inputs, plain, tmp_path, capfd):
    run = tmp_path / "run"
    distill(inputs[0], data=inputs[1], out=run, overrides=STEPS, device="cpu", tensorboard=True)
    check_complete(run)
    assert {tag.split("/")[0] for tag in points(run)} >= {"losses", "add-on", "schedule", "seconds per step", "samples"}
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == (plain / name).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_a_resumed_run_goes_on_with_its_board_and_shows_no_point_twice(inputs, plain, tmp_path):
    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    run, options = tmp_path / "run", {"device": "cpu", "on_event": stop}
    with pytest.raises(Interrupted, match="step 3 of 4"):
        distill(inputs[0], data=inputs[1], out=run, overrides=STEPS, tensorboard=True, **options)
    shutil.rmtree(run / "checkpoints" / "step-000003")  # as if killed: step 3 is made again
    (run / "checkpoints" / "latest").write_text("step-000002")
    distill(resume=run, device="cpu")
    check_complete(run)
    assert (run / "student.safetensors").read_bytes() == (plain / "student.safetensors").read_bytes()


def test_a_run_that_is_done_is_converted_and_one_at_work_is_left_alone(plain, call):
    code, out, _ = call("report", plain, "--tensorboard", "--json")
    assert code == 0 and json.loads(out)["tensorboard"] == [str(plain / "tensorboard")]
    report(plain, tensorboard=True)
    check_complete(plain)
    (plain / "samples" / "step-000002.png").write_bytes(b"damaged")
    with RunFolder(plain).locked(), pytest.raises(OutputError, match="another process"):
        report(plain, tensorboard=True)
    report(plain, tensorboard=True)
    assert [step for step, _ in points(plain)["samples"]] == [4]


@pytest.mark.parametrize("command", ["distill", "teach", "report"])
def test_without_the_package_nothing_begins(call, plain, inputs, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    rest = {"distill": ["--teacher", inputs[0], "--data", inputs[1]], "teach": ["--data", inputs[1]]}.get(command)
    code, _, err = call(command, *([*rest, "--out", tmp_path / "run"] if rest else [plain]), "--tensorboard")
    assert code == 2 and "pip install 'vemcompress[tensorboard]'" in err and not list(tmp_path.iterdir())


def test_a_board_that_cannot_be_written_fails_no_run(inputs, tmp_path, monkeypatch):
    def full(board):
        raise OSError("no space left")

    pytest.importorskip("tensorboard")
    monkeypatch.setattr(Board, "follow", full)
    events, options = [], {"overrides": STEPS, "device": "cpu", "on_event": lambda event: events.append(event)}
    result = distill(inputs[0], data=inputs[1], out=tmp_path / "run", tensorboard=True, **options)
    assert result.steps == 4
    assert len([event for event in events if "no space left" in event.get("message", "")]) == 1


def test_losses_are_grouped_by_the_network_that_learns_from_them():
    names = ("recon", "lr", "energy_gap", "information.gradient_share", "teacher_gan", "wide_d_fake", "a_cycle")
    student, *others = map(group_of, names)
    assert student == "losses" and others[:3] == ["schedule", "add-on", "add-on"]
    assert others[3:] == ["losses of the teacher", "losses of discriminators", "losses of generator A to B"]
