"""File names that are not UTF-8 or would steer a terminal: from the command line to files, recipes and JSON."""

import json
import os
import shutil
from pathlib import Path

import pytest
from toys import TOY, toy_images, toy_teacher_file

from vemcompress.system import names
from vemcompress.system.names import printable

LATIN = os.fsdecode(b"caf\xe9")
SET = [word for setting in TOY if setting != "train.steps=6" for word in ("--set", setting)]


@pytest.fixture
def odd(tmp_path):
    """A teacher, and a folder of images, with such names in a folder of such a name."""
    home = tmp_path / LATIN
    home.mkdir()
    folder = toy_images(home / "images", 5)
    for name, new in (("0", LATIN), ("1", "red\x1b[31m[bold]"), ("2", "two\nlines")):
        shutil.move(folder / f"{name}.png", folder / f"{new}.png")
    (folder / "broken\x1b[31m.png").write_bytes(b"no image")
    return toy_teacher_file(home / "teacher.safetensors"), folder


def test_a_run_and_its_uses_take_any_name(odd, call, tmp_path):
    teacher, folder = odd
    run = tmp_path / f"run-{LATIN}"
    code, out, err = call("distill", "--teacher", teacher, "--data", folder, "--out", run, "--steps", 3, "--json", *SET)
    assert code == 0, err
    assert json.loads(out)["run"].endswith(r"run-caf\xe9") and json.loads(out)["skipped_images"] == 1
    assert "\x1b" not in err and r"broken\x1b[31m.png" in err and "5 images" in err
    assert "file:///" in (run / "recipe.toml").read_text("utf-8")
    json.loads((run / "environment.json").read_text())["teacher"]["source"].encode("utf-8")
    assert call("distill", "--resume", run, "--steps", 4)[0] == 0
    code, out, err = call("eval", run, "--metric", "ssim_teacher", "--json")
    assert code == 0 and json.loads(out)["images"] == 5 and len(json.loads(out)["unreadable"]) == 1
    code, _, err = call("compare", run, "--metric", "ssim_teacher", "--no-latency", "--json")
    assert code == 0 and "is damaged" not in err and "evaluation.json" not in err
    code, out, err = call("generate", run, "-i", folder, "-o", tmp_path / "out", "--json")
    assert code == 0 and (tmp_path / "out" / f"{LATIN}.png").is_file()
    written = json.loads(out)["written"]
    assert str(tmp_path / "out" / "red\x1b[31m[bold].png") in written
    assert "\udce9" not in out and any(r"caf\xe9.png" in name for name in written)


def test_errors_escape_what_steers_a_terminal(call, tmp_path):
    code, _, err = call("inspect", tmp_path / "esc\x1b[31m[bold].pth")
    assert code == 4 and "\x1b" not in err and r"esc\x1b[31m[bold].pth" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain é.jpg", "plain é.jpg"),
        ("a\x1b]0;x\x07", r"a\x1b]0;x\x07"),
        ("a\nb", r"a\nb"),
        (LATIN, r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_names_are_printed_on_one_line(name, said):
    assert printable(name) == said


@pytest.mark.parametrize("name", ["/a/b c", f"/data/{LATIN}/100%", "hf://user/repo"])
def test_a_path_in_a_recipe_is_found_again(name):
    assert names.found(names.stored(name)) == name
    names.stored(name).encode("utf-8")


def test_a_library_of_utf8_names_opens_any_file(tmp_path):
    path = tmp_path / LATIN
    path.write_bytes(b"x")
    with names.in_utf8(path) as name:
        assert Path(name).read_bytes() == b"x"
