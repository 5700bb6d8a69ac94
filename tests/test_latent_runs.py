"""Runs of generators from latent vectors: taught, distilled without and with images, resumed to the bit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from teach_toys import CRD, VEM
from torch import nn
from toys import logged, stop_after, toy_images, toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.latents import between, draw
from vemcompress.data.settings import DataSettings
from vemcompress.data.squares import load_square
from vemcompress.errors import Interrupted, RecipeError, UsageError
from vemcompress.networks.base import LatentInput
from vemcompress.weights.loading import load

SHORT = ("train.steps=4", "train.batch=2", "train.log_every=1", "train.sample_every=100", "train.checkpoint_every=2")
SHORT = (*SHORT, "train.best_by=none")
SMALL = ("teacher.network.width=2", "teacher.network.levels=2", "teacher.network.latent=6", "gan.discriminator.width=2")
KD = (*SHORT, "student.width=1", *VEM)
GCC = (*SHORT, *SMALL, *VEM, "stages.sparse.teacher.network.width=8", "stages.sparse.teacher.network.levels=2")
GCC = (*GCC, "prune.share=0.6")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return toy_images(tmp_path_factory.mktemp("faces"), 5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return toy_teacher_file(tmp_path_factory.mktemp("t") / "t.safetensors", family="dcgan", latent=6)


def weights(folder, name="student"):
    return load_file(folder / f"{name}.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_vector_is_a_function_of_its_seed_and_number():
    some = draw("normal", 5, 7, range(10))
    assert np.array_equal(draw("normal", 5, 7, [8, 3]), some[[8, 3]])
    assert not np.array_equal(draw("normal", 5, 8, [3]), some[[3]])
    uniform = draw("uniform", 1000, 0, [0])
    assert -1 <= uniform.min() < -0.9 and 0.9 < uniform.max() <= 1


def test_between_two_normal_vectors_lengths_stay_as_they_are():
    a, b = draw("normal", 64, 0, [0, 1])
    path = between(a, b, 5, "normal")
    assert np.allclose(path[0], a, atol=1e-5) and np.allclose(path[-1], b, atol=1e-5)
    lengths = np.linalg.norm(path, axis=1)
    assert min(lengths) > 0.99 * min(lengths[0], lengths[-1])
    assert np.allclose(between(a, b, 3, "uniform")[1], (a + b) / 2, atol=1e-6)


def test_held_out_and_shown_vectors_are_not_those_of_training():
    data = LatentSet(DataSettings(size=16), LatentInput(6, 16), None)
    learn_on, held_out = data.split_off()
    sets = [found.vectors(4) for found in (learn_on, held_out, learn_on.spread(4), held_out.spread(4))]
    assert len({tuple(vectors.flatten().tolist()) for vectors in sets}) == 4
    first = learn_on.stream((6, 3), 2, seed=0).batch(1)
    assert torch.equal(first.input, sets[0][2:4]) and first.real is None


@pytest.mark.parametrize(("crop", "mean"), [(None, 62.5), (4, 200), ("square", 125), (100, 125)])
def test_crop_takes_the_middle_of_an_image(crop, mean, tmp_path):
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 4:12] = 100
    picture[2:6, 6:10] = 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    square = load_square(tmp_path / "a.png", 8, 3, crop)
    assert square.mean() == pytest.approx(mean, abs=3)


def test_pairs_are_not_cropped():
    with pytest.raises(RecipeError, match="crop applies to single images"):
        recipes.read("pix2pix", ["data.crop=64"])


@pytest.mark.parametrize("recipe", ["sagan", "dcgan"])
def test_a_taught_latent_generator_goes_on_to_the_same_end(recipe, images, tmp_path, one_thread):
    options = {"data": images, "recipe": recipe, "overrides": [*SHORT, *SMALL], "device": "cpu"}
    whole = teach(out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        teach(out=tmp_path / "cut", on_event=stop_after(2), **options)
    teach(resume=tmp_path / "cut", device="cpu")
    assert same(weights(tmp_path / "cut", "teacher"), weights(tmp_path / "whole", "teacher"))
    assert same(weights(tmp_path / "cut", "discriminator"), weights(tmp_path / "whole", "discriminator"))
    generator = load(whole.run).generator
    assert generator.takes == LatentInput(6, 16, "normal" if recipe == "sagan" else "uniform")
    assert not any(name.endswith((".u", ".v")) for name in weights(tmp_path / "whole", "teacher"))


def test_distilling_needs_no_images(teacher, tmp_path):
    told = []
    result = distill(teacher, out=tmp_path / "run", recipe="kd", overrides=KD, device="cpu", on_event=told.append)
    assert load(result.student).generator.takes == LatentInput(6, 16)
    assert any("no real images needed" in event.get("message", "") for event in told)
    assert {"recon", "feature", "information"} <= result.losses.keys()


@pytest.mark.parametrize("add_on", [("information.name=vid",), CRD, ("information.name=none",)])
def test_every_add_on_fits_latent_generators(add_on, teacher, tmp_path):
    overrides = [*SHORT, "student.width=1", "train.steps=1", *add_on]
    result = distill(teacher, out=tmp_path / "run", recipe="kd", overrides=overrides, device="cpu")
    assert result.steps == 1


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("kd", "data.kind=paired", "data.kind = 'paired' needs a generator that takes images"),
        ("kd", "data.size=32", "makes images of 16 px"),
        ("kd", "train.teacher_cache=2", "latent vectors are new at each step"),
        ("kd", "information.start=buffer", "latent vectors are new"),
        ("kd", "train.epochs=2.0", "counts real images, and there are none"),
        ("gcc", "data.kind=unpaired", "data.kind = 'unpaired'"),
    ],
)
def test_what_does_not_fit_latent_vectors_is_refused(recipe, override, message, teacher, tmp_path):
    with pytest.raises((RecipeError, UsageError), match=message):
        distill(teacher, out=tmp_path / "run", recipe=recipe, overrides=[*VEM, override], device="cpu")
    assert not (tmp_path / "run").exists()


def test_teaching_needs_real_images_and_a_latent_generator(images, tmp_path):
    with pytest.raises(UsageError, match="a folder of real images"):
        teach(out=tmp_path / "run", recipe="sagan", overrides=SMALL, device="cpu")
    overrides = ["teacher.network.family=unet", "teacher.network.width=2", "teacher.network.downs=5", "data.size=32"]
    with pytest.raises(RecipeError, match="takes images"):
        teach(data=images, out=tmp_path / "run", recipe="sagan", overrides=overrides, device="cpu")


class Mine(nn.Module):
    """A user's own: 12 numbers to images of 16 px."""

    nz = 12

    def __init__(self):
        super().__init__()
        self.linear, self.conv = nn.Linear(12, 8 * 16), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, z):
        return self.conv(F.interpolate(self.linear(z).view(-1, 8, 4, 4), scale_factor=4).relu()).tanh()


