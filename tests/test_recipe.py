"""Recipes: what is written, what is inherited, and errors that name line and nearest key."""

import tomllib

import pytest
import torch
from toys import TOY, toy_plan, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.errors import RecipeError
from vemcompress.losses import features
from vemcompress.networks.features import squeezenet_features
from vemcompress.recipe.resolve import for_latents, resolve


def write(tmp_path, text: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


# Those with a [gan] build their own teachers: tests/test_paper_recipes.py.
FROZEN = [name for name in recipes.shipped() if recipes.read(name).gan is None]
OF_LATENTS = [name for name in FROZEN if ALGORITHMS[recipes.read(name).algorithm.name].needs.takes == ("latent",)]
FITS = [(name, family) for name in FROZEN if name not in OF_LATENTS for family in ("resnet", "unet")]


@pytest.mark.parametrize(("name", "family"), [*FITS, *((name, "stylegan2") for name in OF_LATENTS)])
def test_every_shipped_recipe_parses_and_resolves(name, family):
    teacher, plan = toy_teacher(family), recipes.read(name)
    plan = resolve(for_latents(plan, teacher.takes) if name in OF_LATENTS else plan, teacher, 10)
    assert plan.train.steps > 0
    assert plan.student.cost(64, 64).parameters > 0


def test_a_resolved_recipe_reads_back_as_itself(tmp_path):
    plan = toy_plan(toy_teacher("unet"))
    assert recipes.read(write(tmp_path, plan.toml())) == plan


def test_extends_merges_tables_and_a_new_name_starts_one_anew(tmp_path):
    plan = recipes.read(write(tmp_path, 'extends = "omgd"\n[information]\nname = "none"\n[train]\nlr = 1e-3\n'))
    assert plan.information.name == "none"
    assert (plan.train.lr, plan.train.steps, plan.algorithm.features) == (1e-3, 20000, "vgg16")


def test_set_overrides_and_the_later_of_two_rivals_wins():
    plan = recipes.read("omgd", ["train.batch=8", "train.epochs=3", "information.l2=0.1"])
    assert (plan.train.batch, plan.train.epochs, plan.train.steps, plan.information.l2) == (8, 3, None, 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[information]\nwieght = 1\n', "unknown key 'wieght' in [information] (line 2). Did you mean 'weight'?"),
        ('[train]\nbatch = "8"\n', "batch in [train] (line 2): should be a valid integer"),
        ("[trian]\nbatch = 8\n", "unknown key 'trian' (line 1). Did you mean 'train'?"),
        ('[information]\nname = "vme"\n', "'vme' is not possible for information"),
        ('[algorithm]\nfeatures = "vgg19"\n', "use one of 'vgg16'"),
        ("[train]\nsteps = 3\nepochs = 2\n", "steps and epochs exclude each other"),
        ("[data]\nsize = 64\nload_size = 32\n", "load_size 32 is smaller than size 64"),
        ("[train\n", "not valid TOML"),
        ('extends = "nope"\n', "'nope' is not known"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_with_line_and_nearest_key(tmp_path, text, message):
    with pytest.raises(RecipeError) as caught:
        recipes.read(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("information.name=vemm", "'vemm' is not possible for information (--set information.name); use one of"),
        ("student.family=resnett", "'resnett' is not possible for student (--set student.family)"),
        ("algorithm.features=vgg19", "features in [algorithm] (--set algorithm.features)"),
        ("algorithm={features='vgg19'}", "features in [algorithm] (--set algorithm)"),
        ("train.batch=x", "batch in [train] (--set train.batch): should be a valid integer"),
        ("steps=30", "unknown key 'steps' (--set steps). Did you mean 'train.steps' or 'information.steps'?"),
        ("size=30", "Did you mean 'data.size'?"),
        ("train.width=8", "unknown key 'width' in [train] (--set train.width). Did you mean 'student.width'"),
        ("train.size=8", "Did you mean 'data.size'?"),
        ("information.wieght=1", "Did you mean 'weight'?"),
        ("sset=1", "unknown key 'sset' (--set sset). Known: name, description,"),
    ],
)
def test_an_error_of_an_override_names_it_and_what_it_may_mean(override, message):
    with pytest.raises(RecipeError) as caught:
        recipes.read("omgd", [override])
    assert message in str(caught.value)
    assert "(line" not in str(caught.value)


def test_an_override_of_another_key_leaves_the_files_line(tmp_path):
    path = write(tmp_path, '[information]\nname = "vme"\n[train]\nwidth = 8\n')
    with pytest.raises(RecipeError, match=r"unknown key 'width' in \[train\] \(line 4\). Did you mean 'student.width'"):
        recipes.read(path, ["train.batch=2"])
    with pytest.raises(RecipeError, match=r"'vme' is not possible for information \(line 2\)"):
        recipes.read(write(tmp_path, '[information]\nname = "vme"\n'), ["information.weight=2.0"])


def test_an_error_of_one_stages_override_names_it():
    with pytest.raises(RecipeError, match=r"stage prune: .* \(--set stages.prune.data.size\)"):
        recipes.read("prune_omgd", ["stages.prune.data.size=-1"])


@pytest.mark.parametrize("name", ["../pyproject", "/etc/passwd", "omgd/../omgd", "nope.toml"])
def test_names_cannot_leave_the_recipes_folder(name):
    with pytest.raises(RecipeError):
        recipes.read(name)


@pytest.mark.parametrize("override", ["train", "train.batch", "=3", "train.batch.x=3", "train.betas=[1]"])
def test_a_bad_override_is_refused(override):
    with pytest.raises(RecipeError):
        recipes.read("omgd", [override])


def test_the_student_follows_the_teachers_family():
    deep = resolve(recipes.read("omgd", ["data.size=32"]), toy_teacher("deep_unet", downs=5), 10).student
    assert deep.family == "unet"
    resnet = resolve(recipes.read("omgd"), toy_teacher("cartoongan", blocks=8), 10).student
    unet = resolve(recipes.read("omgd", ["data.size=32"]), toy_teacher("unet"), 10).student
    assert (resnet.family, resnet.widths[0], len(resnet.blocks)) == ("mobile_resnet", 16, 8)
    assert (unet.family, unet.down) == ("unet", (16, 32, 64, 128, 128))


def test_target_macs_gives_the_widest_student_that_fits():
    plan = recipes.read("omgd", ["data.size=64", "student.target_macs=20000000"])
    student = resolve(plan, toy_teacher(), 10).student
    wider = student.__class__(width=student.widths[0] + 1, blocks=len(student.blocks))
    assert student.cost(64, 64).true <= 20_000_000 < wider.cost(64, 64).true
    with pytest.raises(RecipeError, match="even width 1"):
        resolve(recipes.read("omgd", ["student.target_macs=10"]), toy_teacher(), 10)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            ["student.family=unet", "student.width=4"],
            "the feature maps of a unet student do not match those of a resnet teacher; leave student.family at auto, "
            "or set algorithm.channel=0 to distil from images alone",
        ),
        (["data.size=50"], "multiples of 4"),
        (["student.family=resnet", "student.width=4", "student.in_channels=1"], "input"),
    ],
)
def test_a_recipe_for_another_teacher_is_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        resolve(recipes.read("omgd", [*TOY[:1], *override]), toy_teacher(), 10)


