"""What a person sees while the library works: lines that fit the terminal, stages, and numbers that can be read."""

import io
import json
import math
import re
import shlex

import pytest
from rich.console import Console as Rich
from toys import TOY, toy_images, toy_teacher

from vemcompress.commands.distill import distill
from vemcompress.console import Console, explain
from vemcompress.console.bar import Bar
from vemcompress.console.below import Below, Score, sparkline
from vemcompress.console.ending import compared
from vemcompress.console.talk import Talk, scored_before
from vemcompress.errors import Interrupted
from vemcompress.export.latency import bench
from vemcompress.system.quantities import count_text

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = {"energy": -0.0181, "energy_magnitude": 0.000692, "ssim": 9.81, "tv": 0.159, "recon": 4.5, "channel": 0.0532}
STEP = {
    "event": "step", "step": 1200, "total": 20000, "losses": LOSSES, "main": ["ssim", "tv", "recon", "channel"],
    "seconds_per_step": 0.065, "images_per_second": 15.3, "remaining": 3725.0,
}  # fmt: skip
WHOLE = ["0.065 s/step", "loss 14.5", "ssim 9.81", "tv 0.159", "recon 4.5", "channel 0.0532"]
UP = "\x1b[1A"


def terminal(width: int) -> Rich:
    return Rich(file=io.StringIO(), force_terminal=True, width=width, height=24, _environ={})


def lines(console: Rich) -> list[str]:
    """The lines of the last drawing, without colours."""
    last = console.file.getvalue().split("\x1b[2K")[-1]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).strip("\r\n").splitlines()


def drawn(width: int, event: dict = STEP) -> list[str]:
    talk = Talk()
    talk.err = terminal(width)
    with talk.talking() as on_event:
        on_event(event)
    return lines(talk.err)


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_the_losses_fit_the_terminal_and_no_name_or_number_is_cut(width):
    bar, *below = drawn(width)
    assert all(len(line) <= width for line in (bar, *below)) and len(below) <= 6
    shown = dict(cell.rsplit(None, 1) for line in below for cell in re.findall(r"[+\w]+ +\S+", line))
    left = re.findall(r"\+(\d) more", below[-1])
    known = {name: f"{value:.3g}" for name, value in LOSSES.items()} | {"loss": "14.5"}
    cells = {name: value for name, value in shown.items() if value != "more"}
    assert cells.items() <= known.items() and list(cells)[:3] == ["loss", "ssim", "tv"]
    assert len(cells) + sum(map(int, left)) == len(known) and (not left) == (width >= 80)
    assert "1200/20000" in bar and ("1 h 02 min left" in bar) == (width >= 40)


def test_a_terminal_that_is_not_high_shows_fewer_losses_and_says_how_many_are_left():
    cells = [(f"loss_{number}", "0.1") for number in range(9)]
    assert [line.plain.split()[-2:] for line in Below(cells).lines(20, 7, False)] == [
        ["loss_0", "0.1"], ["loss_1", "0.1"], ["+7", "more"],
    ]  # fmt: skip
    assert Below([("a_name_that_is_too_wide", "1")]).lines(20, 24, False) == []


@pytest.mark.parametrize(
    ("width", "line"),
    [(60, "fid ▁▃▆█▃ 20  best 10 at step 100"), (29, "fid ▁▃▆█▃ 20  best 10"), (11, "fid ▁█▃ 20"), (9, None)],
)
def test_the_score_is_a_sparkline_with_the_newest_and_the_best_value(width, line):
    drawn = Score("fid", [10, 20, 30, 40, 20], 10, 100).line(width, False)
    assert (drawn and drawn.plain) == line


def test_a_sparkline_has_other_characters_where_the_terminal_lacks_blocks():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8, True) == "_.:-=+*#"
    assert sparkline([3.0, 3.0], 8, False) == "▅▅" and sparkline([1.0], 8, True) == "="


def test_a_score_that_is_not_finite_is_no_part_of_the_sparkline():
    assert sparkline([0.0, math.nan, 7.0, math.inf], 8, True) == "_#" and sparkline([math.nan], 8, True) == ""


