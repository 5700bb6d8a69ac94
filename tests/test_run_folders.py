"""Run folders that were damaged, moved, or handed over: never a traceback, a hang, or a word that is wrong."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from teach_toys import toy_pairs
from toys import TOY, toy_images, toy_teacher_file

import vemcompress
from vemcompress.commands.distill import distill
from vemcompress.commands.opening import check_moved
from vemcompress.errors import InputError, Interrupted, OutputError, UsageError, VemError
from vemcompress.runs import checkpoint, log
from vemcompress.runs.best import look
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.records import Records
from vemcompress.runs.series import Series
from vemcompress.training.signals import Signals
from vemcompress.weights.energy import load_energy_model

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [*TOY, "train.steps=2", "train.checkpoint_every=1", "data.held_out=1"]


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    """A run of two steps, with two checkpoints and a best one."""
    out = tmp_path_factory.mktemp("made") / "run"
    distill(inputs[0], data=inputs[1], out=out, overrides=TINY, device="cpu")
    return out


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def resumed(run: Path, *overrides: str, **options) -> list[str]:
    """What is said beside while it goes on."""
    events = []
    distill(resume=run, overrides=overrides, device="cpu", on_event=events.append, **options)
    return [event["message"] for event in events if event["event"] == "warning"]


# -- special files and links -------------------------------------------------------------------------------------------

OURS = [
    *("recipe.toml", "run.json", "environment.json", "metrics.jsonl", "timing.jsonl", "student.safetensors", ".lock"),
    *("best/best.json", "checkpoints/latest", "checkpoints/step-000002/manifest.json"),
    *("checkpoints/step-000002/state.json", "checkpoints/step-000002/student.safetensors", "teacher_cache/views.bin"),
]


@pytest.mark.parametrize("name", OURS)
def test_a_pipe_or_a_link_out_in_a_run_folder_is_refused_on_resume(name, run):
    target = run / name
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    os.mkfifo(target)
    with pytest.raises(InputError, match="pipe" if name != "recipe.toml" else "recipe"):
        distill(resume=run, device="cpu")
    target.unlink()
    target.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="/dev/zero" if name != "recipe.toml" else "recipe"):
        distill(resume=run, device="cpu")


@pytest.mark.parametrize("name", ["samples", "checkpoints", "best", "teacher_cache"])
def test_a_folder_of_a_run_that_is_a_link_out_of_it_is_refused(name, run, tmp_path):
    shutil.rmtree(run / name, ignore_errors=True)
    (tmp_path / "elsewhere").mkdir()
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{name}: is a link to .*elsewhere"):
        distill(resume=run, device="cpu")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_stage_or_a_seed_whose_folder_is_a_link_out_is_refused(run, tmp_path):
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "seeds.json").write_text('{"seeds": [1, 2], "done": []}')
    (tmp_path / "seeds" / "seed-1").symlink_to(run)
    with pytest.raises(InputError, match="seed-1: is a link to"):
        Series.read(tmp_path / "seeds", "seeds").check_existing()


def test_a_run_folder_may_be_a_link_and_have_links_within(run, tmp_path):
    (run / "newest").symlink_to("student.safetensors")
    (tmp_path / "link").symlink_to(run)
    assert resumed(tmp_path / "link") == []


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "views.bin"])
def test_what_is_written_does_not_go_through_a_link(name, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(victim)
    write = {
        "metrics.jsonl": lambda path: log.Log(path, 0),
        "views.bin": lambda path: Records(path, 2, 8),
        ".lock": lambda path: RunFolder(path.parent).locked().__enter__(),
    }
    with pytest.raises((OutputError, InputError), match="is a link"):
        write[name](tmp_path / "run" / name)
    assert victim.read_text() == "mine"


def test_reading_a_run_does_not_wait_for_pipes(run):
    for name in OURS[1:5] + OURS[7:10]:
        (run / name).unlink()
        os.mkfifo(run / name)
    assert vemcompress.load_generator(run).config.family == "mobile_resnet"
    assert look(run).step is None
    assert checkpoint.damage(run / "checkpoints/step-000002")
    with pytest.raises(InputError, match="no energy model"):
        load_energy_model(run)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_line_of_a_log_is_told_and_left_out_of_figures(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(lines[0] + '{"step": "a"}\n' + lines[1].replace("ssim", "ss\x00im"))
    assert log.damage(run / "metrics.jsonl").endswith("lines 2, 3 are damaged and ignored in all figures.")
    assert log.last(run / "metrics.jsonl")[0] == 1
    told = resumed(run, "train.steps=3")
    assert [message for message in told if "lines 2, 3 are damaged" in message]
    assert log.last(run / "metrics.jsonl")[0] == 3


def test_a_line_that_a_kill_cut_short_is_no_damage(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "ssi')
    assert log.damage(run / "metrics.jsonl") is None
    assert resumed(run, "train.steps=3") == []


def test_a_damaged_newest_checkpoint_is_told_with_the_one_that_is_taken(run):
    path = run / "checkpoints/step-000002/student.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (told,) = resumed(run)
    assert "step-000002: student.safetensors does not match its sum" in told
    assert "continuing from step-000001" in told


def test_checkpoints_that_are_gone_are_told(run):
    shutil.rmtree(run / "checkpoints/step-000002")
    assert "step-000002: is missing; continuing from step-000001" in resumed(run)[0]
    shutil.rmtree(run / "checkpoints/step-000001")
    shutil.rmtree(run / "checkpoints/step-000002")
    assert "step-000002: is missing; there is no other, so the run starts again." in resumed(run)[0]


@pytest.mark.parametrize(
    "old, new", [(b"weight = 0.1", b"weight = 0.3"), (b"# SHA-256 of the lines above: ", b"\\g<0>0")]
)
def test_a_recipe_that_was_changed_since_is_refused_until_it_is_accepted(run, old, new):
    recipe, before = run / "recipe.toml", (run / "recipe.toml").read_bytes()
    assert old in before
    recipe.write_bytes(before.replace(old, new.replace(b"\\g<0>", old), 1))
    with pytest.raises(InputError, match=r"recipe\.toml: was changed by hand or damaged.*remove its last line"):
        distill(resume=run, device="cpu")
    recipe.write_text("".join(recipe.read_text().splitlines(keepends=True)[:-1]))  # as it is, and as of a last release
    assert resumed(run) == []


def test_a_checkpoint_that_does_not_fit_the_recipe_is_one_sentence(run):
    text = (run / "recipe.toml").read_text().partition("# SHA-256")[0]
    assert "channels = 2" in text
    (run / "recipe.toml").write_text(text.replace("channels = 2", "channels = 3"))
    with pytest.raises(InputError, match="step-000002: does not fit this run"):
        distill(resume=run, device="cpu")


@pytest.mark.parametrize("name", ["environment.json", "run.json"])
def test_a_run_goes_on_without_what_is_only_told(run, name):
    (run / name).write_text("[" * 100_000)
    told = resumed(run)
    assert [message for message in told if name in message] or name == "run.json"
    assert isinstance(json.loads((run / name).read_text()), dict)


def test_another_teacher_is_known_also_without_the_environment(run, tmp_path):
    (run / "environment.json").unlink()
    with pytest.raises(InputError, match="was made with another teacher"):
        distill(toy_teacher_file(tmp_path / "other.safetensors", seed=1), resume=run, device="cpu")


HOSTILE = ["", "[", "[]", "null", "1e999", '"\\ud800"', "[" * 50_000, "9" * 5000, "\x00", '{"step": "a"}', "{}"]
VALUES = [None, "a", -1, 2**70, [], {}, "\ud800", True, 0.5, [[1]], "../../x"]


def _paths(value, at=()):
    """Where in a JSON value something can be put in place of what is there."""
    yield at
    for key, inside in value.items() if isinstance(value, dict) else ():
        yield from _paths(inside, (*at, key))


def _mutated(text: str, choose: random.Random) -> str:
    if choose.random() < 0.4:
        return choose.choice(HOSTILE)
    value = json.loads(text)
    *above, last = choose.choice([path for path in _paths(value) if path])
    inside = value
    for key in above:
        inside = inside[key]
    inside[last] = choose.choice(VALUES)
    return json.dumps(value)


JSON = ["run.json", "environment.json", "best/best.json", "metrics.jsonl", "timing.jsonl"]
JSON += [f"checkpoints/step-000002/{name}.json" for name in ("manifest", "state")]


@pytest.mark.parametrize("name", JSON)
def test_whatever_a_json_file_of_a_run_says_no_command_ends_in_a_traceback(name, run, inputs):
    choose = random.Random(name)
    path = run / name
    before = path.read_text()
    for _ in range(3):
        lines = before.splitlines(keepends=True) if name.endswith("jsonl") else [before]
        at = choose.randrange(len(lines)) if lines else 0
        lines[at : at + 1] = [_mutated(lines[at] if lines else '{"step": 1}', choose) + "\n"]
        text = "".join(lines)
        path.write_text(text)
        if "step-" in name and "manifest" not in name:  # as by somebody who knows the sums
            checkpoint.save(run / "checkpoints", 2, {p.name: p.read_bytes() for p in path.parent.iterdir()})
        for command in (
            lambda: distill(resume=run, device="cpu"),
            lambda: vemcompress.evaluate(run, data=inputs[1], metrics=["ssim_teacher"], device="cpu"),
            lambda: vemcompress.load_generator(run),
            lambda: load_energy_model(run),
            lambda: look(run),
        ):
            path.write_text(text)
            try:
                command()
            except VemError as error:
                str(error).encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_list_of_runs_that_says_nonsense_is_one_sentence(text, tmp_path):
    for kind in ("seeds", "stages"):
        (tmp_path / f"{kind}.json").write_text(text)
        with pytest.raises(InputError, match="is not valid"):
            Series.read(tmp_path, kind)


# -- what kills leave --------------------------------------------------------------------------------------------------


def test_leftovers_of_kills_are_swept_by_the_next_holder_and_nothing_else(run):
    ours = [".0123456789abcdef.tmp", "best/.0123456789abcdef.tmp", "samples/.0123456789abcdef.tmp"]
    others = [".0123.tmp", "mine.tmp", "checkpoints/step-000002.bak", "checkpoints/step-foo"]
    for name in (*ours, *others):
        (run / name).write_text("x")
    for name in ("step-000003.tmp", "step-000000.old.tmp", "step-000000"):
        (run / "checkpoints" / name).mkdir()
    shutil.copy(run / "checkpoints/step-000001/manifest.json", run / "checkpoints/step-000000")  # half deleted
    assert resumed(run) == []
    left = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert not left & {
        *ours,
        "checkpoints/step-000003.tmp",
        "checkpoints/step-000000.old.tmp",
        "checkpoints/step-000000",
    }
    assert left >= {*others, "checkpoints/step-000001", "checkpoints/step-000002"}


def test_a_name_like_a_checkpoints_does_not_stop_a_resume(run):
    (run / "checkpoints/step-000003.bak").mkdir()
    (run / "checkpoints/step-foo").mkdir()
    (run / "checkpoints/step-000003").write_text("a file")
    assert resumed(run, "train.steps=3") == []
    assert (run / "checkpoints/latest").read_text() == "step-000003\n"


def test_a_checkpoint_that_is_removed_never_looks_whole(tmp_path, monkeypatch):
    files = {"a": b"a", "b": b"b"}
    for step in (1, 2):
        checkpoint.save(tmp_path, step, files)

    def killed(path, **_):
        if path.exists():
            (path / "a").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 3, files)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [
        "step-000001.old.tmp",
        "step-000002",
        "step-000003",
    ]
    checkpoint.discard_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000002", "step-000003"]


def test_a_run_that_went_back_leaves_no_checkpoint_of_later_steps(tmp_path):
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, step, {"a": b"a"})
    checkpoint.save(tmp_path, 12, {"a": b"a"})
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000010", "step-000012"]


def test_a_run_killed_as_its_recipe_was_written_can_be_started_anew(inputs, tmp_path):
    out = tmp_path / "run"
    for folder in ("samples", "checkpoints"):
        (out / folder).mkdir(parents=True)
    (out / ".lock").touch()
    (out / ".0123456789abcdef.tmp").write_text("[data")
    with pytest.raises(InputError, match=f"start it again with --out {out}"):
        distill(resume=out, device="cpu")
    distill(inputs[0], data=inputs[1], out=out, overrides=TINY, device="cpu")
    assert not (out / ".0123456789abcdef.tmp").exists()


def test_a_folder_with_checkpoints_but_no_recipe_is_not_taken_for_empty(run):
    for path in run.iterdir():
        if path.name not in (".lock", "checkpoints"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UsageError, match="already exists"):
        RunFolder(run).check_new()


@pytest.mark.parametrize("kind, items", [("seeds", [1, 2]), ("stages", ["prune", "distill"])])
def test_a_series_killed_as_its_list_was_written_can_be_started_anew(kind, items, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".0123456789abcdef.tmp").write_text("{")
    folder = Series(tmp_path / "x", kind, items)
    folder.check_new()
    (folder.run(items[0]).path).mkdir()
    (folder.run(items[0]).path / ".0123456789abcdef.tmp").write_text("[")
    folder.check_new()


# -- what is taken away ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [["train.log_every=1"], ["train.log_every=100"], ["train.log_every=100", "train.sample_every=2"]]
)
def test_a_run_folder_that_is_deleted_while_it_trains_ends_the_run(settings, inputs, tmp_path):
    def delete(event):
        if event["event"] == "step" and event["step"] == 1:
            shutil.rmtree(tmp_path / "run")

    overrides = [*TOY, "train.steps=50", "train.checkpoint_every=5", *settings]
    with pytest.raises(OutputError, match="removed or replaced during the run"):
        distill(inputs[0], data=inputs[1], out=tmp_path / "run", overrides=overrides, device="cpu", on_event=delete)
    assert not (tmp_path / "run").exists()


def test_a_write_that_fails_since_the_run_folder_is_gone_says_so(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create()
    with pytest.raises(OutputError, match="run: was removed or replaced"), run.locked():
        shutil.rmtree(run.path)
        run.write_json(run.environment, {})


def test_a_log_that_is_removed_under_a_run_is_told(tmp_path):
    opened = log.Log(tmp_path / "metrics.jsonl", 0)
    opened.write({"step": 1})
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(OutputError, match="was removed or replaced"):
        opened.write({"step": 2})


def test_teacher_and_data_that_have_moved_are_given_on_resume(call, tmp_path):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    settings = [f"--set={o}" for o in [*TOY, "train.steps=2", "data.held_out=0"]]
    assert call("distill", "--teacher", teacher, "--data", data, "--out", tmp_path / "run", *settings)[0] == 0
    moved = teacher.rename(tmp_path / "moved.safetensors")
    code, _, said = call("distill", "--resume", tmp_path / "run", "--set", "train.steps=3")
    assert (code, "the run's teacher is missing; give it with --teacher" in said) == (4, True)
    files = ["--teacher", moved, "--data", data.rename(tmp_path / "there")]
    assert call("distill", "--resume", tmp_path / "run", "--set", "train.steps=3", *files)[0] == 0
    other = toy_teacher_file(tmp_path / "other.safetensors", seed=1)
    code, _, said = call("distill", "--resume", tmp_path / "run", "--teacher", other, "--set", "train.steps=4")
    assert (code, "is not the teacher" in said) == (4, True)


def test_runs_that_are_missing_get_the_teacher_that_the_others_began_with(inputs, made, tmp_path):
    other = toy_teacher_file(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(InputError, match="is not the teacher that"):
        check_moved(RunFolder(made), other, str(inputs[0]))
    check_moved(RunFolder(made), shutil.copy(inputs[0], tmp_path / "moved.safetensors"), str(inputs[0]))


def test_what_needs_no_teacher_is_measured_where_it_is_gone(inputs, run, call):
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace(str(inputs[0]), "/nowhere/teacher.pth"))
    pairs = ["--set", "data.kind=paired", "--data", toy_pairs(run.parent / "pairs", 2)]
    code, out, said = call("eval", run, *pairs, "--json", "--device", "cpu")
    assert code == 0
    assert "/nowhere/teacher.pth: the run's teacher is missing; give it with --teacher" in said
    metrics = json.loads(out)["metrics"]
    assert "ssim_target" in metrics and "ssim_teacher" not in metrics
    assert call("inspect", run)[0] == 0


def test_a_best_network_that_was_never_picked_says_why(inputs, run, call):
    shutil.rmtree(run / "best")
    for command in (
        ["inspect"],
        ["export", "--onnx", run / "x.onnx"],
        ["generate", "--input", inputs[1], "--out", run],
    ):
        code, _, said = call(command[0], run / "best/student.safetensors", *command[1:])
        assert code == 4
        assert (
            f"no image was held out (data.held_out) or train.best_by is none; use the last one, {run}/student" in said
        )


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_lost_connection_saves(inputs, tmp_path):
    def hang_up(event):
        if event["event"] == "step" and event["step"] == 4:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)  # the system and the shell each send one

    with pytest.raises(Interrupted, match="stopped by SIGHUP at step 4 of 6, and saved"):
        distill(inputs[0], data=inputs[1], out=tmp_path / "x", overrides=TOY, device="cpu", on_event=hang_up)
    assert (tmp_path / "x/checkpoints/latest").read_text() == "step-000004\n"


def test_nohup_stays_in_force():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals().heard():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


HANGS_UP = """
import os, sys, time
from vemcompress.training.signals import Signals
signals = Signals()
with signals.heard():
    os.write(1, b"ready")  # at once: whoever reads it hangs up
    while not signals.number:
        time.sleep(0.01)
    print("saved", file=sys.stderr, flush=True)
    os._exit(signals.number)  # at once: the system sends a second one, which Python does not handle while it ends
"""


def test_what_is_said_to_a_terminal_that_is_gone_stops_nothing():
    terminal, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS_UP], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    assert os.read(terminal, 5) == b"ready"
    os.close(terminal)  # which hangs up
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == signal.SIGHUP
