"""DCD: the terms against plain ones, what learns, and what is refused."""

from copy import deepcopy

import pytest
import torch
from gans_toys import CPU, as_batch
from safetensors.torch import load_file
from teach_toys import RESNET, TRAIN, toy_data
from toys import random, stop_after, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import Facts, Parts
from vemcompress.algorithms.dcd import DCD
from vemcompress.commands.distill import distill
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.gans import CycleGAN, Pix2Pix
from vemcompress.gans.teachers import Online, Phased, Phases
from vemcompress.information.base import Information
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer
from vemcompress.weights.features import random_features

SMALL = PatchGANConfig(width=2, layers=1)


def dcd(kind: str, family: str = "mobile_resnet", **settings) -> DCD:
    torch.manual_seed(3)
    student = toy_teacher(family, 5, width=3).train()
    if kind == "pairs":
        gan = Pix2Pix(Pix2Pix.Settings(discriminator=SMALL), generator=toy_teacher(family).train())
        teacher = Online(gan)
    else:
        networks = {f"generator_{side}": toy_teacher("mobile_resnet", i).train() for i, side in enumerate("ab")}
        gan = CycleGAN(CycleGAN.Settings(pool=0, discriminator=SMALL), **networks)
        teacher = Phased(gan, toy_teacher("mobile_resnet", 7), Phases(1, 1, 4))
    settings = DCD.Settings(**{"compare": 2.0, "style": 3.0, "feature": 0.5, "gan": 0.7} | settings)
    features = random_features("squeezenet1_1_caffe")
    optimizer = Optimizer(2e-4, (0.5, 0.999))
    parts = Parts(teacher, student, Information(), optimizer, features, paired=kind == "pairs", gan=gan)
    return DCD(settings, parts).train()


def batch_of(algorithm: DCD):
    return as_batch(algorithm.gan, torch.rand(2, 2, 3, 32, 32, generator=random(1)) * 2 - 1)


def gram(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    return x.reshape(b, c, -1) @ x.reshape(b, c, -1).mT / (c * h * w)


@pytest.mark.parametrize("kind", ["pairs", "domains"])
def test_the_terms_are_the_published_ones(kind):
    algorithm, step = dcd(kind), 1 if kind == "pairs" else 2
    batch = batch_of(algorithm)
    judge = deepcopy(next(iter(algorithm.gan.discriminators().values())))
    teacher, student = deepcopy(algorithm.teacher.generator), deepcopy(algorithm.student)
    theirs, mine = deepcopy(algorithm.of_teacher), deepcopy(algorithm.connectors)
    terms = algorithm.student_terms(algorithm(batch, random(1), step))
    taps = ("down2", "block1", "block2", "block3")
    with torch.no_grad():
        wanted, of_teacher = teacher.forward_with_taps(batch.input, taps)
    image, of_student = student.forward_with_taps(batch.input, taps)

    def last(x):
        return judge.forward_with_taps(x, ("layer2",))[1]["layer2"]

    compare = sum(
        (last(f(of_teacher[tap])) - last(g(of_student[tap]))).abs().mean()
        for f, g, tap in zip(theirs, mine, taps, strict=True)
    )
    a, b = algorithm.features(wanted), algorithm.features(image)
    style = sum((gram(x) - gram(y)).abs().mean() for x, y in zip(a, b, strict=True))
    scores = judge(torch.cat((batch.input, image), 1) if kind == "pairs" else image)
    gan = -scores.mean() if kind == "pairs" else ((scores - 1) ** 2).mean()
    expected = {
        "compare": 2 * compare,
        "style": 3 * style,
        "feature": 0.5 * (a[1] - b[1]).abs().mean(),
        "gan": 0.7 * gan,
    }
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-4
    )


def test_connectors_of_pairs_give_as_many_channels_as_the_discriminator_takes_and_both_learn():
    algorithm = dcd("pairs")
    assert all(f[0].out_channels == 6 for f in (*algorithm.connectors, *algorithm.of_teacher))
    assert {"connectors", "of_teacher"} <= algorithm.learned().keys()


def test_the_teachers_connectors_of_cyclegan_never_change_and_the_students_do():
    algorithm = dcd("domains")
    before = {name: value.clone() for name, value in algorithm.of_teacher.state_dict().items()}
    mine = algorithm.connectors[0][0].weight.detach().clone()
    runner = Runner(algorithm.train().updates(), CPU)
    out = algorithm(batch_of(algorithm), random(1), 2)
    judge = deepcopy(algorithm.judge.state_dict())
    for update in runner.updates:
        if update.due(2):
            runner.apply(update, out, 2)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.of_teacher.state_dict().items())
    assert not torch.equal(algorithm.connectors[0][0].weight, mine)
    assert all(torch.equal(value, judge[name]) for name, value in algorithm.judge.state_dict().items())
    assert all(f[0].out_channels == 3 for f in algorithm.of_teacher)


def facts(**more) -> Facts:
    network = toy_teacher("mobile_resnet")
    given = {"teacher": network, "student": network, "images": 3, "size": 32, "batch": 1, "steps": 2} | more
    return Facts("mine", **given)


def test_published_weights_are_those_of_vgg16_and_pix2pix_has_no_adversarial_term():
    found = DCD.resolve(DCD.Settings(), facts())
    assert (found.compare, found.style, found.feature, found.gan) == (1.0, 10.0, 1e4, 1.0)
    assert DCD.resolve(DCD.Settings(), facts(paired=True)).gan == 0.0
    none = DCD.resolve(DCD.Settings(features="none"), facts())
    assert (none.style, none.feature) == (0.0, 0.0)
    assert DCD.resolve(DCD.Settings(features="squeezenet1_1"), facts()).style is None  # until it is calibrated


def test_maps_that_are_too_small_for_the_discriminator_are_told():
    with pytest.raises(RecipeError, match=r"needs 24 px, and the smallest has 8; set gan.discriminator.layers=2"):
        DCD.resolve(DCD.Settings(), facts(judge=PatchGANConfig(width=2)))
    DCD.resolve(DCD.Settings(), facts(judge=SMALL))


def test_a_student_of_another_kind_is_refused():
    with pytest.raises(RecipeError, match="needs a student of the teacher's family"):
        DCD.resolve(DCD.Settings(), facts(student=toy_teacher("unet")))


def test_a_run_in_turns_resumes_to_the_same_bits(tmp_path, one_thread):
    data = toy_data(tmp_path / "data")["unpaired"]
    small = [*TRAIN, *(o for o in RESNET if "blocks" not in o), "teacher.network.blocks=3", "student.blocks=3"]
    own = ["student.width=2", "gan.discriminator.layers=1", "algorithm.features=none", "algorithm.phase_steps=2"]
    own += ["algorithm.student_epochs=1", "algorithm.best_teacher=latest", "train.best_by=none", "train.batch=1"]
    own += ["train.steps=8", "information.channels=2", "information.steps=2"]
    options = {"recipe": "dcd", "data": data, "overrides": [*small, *own]}
    distill(out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        distill(out=tmp_path / "again", on_event=stop_after(5), **options)
    distill(resume=tmp_path / "again")
    found, wanted = (load_file(tmp_path / name / "student.safetensors") for name in ("again", "whole"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_recipe_fits_itself_to_pairs():
    paired = recipes.read("dcd", ["data.kind=paired"])
    assert (paired.gan.name, paired.gan.discriminator.width, paired.algorithm.online) == ("pix2pix", 128, "step")
    assert (recipes.read("dcd").gan.name, recipes.read("dcd").algorithm.online) == ("cyclegan", "phases")
