"""`init` and `recipes show --explain`: recipes with comments, which parse and mean the same as without."""

import json
import re
import tomllib

import pytest
from toys import TOY

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.data.settings import DataSettings
from vemcompress.information import INFORMATION
from vemcompress.recipe import AutoStudent, TeacherSettings, TrainSettings
from vemcompress.recipe.explain import explained, meaning
from vemcompress.recipe.reading import general

EVERYDAY = (TeacherSettings, AutoStudent, DataSettings, TrainSettings)
EVERYDAY += (ALGORITHMS["omgd"].Settings, ALGORITHMS["kd"].Settings, INFORMATION["vem"].Settings)


@pytest.mark.parametrize("name", general())
def test_comments_change_nothing(name):
    plan = recipes.read(name)
    assert without_empty(tomllib.loads(explained(plan))) == without_empty(tomllib.loads(plan.toml()))


def without_empty(value):
    """Without tables that say nothing."""
    if isinstance(value, list):
        return [without_empty(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: cleaned for key, one in value.items() if (cleaned := without_empty(one)) != {}}


@pytest.mark.parametrize("kind", EVERYDAY, ids=lambda kind: kind.__qualname__)
def test_each_key_of_the_everyday_tables_has_a_meaning(kind):
    tags = {"name"} if "name" in kind.model_fields else set()
    assert [key for key in kind.model_fields.keys() - tags if not meaning(kind, key)] == []


def test_a_key_is_explained_by_its_own_sentence_its_choices_and_its_bounds(call):
    text = call("recipes", "show", "omgd", "--explain")[1]
    above = {key: comment for comment, key in re.findall(r"((?:^# .*\n)+)(\w+) = ", text, re.M)}
    assert above["seed"] == "# `seed`: seed of new weights, the order of the images and all noise.\n"
    assert '"fp32", "tf32", "bf16"' in above["precision"] and "# From 1 to" not in above["precision"]
    assert "gan_compression" in re.search(r"# One of omgd, [^=]*name = \"omgd\"", text)[0]
    assert "# Other keys: source, key," in text and "[paper]" not in text


def test_init_writes_what_distill_decides_and_distill_takes_it(call, inputs, tmp_path):
    mine, given = tmp_path / "mine.toml", ["--teacher", inputs[0], "--data", inputs[1]]
    toy = [f"--set={o}" for o in TOY]
    code, _, err = call("init", *given, "-o", mine, *toy)
    assert code == 0, err
    text = mine.read_text()
    values = tomllib.loads(text)
    assert values["name"] == "mine" and values["data"]["roots"] == [str(inputs[1])] and values["train"]["batch"] == 1
    assert values["student"] == {"family": "auto", "width": 4, "fresh": False}
    assert "# `lr`: the student's learning rate" in text

    code, out, err = call("distill", "--recipe", mine, "--out", tmp_path / "a", "--device", "cpu", "--json")
    assert code == 0, err
    same = call("distill", *given, "--out", tmp_path / "b", *toy, "--device", "cpu", "--json")[1]
    assert json.loads(out)["losses"] == json.loads(same)["losses"]


def test_init_keeps_the_stages_of_a_pipeline(call, inputs, tmp_path):
    mine = tmp_path / "mine.toml"
    code, _, err = call("init", "--recipe", "prune_omgd", "--teacher", inputs[0], "--data", inputs[1], "-o", mine)
    assert code == 0, err
    assert [stage.name for stage in recipes.read(mine).stages] == ["prune", "distill"]


def test_init_overwrites_nothing_and_refuses_what_is_no_recipe(call, inputs, tmp_path):
    mine, given = tmp_path / "mine.toml", ["--teacher", inputs[0], "--data", inputs[1]]
    mine.write_text("mine")
    code, _, err = call("init", *given, "-o", mine)
    assert code == 2 and "already exists" in err and mine.read_text() == "mine"
    code, _, err = call("init", *given, "-o", tmp_path / "mine")
    assert code == 2 and "must end in .toml" in err
    code, _, err = call("init", "--data", inputs[1], "-o", tmp_path / "new.toml")
    assert code == 2 and "no teacher" in err and not (tmp_path / "new.toml").exists()
    code, _, err = call("init", "--recipe", "pix2pix", "--data", inputs[1], "-o", tmp_path / "new.toml")
    assert code == 3 and "recipes show pix2pix --explain" in err
