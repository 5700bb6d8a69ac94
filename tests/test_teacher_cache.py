"""A frozen teacher's outputs on disk: the same losses, asked once a view, sound after kills, damage and full disks."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from teach_toys import LABELS, toy_data
from test_training import ENVIRONMENT, same_run
from toys import TOY, stop_after, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.console import Console
from vemcompress.errors import Interrupted, OutputError, RecipeError, UsageError
from vemcompress.gans.teachers import Frozen
from vemcompress.runs import teacher_cache
from vemcompress.runs.records import Records
from vemcompress.runs.teacher_cache import Layout, TeacherCache

pytestmark = pytest.mark.usefixtures("one_thread")

VIEWS = 2
CACHED = (*TOY, f"train.teacher_cache={VIEWS}", "train.steps=8", "train.batch=2", "data.held_out=0")  # 4 epochs of 4


@pytest.fixture
def asked(monkeypatch):
    """At how many images a time the teacher is asked; the first is the probe for the cache's size."""
    counts, ask = [], Frozen.ask

    def counting(self, inputs, taps):
        counts.append(len(inputs))
        return ask(self, inputs, taps)

    monkeypatch.setattr(Frozen, "ask", counting)
    return counts


def run(inputs, out: Path, *overrides: str, **options):
    teacher, data = inputs
    return distill(teacher, data=data, out=out, overrides=[*CACHED, *overrides], device="cpu", **options)


def uncached(monkeypatch):
    """The same views, but the teacher is always asked."""
    monkeypatch.setattr(TeacherCache, "__call__", lambda self, step, images, ask: ask(images))


# -- what a run learns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_and_weights_are_the_same_without_the_cache(inputs, tmp_path, monkeypatch, precision):
    override = f"train.precision={precision}"
    run(inputs, tmp_path / "with", override)
    uncached(monkeypatch)
    run(inputs, tmp_path / "without", override)
    same_run(tmp_path / "with", tmp_path / "without")


@pytest.mark.parametrize(("kind", "settings"), [("paired", ("data.kind=paired",)), ("labels", LABELS)])
def test_pairs_and_labels_too(kind, settings, tmp_path, monkeypatch, asked):
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors")
    inputs = teacher, toy_data(tmp_path / "data")[kind]
    settings = (*settings, "train.teacher_cache=1")
    run(inputs, tmp_path / "with", *settings)
    assert sum(asked) < 8 * 2
    uncached(monkeypatch)
    run(inputs, tmp_path / "without", *settings)
    same_run(tmp_path / "with", tmp_path / "without")


def test_the_teacher_is_asked_once_a_view(inputs, tmp_path, asked):
    run(inputs, tmp_path / "run")
    assert asked == [1] + [2, 2] * VIEWS


def test_reading_counts_as_the_teachers_time(inputs, tmp_path):
    run(inputs, tmp_path / "run")
    last = json.loads((tmp_path / "run" / "timing.jsonl").read_text().splitlines()[-1])
    assert 0 < last["teacher"] < last["seconds"]


def test_without_the_cache_nothing_is_written(inputs, tmp_path):
    run(inputs, tmp_path / "run", "train.teacher_cache=0")
    assert not (tmp_path / "run" / "teacher_cache").exists()


