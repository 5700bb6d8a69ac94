"""`--dry-run`: a run is checked and its plan printed, with a measured time, and nothing is written."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from toys import TOY, toy_images

from vemcompress.commands.distill import distill
from vemcompress.commands.dry import MOST, STEPS
from vemcompress.errors import RecipeError, UsageError

SET = [f"--set={o}" for o in TOY]


@pytest.fixture
def home(inputs, tmp_path, monkeypatch):
    """An empty working folder, in which every cache would be too."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_empty(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def test_distill_tells_plan_memory_and_time_and_writes_nothing(call, inputs, home):
    command = ["distill", "--teacher", inputs[0], "--data", inputs[1], "--out", "run", *SET, "--device", "cpu"]
    code, out, err = call(*command, "--set=train.teacher_cache=2", "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0 and is_empty(home), err
    assert all(title in err for title in ("teacher   resnet", "student   mobile_resnet", "recipe    omgd")), err
    assert (found["run"], found["steps"]) == ("run", 6) and STEPS <= found["timed"] <= MOST
    assert found["seconds"] == pytest.approx(6 * found["seconds_per_step"]) and found["seconds"] > 0
    assert found["memory"] > 2**20
    code, out, _ = call(*command, "--dry-run")
    assert code == 0 and re.search(r"measured over \d+ steps?\b", out) and "omit --dry-run" in out and is_empty(home)


def test_teach_times_each_kind_of_step(call, home, tmp_path_factory):
    data = toy_images(tmp_path_factory.mktemp("pairs") / "train", size=40)
    small = ["teacher.network.width=4", "gan.discriminator.width=4", "teacher.network.downs=5", "data.size=32"]
    shape = [f"--set={o}" for o in (*small, "data.kind=paired", "train.steps=6")]
    code, out, err = call(
        "teach", "--data", data.parent, "--out", "t", *shape, "--device", "cpu", "--dry-run", "--json"
    )
    assert code == 0 and is_empty(home), err
    assert json.loads(out)["seconds_per_step"] > 0


def test_of_a_pipeline_the_first_stage_is_timed_and_the_others_are_told(call, inputs, home):
    given = ["--teacher", inputs[0], "--data", inputs[1], "--out", "run", "--device", "cpu"]
    toy = [f"--set={o}" for o in TOY if not o.startswith(("student.", "information."))]
    code, out, err = call("distill", "--recipe", "prune_omgd", *given, *toy, "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0 and is_empty(home), err
    assert (found["stage"], found["timed"], found["later"]) == ("prune", 0, ["distill"])


def test_what_a_run_would_refuse_a_dry_run_refuses(inputs, home):
    given = {"data": [inputs[1]], "out": "run", "device": "cpu", "dry_run": True}
    with pytest.raises(RecipeError, match="Did you mean"):
        distill(inputs[0], overrides=["train.stepz=3"], **given)
    with pytest.raises(UsageError, match="no output"):
        distill(inputs[0], overrides=TOY, **given | {"out": None})
    with pytest.raises(UsageError, match="omit --resume"):
        distill(resume="run", dry_run=True)
    assert is_empty(home)


def test_images_from_python_are_kept_for_the_dry_run_alone(inputs, home):
    images = [np.full((40, 40, 3), 40 * i, np.uint8) for i in range(3)]
    assert distill(inputs[0], data=images, out="run", overrides=TOY, device="cpu", dry_run=True).timed >= STEPS
    assert is_empty(home)


def test_a_dry_run_of_several_runs_is_refused(call, inputs):
    code, _, err = call("distill", "--teacher", inputs[0], "--data", inputs[1], "--seeds", "1,2", "--dry-run")
    assert code == 2 and "omit --matrix, --seeds and --until" in err