def test_scores_are_drawn_below_the_bar_also_those_from_before_a_resume():
    score = {"event": "score", "step": 6, "metric": "fid", "value": 20.0, "best": {"value": 10.0, "step": 2}}
    talk = Talk()
    talk.err = terminal(80)
    best = {"metric": "fid", "value": 10.0, "step": 2}
    talk._below = scored_before({"scores": [{"value": 10.0}, {"value": 40.0}], "best": best})
    with talk.talking() as on_event:
        on_event(score)
        on_event(STEP)
    assert lines(talk.err)[-1] == "fid ▁█▃ 20  best 10 at step 2"


def test_between_the_logged_steps_the_bar_still_moves(capsys):
    pace = {"event": "pace", "step": 0, "total": 100, "seconds_per_step": None, "images_per_second": None}
    assert drawn(80, pace | {"remaining": None}) == ["training " + 20 * "─" + " 0/100  starting"]
    moved = pace | {"step": 3, "seconds_per_step": 2.0, "images_per_second": 0.5, "remaining": 194.0}
    assert drawn(80, moved)[0].endswith("3/100  2.000 s/step  0.5 images/s  3 min 14 s left")
    Talk()._on_event(moved)
    assert capsys.readouterr().err == ""


def test_a_plain_line_names_the_main_terms_alone(capsys):
    talk = Talk()
    talk._on_event(STEP | {"step": 2000})
    line = capsys.readouterr().err
    assert "loss 14.5  ssim 9.81  tv 0.159  recon 4.5  channel 0.0532" in line and "energy" not in line


@pytest.mark.parametrize(("narrow", "rows"), [(120, 2), (79, 2), (40, 4), (20, 8)])
def test_a_terminal_that_became_narrower_keeps_no_ghost_of_the_bar(narrow, rows):
    """It has broken the lines that were drawn, of 72 and 71 cells, into more."""
    console = terminal(80)
    bar = Bar("training", 20000, console)
    bar.auto_refresh = False
    bar.start()
    bar.update(1200, ["15.3 images/s", "1 h 02 min left"], WHOLE)
    assert [len(line) for line in lines(console)] == [72, 71]
    console.file.truncate(console.file.seek(0))
    console.width = narrow
    bar.refresh()
    assert console.file.getvalue().count(UP) == rows - 1
    bar.stop()


def test_without_colours_the_bar_still_shows_how_far_it_is():
    console = Rich(file=io.StringIO(), force_terminal=True, width=80, no_color=True, _environ={})
    bar = Bar("measuring", 4, console)
    bar.start()
    bar.update(1, [])
    bar.stop()
    assert lines(console) == ["measuring " + 5 * "━" + 15 * "─" + " 1/4"]


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999"), (999_500, "1 M"), (56_835_440_640, "56.8 G"), (733_986_816, "734 M"), (2_500_000_000_000, "2.5 T")],
)
def test_a_large_count_has_three_digits(count, text):
    assert count_text(count) == text


def test_inspect_tells_people_and_programs_the_macs(call, inputs):
    code, out, _ = call("inspect", inputs[0])
    assert code == 0 and re.search(r"macs +true [\d.]+ M, paper [\d.]+ M, paper_norm [\d.]+ M", out)
    _, out, _ = call("inspect", inputs[0], "--json")
    assert all(type(count) is int and count > 1e6 for count in json.loads(out)["macs"].values())


@pytest.mark.parametrize(("held_out", "images"), [(0, 4), (1, 1)])
def test_a_run_that_picked_no_best_tells_its_quality_and_on_which_images(inputs, tmp_path, held_out, images):
    settings = [*TOY, f"data.held_out={held_out}", "train.best_by=none"]
    result = distill(inputs[0], data=inputs[1], out=tmp_path / "run", overrides=settings, device="cpu")
    assert result.quality["on"] == ("held_out" if held_out else "training")
    assert result.quality["images"] == images and result.best is None
    assert 0 < result.quality["metrics"]["ssim_teacher"] < 1 and result.quality["metrics"]["psnr_teacher"] > 0


