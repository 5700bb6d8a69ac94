"""Which model a run folder stands for."""

import json

import pytest
from teach_toys import taught, toy_data
from toys import TOY, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.errors import InputError
from vemcompress.weights.folder import Made, made
from vemcompress.weights.loading import load


def test_a_run_says_which_command_made_it_and_what_it_gives(inputs, tmp_path):
    distill(inputs[0], data=inputs[1], out=tmp_path / "student", overrides=[*TOY, "train.steps=1"], device="cpu")
    taught(toy_data(tmp_path / "data"), tmp_path / "teacher", "train.steps=1")
    assert made(tmp_path / "student") == Made("distill", "student")
    assert made(tmp_path / "teacher") == Made("teach", "teacher")


@pytest.mark.parametrize(
    ("environment", "file", "expected"),
    [
        ({"student": {}, "teacher": {}}, None, Made("distill", "student")),
        ({"networks": {}, "teacher": {}}, None, Made("teach", "teacher")),
        (None, "teacher", Made("teach", "teacher")),
        (None, "student", Made("distill", "student")),
        (None, None, None),
    ],
)
def test_a_run_of_the_first_release_is_known_by_its_environment_or_its_files(environment, file, expected, tmp_path):
    if environment is not None:
        (tmp_path / "environment.json").write_text(json.dumps(environment))
    if file is not None:
        toy_teacher_file(tmp_path / f"{file}.safetensors")
    assert made(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "[]", "{", '{"command": 1, "gives": "student"}', "[" * 9000])
def test_a_damaged_run_json_is_as_if_it_were_not_there(text, tmp_path):
    toy_teacher_file(tmp_path / "student.safetensors")
    (tmp_path / "run.json").write_text(text)
    assert made(tmp_path) == Made("distill", "student")


def test_what_a_run_gives_stays_within_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    toy_teacher_file(tmp_path / "other.safetensors")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"command": "distill", "gives": "../other"}))
    with pytest.raises(InputError, match=r"has no student\.safetensors"):
        load(tmp_path / "run")


def test_a_teacher_beside_a_student_that_has_not_been_saved_is_not_taken_for_it(tmp_path):
    toy_teacher_file(tmp_path / "teacher.safetensors")
    Made("distill", "student").write(tmp_path)
    with pytest.raises(InputError, match=r"has no student\.safetensors"):
        load(tmp_path)


def test_the_weight_files_of_a_folder_that_is_no_run_are_named(tmp_path):
    for name in ("netG.pth", "netD.pth", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"is not a run folder; give one of its files: netD\.pth, netG\.pth\.$"):
        load(tmp_path)
