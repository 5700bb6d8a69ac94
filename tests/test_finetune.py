"""A student that is a GAN of its own: fine-tuning without distillation, and what its networks begin with."""

from copy import deepcopy

import pytest
import torch
from gans_toys import CPU, as_batch, assert_same_weights, batches, steps
from safetensors.torch import load_file
from teach_toys import RESNET, TRAIN, toy_data
from toys import ADD_ONS, random, stop_after, toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.algorithms import Facts, Parts
from vemcompress.algorithms.distillation import Needs
from vemcompress.algorithms.finetune import Finetune
from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.errors import InputError, Interrupted, RecipeError
from vemcompress.gans import CycleGAN, Pix2Pix, Start, StyleGAN2GAN
from vemcompress.gans.teachers import Frozen
from vemcompress.information import INFORMATION, build_information
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer

KIND = ("data.kind=unpaired", "gan.discriminator.width=2", "gan.pool=2")


def cyclegan(width: int = 4) -> CycleGAN:
    torch.manual_seed(0)
    networks = {f"generator_{side}": toy_teacher("resnet", i, width=width).train() for i, side in enumerate("ab")}
    return CycleGAN(CycleGAN.Settings(pool=2, discriminator=PatchGANConfig(width=2, layers=2)), **networks)


def finetune(add_on: str = "none") -> Finetune:
    gan = cyclegan()
    torch.manual_seed(3)
    information = INFORMATION[add_on].Settings(**ADD_ONS[add_on])
    information = build_information(information, image_channels=3, height=32, width=32)
    student = toy_teacher("resnet", 5, width=3).train()
    parts = Parts(Frozen(deepcopy(gan.generator_a)), student, information, Optimizer(2e-4, (0.5, 0.999)), gan=gan)
    return Finetune(Finetune.Settings(), parts).train()


def test_without_an_add_on_it_is_the_gan_itself():
    algorithm = finetune().double()
    plain = deepcopy(algorithm.own)
    given = batches(3)
    log = steps(plain, given)
    runner = Runner(algorithm.train().updates(), CPU)
    for step, images in enumerate(given, start=1):
        out, losses = algorithm(as_batch(algorithm.own, images), random(step), step), {}
        for update in runner.updates:
            losses |= runner.apply(update, out, step)
        assert {name.removeprefix("student_"): v.item() for name, v in losses.items()} == pytest.approx(log[step - 1])
    assert_same_weights(algorithm.student, plain.generator_a)
    assert_same_weights(algorithm.own.generator_b, plain.generator_b)
    assert_same_weights(algorithm.own.discriminator_a, plain.discriminator_a)


@pytest.mark.parametrize("add_on", ADD_ONS)
def test_every_add_on_joins_the_students_update(add_on):
    algorithm = finetune(add_on)
    runner, given = Runner(algorithm.updates(), CPU), batches(1)[0]
    out, losses = algorithm(as_batch(algorithm.own, [x.float() for x in given]), random(1)), {}
    for update in runner.updates:
        losses |= runner.apply(update, out, 1)
    assert ("information" in losses) == (add_on != "none")
    assert {"student_a_cycle", "student_a_gan", "student_a_d_real"} <= losses.keys()


def test_it_needs_a_gan():
    network = toy_teacher()
    facts = Facts("mine", network, network, 3, 32, 1, 2)
    with pytest.raises(RecipeError, match=r"Finetune needs a \[gan\], whose losses train the student"):
        Finetune.needs.check("Finetune", facts)
    with pytest.raises(RecipeError, match="needs the teacher's generator_b and discriminator_a too"):
        Needs(gan=True, whole=True).check(
            "X", Facts(*vars_of(facts), gan=True, missing=("generator_b", "discriminator_a"))
        )


def vars_of(facts: Facts) -> tuple:
    return facts.recipe, facts.teacher, facts.student, facts.images, facts.size, facts.batch, facts.steps


def test_a_gan_without_a_student_form_is_refused():
    with pytest.raises(RecipeError, match="cannot train a student"):
        StyleGAN2GAN.twin(type("Fake", (), {"settings": StyleGAN2GAN.Settings()})(), toy_teacher(), None)