@pytest.mark.parametrize(
    ("held_out", "titles", "text"),
    [(0, ["teacher", "last", "smaller"], r"psnr_teacher +│ +│ +[\d.]+ │\n.* on 4 images \(the training images\)"),
     (1, ["teacher", "last", "best", "smaller"], r"ssim_teacher +│ +│ +0\.\d+ │ +0\.\d+ │\nat step +│ +│ +6 │ +\d │")],
)  # fmt: skip
def test_a_run_ends_with_a_table_of_teacher_last_and_best_and_with_what_to_do_next(
    call, inputs, tmp_path, held_out, titles, text
):
    run = tmp_path / "my run"
    settings = [f"--set={override}" for override in (*TOY, f"data.held_out={held_out}")]
    code, out, _ = call("distill", "--teacher", inputs[0], "--data", inputs[1], "--out", run, *settings)
    assert code == 0 and re.search(text, out) and "\x1b" not in out
    assert out.splitlines()[0].replace("┃", " ").split() == titles
    assert re.search(r"MACs \(true, 32 px\) │ +[\d.]+ M │.* x\n", out)
    commands = [shlex.split(line) for line in out.partition("next\n")[2].splitlines()]
    assert [command[1] for command in commands] == ["eval", "export"] and commands[0][2] == str(run)
    assert call(*commands[1][1:])[0] == 0 and (run / "student.onnx").is_file()
    code, out, _ = call("distill", "--resume", run, "--quiet")
    assert code == 0 and re.search(text, out) and "next" not in out


RUN = {
    "run": "r", "student": "r/student.safetensors", "steps": 9, "total_steps": 9, "parameters": 1000,
    "teacher_parameters": 8000, "macs": {"true": 5_000_000}, "teacher_macs": {"true": 20_000_000}, "size": 64,
    "best": {"step": 3, "metric": "fid", "value": 7.5, "on": "test", "images": 8, "higher_is_better": False},
    "last": {"step": 9, "value": 8.25}, "quality": None, "losses": {}, "main": [], "diverged": {}, "stopped": None,
    "seconds_per_step": None, "information_share": None, "skipped_images": 0, "report": "r/report.html",
    "next": ["vemcompress eval r"],
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_at_the_end_is_whole_on_a_terminal(width):
    console = Console()
    console.out = terminal(width)
    console.distilled(RUN | {"next": ["vemcompress export " + 30 * "long "]})
    found = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.out.file.getvalue()).splitlines()
    assert max(len(line) for line in found if "long" not in line) <= width
    cells = [[cell.strip() for cell in line.split("│")] for line in found if "│" in line]
    assert cells == [
        ["parameters", "8.0 k", "1.0 k", "1.0 k", "8.0 x"],
        ["MACs (true, 64 px)", "20.0 M", "5.0 M", "5.0 M", "4.0 x"],
        ["fid", "", "8.25", "7.5", ""],
        ["at step", "", "9", "3", ""],
    ]
    assert any(line.split() == ["best", "r/best/student.safetensors"] for line in found)
    assert "fid on 8 images (the test images); lower is better" in [line.strip() for line in found]
    assert found[-1] == "  vemcompress export " + 30 * "long "  # not broken, so that it can be copied


def test_the_table_at_the_end_invents_nothing():
    unknown = {"teacher_parameters": None, "macs": None, "teacher_macs": None, "best": None, "last": None}
    assert compared(RUN | unknown) == (["", "last"], [["parameters", "1.0 k"]], [])


# -- stages ----------------------------------------------------------------------------------------------------------


def test_an_export_tells_its_stages_and_nothing_with_quiet(call, inputs, tmp_path):
    code, _, err = call("export", inputs[0], "--onnx", tmp_path / "a.onnx", "--uint8")
    assert code == 0
    told = [line for line in err.splitlines() if line.startswith("export ")]
    checks = [f"export    checking parity with PyTorch, {n} of 5" for n in range(1, 6)]
    assert told == ["export    exporting the graph, which takes up to a minute", *checks, "export    written"]
    assert call("export", inputs[0], "--onnx", tmp_path / "b.onnx", "--quiet")[2] == ""