def test_epochs_become_steps_of_the_users_images():
    plan = recipes.read("omgd", ["train.epochs=2.5", "train.batch=2"])
    assert resolve(plan, toy_teacher(), 40).train.steps == 50


def test_weights_of_other_features_keep_a_blank_students_terms_in_proportion():
    plan = toy_plan(toy_teacher(), "algorithm.features=squeezenet1_1_caffe")
    network, images = squeezenet_features(caffe=True), torch.rand(2, 3, 32, 32) * 2 - 1
    calibrate = ALGORITHMS["omgd"].calibrate
    settings = calibrate(plan.algorithm, network, images)
    maps = network(images)
    assert settings.style * sum(features.gram(m).abs().mean() for m in maps).item() == pytest.approx(17, rel=1e-3)
    assert settings.feature * maps[1].abs().mean().item() == pytest.approx(6, rel=1e-3)
    given = toy_plan(toy_teacher(), "algorithm.features=squeezenet1_1_caffe", "algorithm.style=2.0")
    assert calibrate(given.algorithm, network, images).style == 2.0


def test_the_run_is_described_without_nulls():
    text = toy_plan(toy_teacher()).toml()
    assert tomllib.loads(text)["train"]["steps"] == 6


def test_a_new_width_reshapes_a_resolved_student_and_keeps_its_depth(tmp_path):
    for family, depth in (("resnet", "blocks"), ("unet", "down")):
        before = toy_plan(toy_teacher(family))
        after = recipes.read(write(tmp_path, before.toml()), ["student.width=6"])
        assert (after.student.widths if family == "resnet" else after.student.down)[0] == 6
        assert len(getattr(after.student, depth)) == len(getattr(before.student, depth))


def test_what_was_chosen_for_other_features_or_another_size_is_forgotten(tmp_path):
    path = write(tmp_path, toy_plan(toy_teacher()).toml())
    plan = recipes.read(path, ["algorithm.features=vgg16", "data.size=64"])
    assert (plan.algorithm.style, plan.algorithm.channel, plan.data.load_size) == (None, None, None)
    assert recipes.read(path, ["algorithm.features=none"]).algorithm.channel == 10


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.steps=3", "train.epochs=2"],
        ["student.width=6", "student.target_macs=3000000"],
        ["train.lr=inf"],
        ["information.betas=[1.5, 0.9]"],
        ["information.name=none", "information.weight=0.3"],
        ["student.family=mobile_resnet", "student.width=4", "student.widths=[1,2,3,2,1]"],
    ],
)
def test_what_cannot_be_together_is_refused(overrides):
    with pytest.raises(RecipeError):
        recipes.read("omgd", overrides)


def test_the_order_of_overrides_does_not_matter():
    one = ["student.width=4", "student.family=mobile_resnet", "student.blocks=3"]
    assert recipes.read("omgd", one) == recipes.read("omgd", one[::-1])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.features=none", "algorithm.style=5.0"], "features_weights unused"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        resolve(recipes.read("omgd", [*TOY[:2], *overrides]), toy_teacher(), 10)