def test_a_class_of_the_users_own_is_distilled_into_a_dcgan(tmp_path):
    result = distill(Mine(), out=tmp_path / "run", recipe="kd", overrides=KD, device="cpu")
    student = load(result.student).generator
    assert (student.family, student.takes) == ("dcgan", LatentInput(12, 16))
    assert result.diverged == {}  # a new student makes all images alike, which is no fault


def test_an_adversary_of_the_students_own_judges_against_real_images(teacher, images, tmp_path):
    adversary = ("algorithm.adversary.discriminator.width=2", "algorithm.adversary.discriminator.layers=1")
    options = {"recipe": "kd", "overrides": [*KD, *adversary], "device": "cpu"}
    result = distill(teacher, data=images, out=tmp_path / "run", **options)
    assert {"gan", "adversary_real"} <= result.losses.keys()


def test_gcc_runs_all_its_stages_and_goes_on_to_the_same_end(images, tmp_path, one_thread):
    options = {"data": images, "recipe": "gcc", "overrides": GCC, "device": "cpu"}
    whole = distill(out=tmp_path / "whole", **options)
    distill(out=tmp_path / "cut", until="prune", **options)
    with pytest.raises(Interrupted):
        distill(resume=tmp_path / "cut", on_event=stop_after(3), device="cpu")
    distill(resume=tmp_path / "cut", device="cpu")
    assert list(whole.stages) == ["sparse", "prune", "train"]
    for name in ("student", "3-train/teacher", "3-train/discriminator"):
        assert same(weights(tmp_path / "cut", name), weights(tmp_path / "whole", name)), name
    found = logged(tmp_path / "whole" / "3-train")[-1]
    assert {"gan", "content", "gram", "information", "mask_balance", "student_d_real", "teacher_gan"} <= found.keys()
    assert found == logged(tmp_path / "cut/3-train")[-1]


def test_gcc_takes_a_given_teacher_in_the_place_of_the_sparse_one(teacher, images, tmp_path):
    overrides = [o for o in GCC if not o.startswith(("teacher.", "gan."))]
    overrides = [*overrides, "gan.discriminator.family=dcgan", "gan.discriminator.width=2", "prune.share=0.5"]
    result = distill(teacher, data=images, out=tmp_path / "run", recipe="gcc", overrides=overrides, device="cpu")
    assert result.skipped == {"sparse": "the teacher is given"}
    small, whole = load(result.student).generator.config, load(teacher).generator.config
    assert small.family == "dcgan" and sum(small.widths) < sum(whole.widths)


@pytest.mark.parametrize(("kind", "gan", "family"), [
    ("single", "latent", "sagan"), ("paired", "pix2pix", "unet"), ("labels", "pix2pix", "unet"),
    ("unpaired", "cyclegan", "mobile_resnet"),
])  # fmt: skip
def test_the_recipe_gcc_fits_the_kind_of_data(kind, gan, family):
    plan = recipes.read("gcc", [f"data.kind={kind}"])
    assert (plan.gan.name, plan.teacher.network.family) == (gan, family)
    sparse = recipes.of_stage(plan, plan.stages[0])
    assert sparse.gan.sparsity is not None and sparse.teacher.network.family == family
    assert recipes.of_stage(plan, plan.stages[-1]).gan.sparsity is None


def test_a_recipe_as_it_is_shown_can_be_run(images, tmp_path):
    (tmp_path / "mine.toml").write_text(recipes.read("sagan").toml())
    result = teach(data=images, out=tmp_path / "run", recipe=tmp_path / "mine.toml", overrides=[*SHORT, *SMALL])
    assert recipes.read(tmp_path / "run" / "recipe.toml").data.size == load(result.run).generator.takes.image


def test_tables_that_fit_another_kind_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "a.toml").write_text("[fits.pared.data]\nsize = 64\n")
    with pytest.raises(RecipeError, match=r"unknown kind of data 'pared' in \[fits\].*paired"):
        recipes.read(tmp_path / "a.toml")


def test_toys_have_the_sides_that_their_levels_say():
    assert [toy_teacher(family, width=2, latent=6).takes.image for family in ("dcgan", "sagan")] == [16, 16]