def test_on_a_terminal_a_latency_is_measured_too():
    talk = Talk()
    talk.err = terminal(80)
    with talk.talking() as on_event:
        bench(toy_teacher(), size=32, repeats=1, warmup=0, runtimes=("torch",), on_event=on_event)
    assert lines(talk.err) == ["measuring torch"]


def test_on_a_terminal_an_export_is_one_bar():
    talk = Talk()
    talk.err = terminal(80)
    with talk.talking() as on_event:
        on_event({"event": "export", "stage": "trace", "done": 0, "total": 4, "opset": 18})
        on_event({"event": "export", "stage": "compare", "done": 2, "total": 4, "number": 2, "checks": 2})
    assert lines(talk.err) == ["export " + 10 * "━" + 10 * "─" + " 2/4  checking parity with PyTorch, 2 of 2"]


def test_a_torchvision_of_another_build_is_told_in_a_sentence(capsys):
    assert explain(RuntimeError("operator torchvision::nms does not exist")) == 1
    assert capsys.readouterr().err == (
        "error: torch and torchvision are from different builds; install both from the same place (see the README).\n"
    )


def test_the_end_of_a_run_names_its_terms_alone_and_a_run_that_is_done_none(inputs, call, tmp_path):
    teacher, data = inputs
    settings = [f"--set={o}" for o in (*TOY, "train.steps=1", "data.held_out=0")]
    code, out, _ = call("distill", "--teacher", teacher, "--data", data, "--out", tmp_path / "run", *settings)
    (line,) = (line for line in out.splitlines() if line.startswith("last step"))
    assert code == 0 and "ssim" in line and "information" in line
    assert not any(name in out for name in ("energy_gap", "langevin_move", "share"))
    code, out, _ = call("distill", "--resume", tmp_path / "run")
    assert code == 0 and "last step" not in out


def test_one_thing_is_no_plural_and_a_file_that_is_no_image_is_not_counted(inputs, call, tmp_path):
    folder = toy_images(tmp_path / "images", 1)
    (folder / "broken.png").write_bytes(b"no image")
    code, _, err = call("eval", inputs[0], "--teacher", inputs[0], "--data", folder, "--size", 32)
    assert code == 0 and err.count("broken.png") == 1 and "data      1 image (flat folder)" in err
    code, out, _ = call("generate", inputs[0], "--input", folder, "--out", tmp_path / "out")
    assert code == 0 and out.startswith(f"1 picture in {tmp_path / 'out' / '0.png'}, ")
    folder = toy_images(tmp_path / "more", 2)
    _, out, _ = call("generate", inputs[0], "--input", folder, "--out", tmp_path / "out2")
    assert out.startswith(f"2 pictures in {tmp_path / 'out2'}, ")


def test_metrics_that_are_missing_for_one_reason_share_a_line_which_is_not_broken(capsys):
    address = f"fetch https://example.org/{'x' * 100}"
    one = {"images": 1, "real_images": None, "size": 32, "features": "none", "metrics": {}, "protocol": {}}
    Console()._protocols(one | {"skipped": {"fid": address, "kid": address, "miou": "no labels"}})
    assert capsys.readouterr().err.splitlines() == [f"skipped   fid, kid: {address}", "skipped   miou: no labels"]


def test_inspect_has_no_empty_rows(capsys):
    known = {"family": "custom", "parameters": 1234, "macs": {"true": 1000}}
    Console().inspected(known | {"config": None, "taps": [], "input": {"kind": "image", "shape": [3, 32, 64]}})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["family", "parameters", "macs", "input"]
    assert lines[2].endswith("at 32 x 64 px")


@pytest.mark.parametrize("command", [["inspect"], ["prune", "--target-macs", "1G", "--out", "x.safetensors"]])
def test_macs_are_counted_for_sides_whose_count_fits(command, inputs, call):
    code, _, err = call(command[0], inputs[0], *command[1:], "--size", 99999996)
    assert (code, "65536" in err) == (2, True)


def test_an_interruption_is_no_error(capsys):
    assert explain(Interrupted("stopped by SIGINT at step 4 of 6, and saved.")) == 130
    assert capsys.readouterr().err == "stopped by SIGINT at step 4 of 6, and saved.\n"