# -- going on --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_uses_what_is_there_and_ends_as_an_unbroken_one(inputs, tmp_path, asked):
    run(inputs, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(inputs, tmp_path / "broken", on_event=stop_after(3))
    asked.clear()
    distill(resume=tmp_path / "broken", device="cpu")
    assert asked == [1, 2]
    same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_kill_changes_nothing(inputs, tmp_path):
    run(inputs, tmp_path / "whole")
    overrides = [f"--set={override}" for override in CACHED]
    command = [sys.executable, "-c", KILLED_WHILE_IT_WRITES, "distill", "--teacher", inputs[0], "--data", inputs[1]]
    killed = subprocess.run([*command, "--out", tmp_path / "broken", *overrides], env=ENVIRONMENT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    distill(resume=tmp_path / "broken", device="cpu")
    same_run(tmp_path / "whole", tmp_path / "broken")


KILLED_WHILE_IT_WRITES = """
import os, signal
from vemcompress.cli import main
whole, written = os.pwrite, []
def pwrite(file, data, offset):
    written.append(offset)
    if len(written) < 6:
        return whole(file, data, offset)
    whole(file, data[:1000], offset)
    os.kill(os.getpid(), signal.SIGKILL)
os.pwrite = pwrite
main()
"""


def test_damaged_records_are_computed_again(inputs, tmp_path, asked):
    run(inputs, tmp_path / "sound")
    shutil.copytree(tmp_path / "sound", tmp_path / "damaged")
    file = tmp_path / "damaged" / "teacher_cache" / "views.bin"
    content = bytearray(file.read_bytes())
    for middle in range(len(content) // 16, len(content), len(content) // 8):
        content[middle] ^= 1  # of each of the 8
    file.write_bytes(content)
    for name, expected in (("sound", [1]), ("damaged", [1, 2, 2])):
        asked.clear()
        distill(resume=tmp_path / name, overrides=["train.steps=10"], device="cpu")
        assert asked == expected
    same_run(tmp_path / "sound", tmp_path / "damaged")


@pytest.mark.parametrize("change", ["precision", "images", "manifest"])
def test_a_cache_of_something_else_is_made_anew_and_that_is_told(inputs, tmp_path, change, asked):
    data = toy_images(tmp_path / "images", 4)
    run((inputs[0], data), tmp_path / "run")
    overrides = ["train.steps=10"]
    if change == "precision":
        overrides.append("train.precision=bf16")
    elif change == "images":
        toy_images(data, 4, size=44)
    else:
        (tmp_path / "run/teacher_cache/manifest.json").write_text("{")
    asked.clear()
    events = []
    distill(resume=tmp_path / "run", overrides=overrides, device="cpu", on_event=events.append)
    assert asked == [1, 2, 2]
    assert sum("is replaced" in e.get("message", "") for e in events) == 1


def test_the_number_of_views_cannot_change_within_a_run(inputs, tmp_path):
    run(inputs, tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.teacher_cache cannot change"):
        distill(resume=tmp_path / "run", overrides=["train.teacher_cache=0"], device="cpu")


# -- size ------------------------------------------------------------------------------------------------------------


def test_the_size_is_told_before_the_start_and_is_what_the_file_gets(inputs, tmp_path):
    events = []
    run(inputs, tmp_path / "run", on_event=events.append)
    told = next(e for e in events if e["event"] == "teacher_cache")
    size = (tmp_path / "run/teacher_cache/views.bin").stat().st_size
    taps = 4 * (16 + 16 * 3)  # of down2 and of each block, in float32
    assert told["bytes"] == size == 4 * VIEWS * (12 + 32 * 32 * 3 * 4 + taps)
    assert (told["images"], told["views"], told["kept"]) == (4, VIEWS, 0)
    assert [e["event"] for e in events].index("teacher_cache") < [e["event"] for e in events].index("step")


def test_the_size_is_a_line_of_talk(capsys):
    event = {"event": "teacher_cache", "images": 247, "views": 4, "bytes": 3 << 29, "kept": 5 << 20, "free": 73 << 30}
    Console()._on_event(event)
    said = "up to 1.5 GiB for 247 images x 4 views, 5.0 MiB already stored, 73.0 GiB free"
    assert said in capsys.readouterr().err


def test_bfloat16_takes_half(inputs, tmp_path):
    run(inputs, tmp_path / "run", "train.precision=bf16")
    manifest = json.loads((tmp_path / "run/teacher_cache/manifest.json").read_text())
    assert manifest["record"]["dtype"] == "torch.bfloat16"
    assert (tmp_path / "run/teacher_cache/views.bin").stat().st_size < 4 * VIEWS * (12 + 32 * 32 * 3 * 2 + 300)


def test_a_disk_without_the_room_is_refused_before_anything_is_written(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(OutputError, match="4 images x 2 views"):
        run(inputs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_costs_the_cache_and_not_the_run(inputs, tmp_path, monkeypatch):
    run(inputs, tmp_path / "whole")
    real, written = os.pwrite, []

    def full(file, data, offset):
        written.append(offset)
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    events = []
    assert run(inputs, tmp_path / "run", on_event=events.append).steps == 8
    assert sum("cache is removed" in e.get("message", "") for e in events) == 1
    assert not (tmp_path / "run/teacher_cache/views.bin").exists()
    same_run(tmp_path / "whole", tmp_path / "run")


# -- where it is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["omgd_online", "omgd_cyclegan"])
def test_a_teacher_that_learns_has_no_cache(recipe, inputs, tmp_path):
    with pytest.raises(RecipeError, match=r"train\.teacher_cache needs a frozen teacher"):
        distill(data=inputs[1], out=tmp_path / "x", recipe=recipe, overrides=["train.teacher_cache=1"], device="cpu")


def test_several_processes_have_no_cache(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "launch", SimpleNamespace(processes=lambda: 2))
    with pytest.raises(RecipeError, match="one process"):
        run(inputs, tmp_path / "run")


# -- the file --------------------------------------------------------------------------------------------------------


def test_records_are_read_back_and_what_is_not_whole_is_not_there(tmp_path):
    records = Records(tmp_path / "r", 3, 10)
    records.write(1, b"0123456789")
    assert [records.read(number) for number in range(4)] == [None, b"0123456789", None, None]
    whole, begin = (tmp_path / "r").read_bytes(), Records.length(1, 10)
    cut, flipped = whole[: begin + 15], bytearray(whole)
    flipped[begin + 20] ^= 1
    elsewhere = whole[begin : 2 * begin] + whole[begin:]
    for damaged, number in ((cut, 1), (flipped, 1), (elsewhere, 0)):
        (tmp_path / "r").write_bytes(damaged)
        assert records.read(number) is None
    records.close()
    assert records.read(1) is None
    with pytest.raises(ValueError):
        records.write(3, b"0123456789")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("taps", [{}, {"a": 3, "b": 5}])
def test_a_batch_is_unpacked_as_it_was_packed(dtype, taps):
    made = torch.randn(3, 2, 5, 7).to(dtype)
    taught = made, {name: torch.randn(3, count, 1, 1) for name, count in taps.items()}
    layout = Layout.of(taught)
    packed = layout.pack(taught)
    assert {len(record) for record in packed} == {layout.size}
    image, means = layout.unpack([bytearray(record) for record in packed], torch.device("cpu"))
    assert image.dtype == dtype and torch.equal(image, made)
    assert means.keys() == taps.keys() and all(torch.equal(means[name], taught[1][name]) for name in taps)
