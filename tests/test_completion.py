"""Shells complete names of recipes, run folders and files of models, without a heavy import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vemcompress
from vemcompress.cli import completion
from vemcompress.export.formats import FORMATS
from vemcompress.weights import hub

ROOT = Path(vemcompress.__file__).parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    for run in ("runs/h2z", "runs/h2h", "h-run"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "recipe.toml").touch()
    for file in ("h.safetensors", "h.txt", "hidden.toml", ".h.onnx"):
        (tmp_path / file).touch()
    (tmp_path / "holidays").mkdir()
    monkeypatch.chdir(tmp_path)


def test_runs_and_files_of_models_are_offered_and_folders_to_look_into(here):
    assert completion.runs("") == ["h-run", "holidays/", "runs/"]
    assert completion.runs("runs/h2") == ["runs/h2h", "runs/h2z"]
    assert completion.models("h") == ["h-run", "holidays/", "h.safetensors"]
    assert completion.models("no/such/") == completion.runs("x\0") == []


def test_a_folder_that_one_may_not_enter_hides_no_other(here, monkeypatch):
    def forbidden(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)  # on Python 3.11 Path.is_file raises it
    assert completion.runs("h") == ["h-run", "holidays/"]


def test_every_file_that_a_model_can_be_is_offered():
    written = {form.suffix for form in FORMATS.values() if not form.is_folder}
    assert all(name.endswith(completion.MODELS) for name in {*hub.SUFFIXES, *written})


def test_recipes_are_offered_by_name_and_by_file(here):
    assert completion.recipes("h") == ["h-run/", "holidays/", "hidden.toml"]
    assert completion.recipes("gan_c") == ["gan_compression", "gan_compression_fast"]


def test_a_shell_is_answered_without_a_heavy_import(here):
    words, offered = "vemcompress distill --recipe omgd_", {"omgd_cyclegan", "omgd_online"}
    code = "import sys\nfrom vemcompress.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    about = {"_VEMCOMPRESS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    environment = os.environ | about | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert set(done.stdout.split()) == offered, done.stderr
    assert not {"torch", "numpy", "PIL"} & {name.partition(".")[0] for name in done.stderr.split()}
