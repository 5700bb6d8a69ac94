"""--device, --batch, --teacher, --data and --recipe take the same values in every command, with the same errors."""

import pytest
import typer
from toys import toy_images, toy_teacher_file

from vemcompress.cli import COMMANDS, app

PLAIN = ("--set", "data.size=32", "--set", "algorithm.features=none", "--set", "train.best_by=none")
BAD = [
    ("--device", "gpu", 2, "--device gpu: no such device; use auto, cpu, cuda, cuda:0 or mps."),
    ("--batch", "x", 2, "--batch x: give a whole number of at least 1, or auto."),
    ("--teacher", "none.pth", 4, "none.pth: no such file: check the path"),
    ("--teacher", "hf://../x", 2, "'hf://../x': not a Hub address: write hf://user/repo[/file][@revision]"),
    ("--data", "nowhere", 4, "folder; check the path."),
    ("--recipe", "omgdd", 3, "recipe 'omgdd' is not known. Did you mean 'omgd'?"),
]
OPTIONS = {name: {o for p in c.params for o in p.opts} for name, c in typer.main.get_command(app).commands.items()}
CASES = [(*bad, name) for bad in BAD for name in COMMANDS if bad[0] in OPTIONS[name]]
CASES = [case for case in CASES if case[-1] != "compare" or case[0] == "--batch"]  # which first reads the runs


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Of each command, arguments that it takes."""
    folder = tmp_path_factory.mktemp("given")
    teacher, data = toy_teacher_file(folder / "t.safetensors"), toy_images(folder / "images", 4)
    trains = ["--data", data, "--out", "run"]
    return {
        "distill": ["--teacher", teacher, *trains, *PLAIN],
        "teach": [*trains, *PLAIN[:2]],
        "init": ["--teacher", teacher, "--data", data, "-o", "mine.toml", *PLAIN],
        "search": [teacher, *trains, "--target-macs", "1k", *PLAIN[:2]],
        "eval": [teacher, "--data", data, *PLAIN[:2]],
        "bench-step": ["--teacher", teacher, "--data", data, *PLAIN],
        "compare": [folder, "--data", data],
        "generate": [teacher, "-i", data, "-o", "made"],
        "bench": [teacher],
        "prune": [teacher, "--ratio", "0.5", "-o", "small.safetensors"],
        "stats": [data, "-o", "real.npz"],
        "quickstart": ["-o", "tour"],
    }


@pytest.mark.parametrize(("option", "value", "code", "said", "name"), CASES)
def test_a_bad_value_is_told_in_the_same_words(call, given, tmp_path, monkeypatch, option, value, code, said, name):
    monkeypatch.chdir(tmp_path)
    arguments = [*given[name]]
    if option in arguments:
        arguments[arguments.index(option) + 1] = value
    else:
        arguments += [option, value]
    found, out, err = call(name, *arguments, "--quiet")
    assert (found, out) == (code, "") and err.startswith("error: ") and said in err
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_computes_on_networks_takes_a_device_and_its_images_a_batch():
    assert {name for name, options in OPTIONS.items() if "--device" in options} == {
        *("quickstart", "distill", "teach", "prune", "search", "eval", "compare", "stats"),
        *("generate", "bench", "bench-step"),
    }
    assert {name for name, options in OPTIONS.items() if "--batch" in options} == {
        *("distill", "teach", "init", "eval", "compare", "stats", "generate", "bench-step"),
    }