def test_the_recipe_prunes_both_directions_and_resumes_to_the_same_bits(tmp_path, one_thread):
    data = toy_data(tmp_path / "data")["unpaired"]
    teacher = tmp_path / "teacher"
    teach(recipe="cyclegan", data=data, out=teacher, overrides=[*TRAIN, *RESNET, "teacher.network.width=4"])
    small = [
        *TRAIN,
        "data.kind=unpaired",
        "gan.discriminator.width=2",
        "gan.pool=2",
        "information.channels=2",
        "information.steps=2",
    ]
    options = {"recipe": "finetune", "data": data, "overrides": [*small, "train.batch=1", "prune.share=0.6"]}
    distill(teacher, out=tmp_path / "whole", **options)
    begun = recipes.read(tmp_path / "whole" / "2-finetune" / "recipe.toml").algorithm
    assert begun.start == {"generator_b": str(tmp_path / "whole" / "1-prune" / "student_b.safetensors")}
    with pytest.raises(Interrupted):
        distill(teacher, out=tmp_path / "again", on_event=stop_after(3), **options)
    distill(resume=tmp_path / "again")
    for name in ("student", "student_b"):
        found, wanted = (load_file(tmp_path / run / "2-finetune" / f"{name}.safetensors") for run in ("again", "whole"))
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_teacher_that_is_a_file_alone_gives_a_new_way_back_and_says_so(tmp_path):
    data, told = toy_data(tmp_path / "data")["unpaired"], []
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors")
    small = [
        *TRAIN,
        "data.kind=unpaired",
        "gan.discriminator.width=2",
        "gan.pool=2",
        "information.name=none",
        "train.batch=1",
    ]
    distill(
        teacher, out=tmp_path / "run", recipe="finetune", data=data, overrides=[*small, "prune.share=0.6"],
        on_event=told.append,
    )  # fmt: skip
    warnings = [event["message"] for event in told if event["event"] == "warning"]
    assert any("has no second generator" in message for message in warnings)
    assert (tmp_path / "run" / "2-finetune" / "student_b.safetensors").is_file()


def test_slimming_is_sparse_training_pruning_and_fine_tuning_from_its_discriminators(tmp_path):
    data = toy_data(tmp_path / "data")["unpaired"]
    small = [*TRAIN, *RESNET, "train.batch=1", "information.channels=2", "information.steps=2"]
    small = [o for o in small if not o.startswith("teacher.network.width")] + ["teacher.network.width=4"]
    result = distill(out=tmp_path / "run", recipe="slimming", data=data, overrides=[*small, "data.kind=unpaired"])
    assert list(result.stages) == ["sparse", "prune", "finetune"]
    kept = result.stages["prune"].widths
    assert sum(k for k, _ in kept.values()) < sum(size for _, size in kept.values())
    start = recipes.read(tmp_path / "run" / "3-finetune" / "recipe.toml").algorithm.start
    assert start.keys() == {"generator_b", "discriminator_a", "discriminator_b"}


SMALL = [*TRAIN, "information.name=none", "train.batch=1", "prune.share=0.6"]


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("single", [], "needs a generator of latent vectors"),
        ("unpaired", ["data.kind=unpaired", "data.size=16"], "is too small for the patchgan"),
        ("paired", ["data.kind=paired", "gan.name=pix2pix_teachers"], "teacher.deep is not set"),
        ("unpaired", [*KIND, "algorithm.start.nope=x"], "x: does not exist"),
    ],
)
def test_a_gan_that_cannot_be_is_told_before_anything_is_pruned(tmp_path, kind, more, message):
    data = toy_data(tmp_path / "data")[kind]
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors")
    with pytest.raises((RecipeError, InputError), match=message):
        distill(teacher, out=tmp_path / "run", recipe="finetune", data=data, overrides=[*SMALL, *more])
    assert not (tmp_path / "run").exists()


def test_networks_that_the_students_gan_does_not_have_are_refused(tmp_path):
    gan = cyclegan()
    for settings, message in (
        (Finetune.Settings(start={"nope": "x"}), r"algorithm.start.nope: cyclegan has no such network"),
        (Finetune.Settings(back={"family": "resnet", "width": 2}), "algorithm.back: pix2pix has no second generator"),
    ):
        own = gan if settings.start else Pix2Pix(Pix2Pix.Settings(), generator=toy_teacher("unet"))
        with pytest.raises(RecipeError, match=message):
            Finetune.check_gan(settings, own, toy_teacher("resnet", width=2))


def test_the_students_own_gan_learns_at_each_step_whatever_the_teachers_does():
    gan = cyclegan()
    gan.settings = gan.settings.but(every=3)
    own = gan.twin(toy_teacher("resnet", 5), Start("toy", {}, {}))
    assert {update.every for update in own.updates()} == {1}


def test_pix2pix_has_no_way_back_to_prune_and_none_is_missed(tmp_path):
    data, told = toy_data(tmp_path / "data")["paired"], []
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors", family="unet", norm="batch")
    more = ["data.kind=paired", "gan.discriminator.width=2"]
    distill(
        teacher, out=tmp_path / "run", recipe="finetune", data=data, overrides=[*SMALL, *more], on_event=told.append
    )
    assert not [e["message"] for e in told if e["event"] == "warning" and "second generator" in e["message"]]
    assert not (tmp_path / "run" / "1-prune" / "student_b.safetensors").exists()


def test_a_student_without_distillation_is_not_picked_by_similarity_to_the_teacher(tmp_path):
    data = toy_data(tmp_path / "data")["paired"]
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors", family="unet", norm="batch")
    more = ["data.kind=paired", "gan.discriminator.width=2", "data.held_out=2"]
    result = distill(teacher, out=tmp_path / "run", recipe="finetune", data=data, overrides=[*SMALL, *more])
    assert result.stages["finetune"].best["metric"] == "l1_target"
