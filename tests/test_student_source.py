"""A student that comes from a file: `student.source`."""

import shutil

import pytest
from safetensors.torch import load_file
from toys import TOY, stop_after, toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.commands.distill import distill
from vemcompress.errors import InputError, Interrupted, RecipeError, UsageError
from vemcompress.weights.artifact import save_generator

FROM_FILE = [o for o in TOY if not o.startswith("student.")]


@pytest.fixture
def given(inputs, tmp_path):
    """A teacher, images, and a student with weights of its own."""
    path = tmp_path / "small.safetensors"
    save_generator(path, toy_teacher("mobile_resnet", 3, width=3))
    return *inputs, path


def run(given, out, *overrides: str, **options):
    teacher, data, student = given
    overrides = [*FROM_FILE, f"student.source={student}", *overrides]
    return distill(teacher, data=data, out=out, overrides=overrides, device="cpu", **options)


def stop_before_the_first_checkpoint(event: dict) -> None:
    if event["event"] == "plan":
        raise KeyboardInterrupt


def test_a_student_begins_with_the_weights_of_its_file(given, tmp_path):
    result = run(given, tmp_path / "run", "train.steps=1", "train.lr=1e-9")
    before, after = load_file(given[2]), load_file(result.student)
    assert before.keys() == after.keys()
    assert all((after[name] - value).abs().max() < 1e-6 for name, value in before.items())


def test_a_run_that_was_killed_before_its_first_checkpoint_still_has_it(given, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "broken", on_event=stop_before_the_first_checkpoint)
    settings = recipes.read(tmp_path / "broken" / "recipe.toml").student
    assert settings.source == str(given[2].resolve())
    assert len(settings.sha256) == 64
    resumed, whole = distill(resume=tmp_path / "broken", device="cpu"), run(given, tmp_path / "whole")
    assert resumed.losses == whole.losses
    found, expected = load_file(resumed.student), load_file(whole.student)
    assert all((found[name] == value).all() for name, value in expected.items())


def test_another_file_in_its_place_is_refused_when_the_run_goes_on(given, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "run", on_event=stop_before_the_first_checkpoint)
    save_generator(given[2], toy_teacher("mobile_resnet", 4, width=3))
    with pytest.raises(InputError, match="is not the student that this run began with"):
        distill(resume=tmp_path / "run", device="cpu")


def test_a_file_may_move(given, tmp_path):
    with pytest.raises(Interrupted):
        run(given, tmp_path / "run", on_event=stop_after(3))
    moved = shutil.move(given[2], tmp_path / "moved.safetensors")
    assert distill(resume=tmp_path / "run", overrides=[f"student.source={moved}"], device="cpu").steps == 6


def test_a_student_of_other_channels_or_places_is_refused(given, tmp_path):
    save_generator(given[2], toy_teacher("mobile_resnet", width=3, in_channels=1))
    with pytest.raises(RecipeError, match="the student has 1 input"):
        run(given, tmp_path / "run")
    unet = toy_teacher_file(tmp_path / "unet.safetensors", family="unet")
    with pytest.raises(RecipeError, match="the feature maps of a unet student do not match"):
        run((*given[:2], unet), tmp_path / "run")


def test_a_fresh_student_has_the_shape_of_its_file_and_the_weights_of_a_new_one(given, tmp_path):
    fresh = run(given, tmp_path / "fresh", "student.fresh=true", "train.steps=1", "train.lr=1e-9")
    shape = ["student.family=mobile_resnet", "student.width=3", "student.blocks=3"]
    overrides = [*FROM_FILE, *shape, "train.steps=1", "train.lr=1e-9"]
    new = distill(given[0], data=given[1], out=tmp_path / "new", overrides=overrides, device="cpu")
    found, expected, file = load_file(fresh.student), load_file(new.student), load_file(given[2])
    assert found.keys() == file.keys()
    assert all((found[name] - value).abs().max() < 1e-6 for name, value in expected.items())
    assert any((found[name] - value).abs().max() > 1e-3 for name, value in file.items())
    assert recipes.read(tmp_path / "fresh" / "recipe.toml").student.fresh


def test_a_fresh_run_that_was_stopped_ends_as_an_unbroken_one(given, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "broken", "student.fresh=true", on_event=stop_before_the_first_checkpoint)
    resumed = distill(resume=tmp_path / "broken", device="cpu")
    assert resumed.losses == run(given, tmp_path / "whole", "student.fresh=true").losses


def test_fresh_needs_a_file_of_a_known_family(given, tmp_path):
    with pytest.raises(RecipeError, match=r"student\.fresh needs a student from a file"):
        distill(given[0], data=given[1], out=tmp_path / "x", overrides=[*TOY, "student.fresh=true"], device="cpu")


def test_a_width_beside_the_file_is_refused(given, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "omgd"\n[student]\nwidth = 4\nsource = "x.safetensors"\n')
    with pytest.raises(RecipeError, match="width and source exclude each other"):
        recipes.read(path)


def test_the_student_cannot_be_exchanged_within_a_run(given, tmp_path):
    run(given, tmp_path / "run")
    with pytest.raises((UsageError, InputError), match=r"cannot change within a run|is not the student"):
        distill(resume=tmp_path / "run", overrides=["student.width=3", "train.steps=8"], device="cpu")
