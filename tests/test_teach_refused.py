"""`teach` refuses data, teachers and settings that cannot work in one sentence, with the right exit code."""

from pathlib import Path

import pytest
from gans_toys import save_discriminator
from teach_toys import (
    CRD,
    LABELS,
    SMALL,
    TEACHERS,
    TRAIN,
    TURNS,
    VEM,
    taught,
    toy_data,
    toy_pairs,
    toy_teachers,
)  # fmt: skip
from toys import toy_images

from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.errors import InputError, NumericalError, RecipeError, UsageError
from vemcompress.networks.discriminators import PatchGANConfig, SharedPatchGANConfig, build_discriminator


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teachers(data, tmp_path_factory):
    return toy_teachers(data, tmp_path_factory.mktemp("teachers"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Data and discriminators that do not serve."""
    root = tmp_path_factory.mktemp("bad")
    toy_pairs(root / "odd", 2, width=41)
    for name, count in (("A", 3), ("B", 2)):
        toy_images(root / "unmatched" / name / "train", count)
    configs = {"three": PatchGANConfig(width=2), "shared": SharedPatchGANConfig(width=2)}
    configs["six"] = PatchGANConfig(width=2, in_channels=6)
    for name, config in configs.items():
        save_discriminator(root / f"{name}.safetensors", build_discriminator(config))
    return {path.stem: path for path in root.iterdir()}


TEACHING = {
    "a direction that does not exist": (("data.direction=CtoD",), {}, RecipeError, "'CtoD' .* 'AtoB' or 'BtoA'"),
    "a label outside the classes": (
        (*LABELS, "data.classes=2"), {"kind": "labels"}, InputError, r"label value 2 is outside the 2 classes",
    ),
    "single images": (("data.kind=single",), {}, RecipeError, "pix2pix needs pairs; set data.kind to paired or labels"),
    "unpaired images": (("data.kind=unpaired",), {"kind": "unpaired"}, RecipeError, "'unpaired' does not fit"),
    "pairs for cyclegan": (("data.kind=paired",), {"gan": "cyclegan"}, RecipeError, "set it to unpaired"),
    "an unknown network to start from": (
        ("teacher.start.discriminatr=x",), {}, RecipeError, "pix2pix has no such network; it has discriminator",
    ),
    "another gan's network": (("teacher.start.generator_b=x",), {}, RecipeError, "has no such network"),
    "too small for the discriminator": (
        ("data.size=16", "teacher.network.downs=4"), {}, RecipeError, "data.size 16 is too small .* at least 24 px",
    ),
    "not a multiple of the depth": (
        ("data.size=48",), {}, RecipeError, "data.size 48 does not fit .* multiples of 32 .*downs=4",
    ),
    "other input channels": (
        ("teacher.network.in_channels=1",), {}, RecipeError, "in_channels is 1, but the data have 3",
    ),
    "a teacher to be like": (
        ("train.best_by=ssim_teacher", "data.held_out=1"), {}, RecipeError, "needs a teacher that does not learn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TEACHING)
def test_what_cannot_teach_is_told_in_one_sentence(case, data, tmp_path):
    overrides, options, error, message = TEACHING[case]
    refused(error, message, lambda: taught(data, tmp_path / "run", *overrides, **options))
    assert not (tmp_path / "run").exists()


def refused(error: type, message: str, call) -> None:
    with pytest.raises(error, match=message) as found:
        call()
    assert "\n" not in str(found.value)
    assert str(found.value).count(". ") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd", r"0\.png: 81 px wide, so it cannot be two images"),
        ("unmatched", r"1 of 3 and 0 of 2 .* \(train/2.png\)"),
    ],
)
def test_pairs_that_are_none_are_refused(name, message, data, files, tmp_path):
    refused(InputError, message, lambda: taught({"paired": files[name]}, tmp_path / "run"))


@pytest.mark.parametrize(
    ("gan", "role", "file", "message"),
    [
        ("pix2pix", "discriminator", "three", r"three\.safetensors: takes 3 channels, .* 6 to judge"),
        ("pix2pix", "discriminator", "shared", r"shared\.safetensors: is a discriminator for two teachers"),
        ("cyclegan", "discriminator_b", "six", r"six\.safetensors: takes 6 .* discriminator_b has 3 to judge"),
    ],
)
def test_a_discriminator_that_does_not_fit_is_named(gan, role, file, message, data, files, tmp_path):
    start = f"teacher.start.{role}={files[file]}"
    refused(InputError, message, lambda: taught(data, tmp_path / "run", start, gan=gan))


def test_a_discriminator_for_one_teacher_cannot_judge_two(data, files, tmp_path):
    overrides = [*TRAIN, *TEACHERS, *VEM, f"teacher.start.discriminator={files['six']}"]
    options = {"data": data["paired"], "out": tmp_path / "run", "recipe": "omgd_online", "device": "cpu"}
    message = r"six\.safetensors: does not fit, its family is patchgan and should be shared_patchgan"
    refused(InputError, message, lambda: distill(overrides=overrides, **options))


def test_labels_of_other_classes_than_the_teacher_learnt_are_refused(data, teachers, tmp_path):
    four = (*LABELS, "data.classes=4")
    message = "label maps as onehot have 4 channels, but the network needs 3; set data.classes"
    options = {"kind": "labels", "teacher": teachers["labels"]}
    refused(RecipeError, message, lambda: taught(data, tmp_path / "run", *four, **options))
    call = {
        "data": data["labels"],
        "out": tmp_path / "run",
        "overrides": [*TRAIN, *SMALL, *VEM, *four],
        "device": "cpu",
    }
    refused(RecipeError, message, lambda: distill(teachers["labels"], **call))


def test_crd_at_batch_1_needs_a_memory(data, teachers, tmp_path):
    overrides = [*TRAIN, *SMALL, *CRD, "information.memory=0", "train.batch=1", "data.kind=paired"]
    call = {"data": data["paired"], "out": tmp_path / "run", "overrides": overrides, "device": "cpu"}
    refused(RecipeError, "information.memory 0: with train.batch 1", lambda: distill(teachers["pix2pix"], **call))


def test_a_recipe_without_a_gan_teaches_nobody(data, tmp_path):
    call = {"data": data["paired"], "out": tmp_path / "run", "recipe": "omgd", "device": "cpu"}
    refused(RecipeError, r"recipe omgd: has no \[gan\] to train with", lambda: teach(**call))


def test_batchnorm_by_image_is_of_frozen_teachers(data, teachers, tmp_path):
    """Its statistics are gone, so that it could not be saved as what it is."""
    message = "teacher.norm = 'batch' needs a frozen teacher"
    again = {"teacher": teachers["pix2pix"]}
    refused(RecipeError, message, lambda: taught(data, tmp_path / "run", "teacher.norm=batch", **again))


def test_in_turns_the_teacher_learns_at_each_of_its_steps(data, tmp_path):
    overrides = [*TRAIN, *TURNS, *VEM, "gan.every=2", "algorithm.best_teacher=latest"]
    call = {"data": data["unpaired"], "recipe": "omgd_cyclegan", "overrides": overrides, "device": "cpu"}
    refused(RecipeError, "gan.every 2: with phases", lambda: distill(out=tmp_path / "run", **call))


def test_teachers_are_not_scored_on_nothing(data, tmp_path):
    overrides = [*TRAIN, *TURNS, *VEM, "algorithm.best_teacher=fid"]
    call = {"data": data["unpaired"], "recipe": "omgd_cyclegan", "overrides": overrides, "device": "cpu"}
    message = "algorithm.best_teacher = 'fid': there are no images to score teachers on"
    refused(RecipeError, message, lambda: distill(out=tmp_path / "run", **call))


@pytest.mark.parametrize("override", ["gan.mode=lsgan", "gan.discriminator.width=3", "data.direction=BtoA"])
def test_going_on_does_not_change_how_a_teacher_learns(override, data, tmp_path):
    taught(data, tmp_path / "run", "train.steps=2")
    with pytest.raises(UsageError, match="cannot change within a run"):
        teach(resume=tmp_path / "run", overrides=[override], device="cpu")


def test_nan_stops_a_teacher_and_keeps_what_was_saved(data, tmp_path):
    taught(data, tmp_path / "run")
    before = (tmp_path / "run" / "teacher.safetensors").read_bytes()
    with pytest.raises(NumericalError, match=r"step [12]: the .* update's"):
        taught(data, tmp_path / "other", "gan.lr=1e30", teacher=tmp_path / "run")
    assert (tmp_path / "run" / "teacher.safetensors").read_bytes() == before
