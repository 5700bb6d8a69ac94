"""Plugins: packages that declare entry points are found, used, and skipped if something is wrong with them."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import copytree

import pytest
from toys import TOY

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.errors import RecipeError
from vemcompress.evaluation import METRICS
from vemcompress.information import INFORMATION
from vemcompress.networks import GENERATORS
from vemcompress.pruning import PRUNERS
from vemcompress.recipe import catalogue
from vemcompress.system.plugins import Classes, Registry

EXAMPLE = Path(vemcompress.__file__).parents[1] / "docs" / "example-plugin"
SET = [f"--set={o}" for o in TOY if "features" not in o]


def install(target: Path, project: dict, files: dict[str, str] | Path) -> Path:
    """What pip does with a package of plain files, without a build backend or the network."""
    if isinstance(files, Path):
        copytree(files, target / files.name)
    else:
        target.mkdir(exist_ok=True)
        for name, text in files.items():
            (target / name).write_text(text)
    about = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    return target


def run(target: Path, *words, code: int = 0) -> tuple[str, str]:
    paths = [str(target), str(Path(vemcompress.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "vemcompress", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=target)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    return install(tmp_path_factory.mktemp("example"), project, EXAMPLE / "vemcompress_example")


def test_the_example_distils_by_its_recipe(example, inputs, tmp_path):
    given = "--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "run", "--device", "cpu"
    out, err = run(example, "distill", *given, "--recipe", "example/spectrum", *SET, "--json")
    assert {"recon", "spectrum"} <= json.loads(out)["losses"].keys() and "is ignored" not in err
    kept = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert (kept["name"], kept["algorithm"]["name"]) == ("spectrum", "spectrum")


def test_the_example_is_listed(example):
    lines = run(example, "recipes", "list")[0].splitlines()
    assert lines[-2].split(maxsplit=1) == ["example/spectrum", "Distillation of images and of their spectra"]
    assert lines[-1].startswith("algorithm.name spectrum ") and lines[-1].endswith("(vemcompress-example 0.1.0)")


def test_a_recipe_of_a_plugin_is_found_and_an_unknown_one_answered_with_it(example, monkeypatch):
    monkeypatch.syspath_prepend(str(example))
    assert recipes.find("example/spectrum").name == "spectrum.toml"
    with pytest.raises(RecipeError, match="Did you mean 'example/spectrum'"):
        recipes.find("example/spectrun")


NETWORK = """
from typing import Literal
from vemcompress.networks.generators.resnet import ResNet, ResNetConfig
class Config(ResNetConfig):
    family: Literal["mine"] = "mine"
class Mine(ResNet):
    config_class = Config
"""
OTHERS = """
from typing import Literal
from dataclasses import replace
import torch
from vemcompress.evaluation.fidelity import FIDELITY
from vemcompress.information.base import Information
from vemcompress.pruning.random import Random
class Add(Information):
    class Settings(Information.Settings):
        name: Literal["add"] = "add"
    def __init__(self, settings, **shape):
        super().__init__()
class Drawn(Random):
    class Settings(Random.Settings):
        name: Literal["drawn"] = "drawn"
ours = replace(FIDELITY[0], name="ours")
class Kd(Add):
    class Settings(Add.Settings):
        name: Literal["vid"] = "vid"
class Nameless(Add):
    class Settings(Add.Settings):
        name: str = "nameless"
not_a_class = 3
"""
POINTS = {
    "networks": {"mine": "a_network:Mine"},
    "information": {
        "add": "others:Add",
        "clash": "others:Kd",
        "nameless": "others:Nameless",
        "gone": "others:Gone",
        "number": "others:not_a_class",
    },
    "pruning": {"drawn": "others:Drawn"},
    "metrics": {"ours": "others:ours"},
    "algorithms": {"broken": "broken:Method", "leaves": "leaves:Method"},
    "recipes": {"nowhere": "no_such_package"},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    points = {f"vemcompress.{group}": named for group, named in POINTS.items()}
    project = {"name": "odd-ones", "version": "2", "entry-points": points}
    files = {"a_network.py": NETWORK, "others.py": OTHERS, "broken.py": "import no_such_module\n"}
    return install(tmp_path_factory.mktemp("mixed"), project, files | {"leaves.py": "raise SystemExit(3)\n"})


def added(registry: Registry, mixed: Path, monkeypatch) -> list[str]:
    monkeypatch.syspath_prepend(str(mixed))
    shape = (registry.settings,) if isinstance(registry, Classes) else ()
    return [*type(registry)(registry.group, registry.own, registry.base, *shape).added]


@pytest.mark.parametrize(
    ("registry", "names"),
    [(GENERATORS, ["mine"]), (INFORMATION, ["add"]), (PRUNERS, ["drawn"]), (METRICS, ["ours"]), (ALGORITHMS, [])],
)
def test_every_group_adds_its_kind(registry, names, mixed, monkeypatch):
    assert added(registry, mixed, monkeypatch) == names


def test_what_is_wrong_is_told_in_a_sentence_with_the_package(mixed, monkeypatch, caplog):
    for registry in (INFORMATION, ALGORITHMS):
        added(registry, mixed, monkeypatch)
    assert "nowhere/" not in str(recipes.installed().keys())
    found = [message.removeprefix("odd-ones 2: vemcompress.").split(" is ignored: ") for message in caplog.messages]
    assert dict(found) == {
        "algorithms broken = broken:Method": "ModuleNotFoundError: No module named 'no_such_module'.",
        "algorithms leaves = leaves:Method": "SystemExit: 3.",
        "information clash = others:Kd": "'vid' is already a name of vemcompress; give it another name.",
        "information gone = others:Gone": "AttributeError: module 'others' has no attribute 'Gone'.",
        "information nameless = others:Nameless": 'its Settings needs name: Literal["NAME"] = "NAME".',
        "information number = others:not_a_class": (
            "it must be a class derived from vemcompress.information.base.Information."
        ),
        "recipes nowhere = no_such_package": "there is no package no_such_package.",
    }


def test_a_network_of_a_plugin_is_a_student_whose_file_needs_the_plugin(mixed, inputs, tmp_path, call):
    given = "--teacher", inputs[0], "--data", inputs[1], "--out", tmp_path / "run", "--device", "cpu"
    shape = [
        f"--set={o}" for o in ("student.family=mine", "student.width=4", "student.blocks=3", "information.name=add")
    ]
    toy = [o for o in SET if "information." not in o and "student." not in o]
    run(mixed, "distill", "--recipe", "kd", *given, *toy, *shape)
    assert json.loads(run(mixed, "inspect", tmp_path / "run", "--json")[0])["family"] == "mine"
    code, _, err = call("inspect", tmp_path / "run")
    assert code == 4 and "'mine'" in err


def test_plugins_may_be_imported_before_anything_of_ours(mixed):
    code = "import others, a_network; from vemcompress.recipe.catalogue import methods; print(methods())"
    paths = os.pathsep.join([str(mixed), str(Path(vemcompress.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert "'name': 'ours'" in done.stdout and "'name': 'mine'" in done.stdout, done.stderr


def test_without_plugins_all_methods_are_ours():
    assert {one["package"] for one in catalogue.methods()} == {"vemcompress"}
