"""What short runs of the release before this house gave: their curves, and its run folders, gone on with."""

import json
import os
import sys
import tarfile
from copy import deepcopy
from pathlib import Path

import pytest

import vemcompress

sys.path.insert(0, str(Path(__file__).with_name("golden")))
import curves

pytestmark = pytest.mark.usefixtures("one_thread")

KNOWN = json.loads(curves.CURVES.read_text())
EXACT = "VEMCOMPRESS_GOLDEN_EXACT" in os.environ  # on the processor that they were written down on
RELEASE = Path(__file__).with_name("golden") / "release-0.1.0.tar.xz"


def assert_same(found: dict, expected: dict) -> None:
    found = json.loads(json.dumps(found))
    if EXACT:
        assert found == expected
    assert [list(line) for line in found["curve"]] == [list(line) for line in expected["curve"]]
    for line, known in zip(found["curve"], expected["curve"], strict=True):
        assert line == pytest.approx(known, rel=2e-3, abs=1e-5)
    assert list(found["weights"]) == list(expected["weights"])
    for name, file in found["weights"].items():
        known = expected["weights"][name]
        assert file["tensors"] == known["tensors"], name
        assert file["mean"] == pytest.approx(known["mean"], rel=1e-3), name


@pytest.mark.parametrize("case", curves.CASES)
def test_a_run_has_the_curve_that_the_release_had(case, tmp_path):
    assert_same(curves.run(case, tmp_path), KNOWN[case])


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder of the run folders that the release made, with the data that they were made from."""
    root = tmp_path_factory.mktemp("release")
    with tarfile.open(RELEASE) as archive:
        archive.extractall(root, filter="data")
    for path in (*root.rglob("*.toml"), *root.rglob("environment.json")):
        path.write_text(path.read_text().replace("ROOT", str(root)))
    curves.make_data(root / "data")
    return root


@pytest.mark.parametrize("case", ["frozen-vem", "online-vem", "phases-vid", "phases-judged", "teach-cyclegan"])
def test_a_run_folder_of_the_release_goes_on_to_the_same_end(case, released):
    result = curves.COMMANDS[curves.CASES[case][0]](resume=released / case, device="cpu")
    assert (result.steps, result.stopped) == (8, None)
    found, known = curves.told(released / case), deepcopy(KNOWN[case])
    if case == "online-vem":  # the release's D judged the deep teacher's image first, which its statistics still tell
        assert found["weights"].pop("discriminator.safetensors") != known["weights"].pop("discriminator.safetensors")
    assert_same(found, known)


def test_a_teacher_of_the_release_is_evaluated_and_taught_on(released):
    run = released / "teach-pix2pix"
    before = vemcompress.evaluate(run, metrics=["l1_target"], device="cpu")
    assert (before.role, before.step) == ("teacher", 5)
    assert before.best["step"] == 4
    curves.COMMANDS["teach"](resume=run, device="cpu")
    assert_same(curves.told(run), KNOWN["teach-pix2pix"])


def test_seeds_of_the_release_go_on_and_are_evaluated(released):
    result = vemcompress.distill_seeds(resume=released / "seeds", device="cpu")
    assert [run.steps for run in result.seeds.values()] == [8, 8]
    scores = vemcompress.evaluate_seeds(released / "seeds", metrics=["ssim_teacher"], device="cpu")
    assert scores.metrics["ssim_teacher"].n == 2
