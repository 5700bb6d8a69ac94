"""Plain distillation, and with it the template: every teacher, every add-on, an adversary, a latent generator."""

import json

import pytest
import torch
import torch.nn.functional as F
from gans_toys import as_batch, toy_unet
from safetensors.torch import load_file
from teach_toys import CRD, TRAIN, UNET, VEM, toy_data
from torch import Tensor, nn
from toys import ADD_ONS, TOY, logged, random, toy_plan, toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Facts, Parts
from vemcompress.algorithms.distillation import Distillation, Needs
from vemcompress.algorithms.kd import KD
from vemcompress.commands.distill import distill
from vemcompress.commands.parts import distillation
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans import CycleGAN, Pix2PixTeachers
from vemcompress.gans.adversary import Adversary
from vemcompress.gans.teachers import Frozen, Online, Phased, Phases
from vemcompress.information import INFORMATION, build_information
from vemcompress.networks.base import Generator, ImageInput
from vemcompress.networks.discriminators import PatchGANConfig, SharedPatchGANConfig
from vemcompress.training.optimizers import Runner
from vemcompress.training.stepper import Stepper
from vemcompress.training.update import Optimizer, Update
from vemcompress.weights.loading import load

CPU = torch.device("cpu")
SMALL = {"discriminator": PatchGANConfig(width=2, layers=2)}


def toy_latent(width: int, seed: int = 0) -> Generator:
    """z, B x 6, to images of 16 px."""
    return toy_teacher("dcgan", seed, width=width, levels=2, latent=6)


def gan(kind: str):
    if kind == "unpaired":
        a, b = (toy_teacher("mobile_resnet", seed, width=2, blocks=3) for seed in (0, 1))
        return CycleGAN(CycleGAN.Settings(pool=2, discriminator=PatchGANConfig(width=2)), generator_a=a, generator_b=b)
    settings = Pix2PixTeachers.Settings(discriminator=SharedPatchGANConfig(width=2))
    return Pix2PixTeachers(settings, wide=toy_unet(0).float(), deep=toy_unet(1, "deep_unet").float())


def student_of(teacher: str) -> Generator:
    if teacher == "latent":
        return toy_latent(2, seed=1)
    return toy_teacher("unet", 2, width=2) if teacher == "online" else toy_teacher("mobile_resnet", 2, width=2)


TEACHERS = {
    "frozen": lambda: Frozen(toy_teacher("resnet")),
    "online": lambda: Online(gan("paired")),
    "phased": lambda: Phased(gan("unpaired"), toy_teacher("mobile_resnet", width=2, blocks=3), Phases(1, 1, 4)),
    "latent": lambda: Frozen(toy_latent(4)),
}


def kd(teacher: str = "frozen", add_on: str = "none", *, paired: bool = False, **settings) -> KD:
    torch.manual_seed(3)
    student = student_of(teacher)
    side = 16 if teacher == "latent" else 32
    information = INFORMATION[add_on].Settings(**ADD_ONS[add_on])
    parts = Parts(
        teacher=TEACHERS[teacher](),
        student=student,
        information=build_information(information, image_channels=3, height=side, width=side),
        optimizer=Optimizer(2e-3, (0.5, 0.999)),
        paired=paired,
    )
    return KD(KD.Settings(**{"feature": 1.0, **settings}), parts).train()


def batch_of(algorithm: KD, teacher: str, step: int = 0) -> Batch:
    if teacher == "latent":
        return Batch(torch.randn(2, 6, generator=random(step)), real=torch.rand(2, 3, 16, 16) * 2 - 1)
    images = torch.rand(2, 2, 3, 32, 32, generator=random(step)) * 2 - 1
    learning = getattr(algorithm.teacher, "gan", None)
    return Batch(images[0]) if learning is None else as_batch(learning, images)


@pytest.mark.parametrize("adversary", [None, Adversary.Settings(**SMALL)], ids=["alone", "adversary"])
@pytest.mark.parametrize("add_on", ADD_ONS)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_it_learns_from_every_teacher_with_every_add_on(teacher, add_on, adversary):
    algorithm = kd(teacher, add_on, adversary=adversary, paired=teacher == "online")
    settings = recipes.TrainSettings(steps=4, batch=2)
    stepper, before = Stepper(algorithm, settings, CPU, 10), algorithm.student.state_dict()
    before, losses = {name: value.clone() for name, value in before.items()}, {}
    for step in (1, 2):
        losses |= stepper(batch_of(algorithm, teacher, step), step)
    expected = {"recon", "feature"} | ({"information"} if add_on != "none" else set())
    expected |= {"gan", "adversary_fake", "adversary_real"} if adversary else set()
    assert expected <= losses.keys()
    assert any(not torch.equal(value, before[name]) for name, value in algorithm.student.state_dict().items())


def test_the_terms_are_the_weighted_distances():
    algorithm = kd(recon=3.0, feature=0.5)
    out = algorithm(batch_of(algorithm, "frozen"), random())
    terms = algorithm.student_terms(out)
    assert terms["recon"].item() == pytest.approx(3 * (out.teacher - out.student).abs().mean().item(), rel=1e-5)
    maps = [
        (f(out.student_taps[s]) - out.teacher_taps[t]).square().mean()
        for f, s, t in zip(algorithm.connectors, algorithm.student_taps, algorithm.teacher_taps, strict=True)
    ]
    assert terms["feature"].item() == pytest.approx(0.5 * sum(maps).item(), rel=1e-5)
    assert out.teacher_taps["down2"].shape[2:] == (8, 8)  # whole maps, not their means


def test_the_adversary_moves_before_the_student():
    names = [update.name for update in kd(add_on="vem", adversary=Adversary.Settings(**SMALL)).updates()]
    assert names == ["energy", "adversary", "student"]


def test_an_adversary_beside_a_teachers_discriminator_has_a_name_of_its_own():
    algorithm = kd("online", paired=True, adversary=Adversary.Settings(**SMALL))
    Runner(algorithm.updates(), CPU)
    assert {"adversary", "discriminator"} <= algorithm.artifacts().keys()


def test_the_adversary_judges_against_the_ground_truth_else_the_other_domain_else_the_teacher():
    algorithm = kd(adversary=Adversary.Settings(**SMALL))
    x, t, r = torch.rand(3, 1, 3, 32, 32) * 2 - 1
    assert torch.equal(algorithm(Batch(x, target=t, real=r), random()).real, t)
    assert torch.equal(algorithm(Batch(x, real=r), random()).real, r)
    out = algorithm(Batch(x), random())
    assert torch.equal(out.real, out.teacher)
    assert kd(paired=True, adversary=Adversary.Settings(**SMALL)).adversary.discriminator.config.in_channels == 6


def test_a_hinge_adversary_has_the_hand_numbers():
    adversary = kd(adversary=Adversary.Settings(**SMALL, mode="hinge", weight=2.0)).adversary
    adversary.judge = lambda x, image: image.mean((1, 2, 3))
    out = kd()(Batch(torch.zeros(1, 3, 32, 32)), random())
    out.student, out.real = torch.full((1, 3, 32, 32), 0.25), torch.full((1, 3, 32, 32), 0.5)
    terms = adversary.terms(out) | adversary.student_term(out)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"adversary_fake": 0.5 * 1.25, "adversary_real": 0.5 * 0.5, "gan": -2 * 0.25}
    )


@pytest.mark.parametrize(
    ("needs", "facts", "message"),
    [
        ({"teacher": "frozen"}, {"learns": True}, "needs a frozen teacher"),
        ({"teacher": "online"}, {}, "needs a teacher that is trained too"),
        ({"takes": ("latent",)}, {}, "needs generators with latent input, and this teacher's input is image"),
        (
            {"takes": ("image",)},
            {"teacher": toy_latent(2)},
            "needs generators with image input, and this teacher's input is latent",
        ),
        ({"pairs": True}, {}, "needs the ground truth of each input"),
        ({"batch": 2}, {}, "needs batches of at least 2"),
    ],
)
def test_a_recipe_that_a_method_cannot_follow_is_refused_in_a_sentence(needs, facts, message):
    network = toy_teacher()
    given = {"teacher": network, "student": network, "images": 3, "size": 32, "batch": 1, "steps": 2} | facts
    with pytest.raises(RecipeError, match=f"recipe mine: KD .*{message}"):
        Needs(**needs).check("KD", Facts("mine", **given))


def test_the_average_of_the_student_is_what_the_run_gives():
    algorithm = kd(ema=0.5)
    stepper = Stepper(algorithm, recipes.TrainSettings(steps=4, batch=2), CPU, 10)
    start = algorithm.student.head.weight.detach().clone()
    stepper(batch_of(algorithm, "frozen"), 1)
    written, learning = algorithm.artifacts()["student"], algorithm.companions()["student_learning"][0]
    assert torch.allclose(written.head.weight, (start + learning.head.weight) / 2)
    assert not torch.equal(written.head.weight, learning.head.weight)


class Enlarged(Generator):
    """Images to images of four times their size."""

    def __init__(self):
        super().__init__(toy_teacher().config)
        self.conv = nn.Conv2d(3, 48, 3, padding=1)

    @property
    def takes(self):
        return ImageInput(3, scale=4)

    def forward_with_taps(self, x: Tensor, names):
        return F.pixel_shuffle(self.conv(x), 4).tanh(), {}


def test_the_energy_network_is_of_the_size_of_what_the_student_draws():
    plan = toy_plan(toy_teacher(), "information.start=buffer", "information.buffer=2")
    plan = plan.model_copy(update={"algorithm": KD.Settings(feature=0)})
    algorithm = distillation(plan, Enlarged(), student=Enlarged())
    assert algorithm.information.chains.samples.shape == (2 + 1, 3, 128, 128)
    out = algorithm(Batch(torch.rand(2, 3, 32, 32) * 2 - 1, index=torch.tensor([0, 4])), random())
    algorithm.information.energy_terms(out)
    assert out.samples.shape == (2, 3, 128, 128)


# -- whole runs ------------------------------------------------------------------------------------------------------

SHORT = [o for o in TOY if not o.startswith("algorithm.")]
ADVERSARY = ("algorithm.adversary.discriminator.width=2", "algorithm.adversary.discriminator.layers=2")


def test_a_run_with_an_adversary_resumes_as_an_unbroken_one(inputs, tmp_path, one_thread):
    teacher, data = inputs
    options = {"data": data, "recipe": "kd", "device": "cpu"}
    overrides = [*SHORT, *ADVERSARY, "algorithm.ema=0.9", "algorithm.adversary.pool=2"]
    distill(teacher, out=tmp_path / "whole", overrides=overrides, **options)
    distill(teacher, out=tmp_path / "broken", overrides=[*overrides, "train.steps=3", "train.constant=1.0"], **options)
    distill(resume=tmp_path / "broken", overrides=["train.steps=6", "train.constant=1.0"], device="cpu")
    distill(teacher, out=tmp_path / "again", overrides=[*overrides, "train.constant=1.0"], **options)
    for name in ("metrics.jsonl", "student.safetensors", "adversary.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert "adversary_fake" in logged(tmp_path / "whole")[-1]


def test_an_adversary_of_a_frozen_teachers_student_sees_the_other_domain(tmp_path, monkeypatch):
    data, seen = toy_data(tmp_path / "data")["unpaired"], []
    forward = Distillation.forward

    def watched(self, batch, *rest):
        seen.append(batch)
        return forward(self, batch, *rest)

    monkeypatch.setattr(Distillation, "forward", watched)
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors")
    options = {"data": data, "recipe": "kd", "device": "cpu"}
    overrides = [*SHORT, "data.kind=unpaired", "train.steps=1"]
    distill(teacher, out=tmp_path / "alone", overrides=overrides, **options)
    distill(teacher, out=tmp_path / "run", overrides=[*overrides, *ADVERSARY], **options)
    assert [batch.real is None for batch in seen] == [True, False]


def test_the_adversary_starts_from_the_teachers_discriminator(tmp_path):
    from teach_toys import taught

    data = toy_data(tmp_path / "data")
    taught(data, tmp_path / "teacher", "gan.discriminator.width=2")
    overrides = [*SHORT, "student.width=2", "train.steps=1", "algorithm.feature=0"]
    source = f"algorithm.adversary.source={tmp_path / 'teacher' / 'discriminator.safetensors'}"
    options = {"data": data["paired"], "recipe": "kd", "device": "cpu"}
    distill(tmp_path / "teacher", out=tmp_path / "run", overrides=[*overrides, source], **options)
    first, learnt = (
        load_file(tmp_path / n) for n in ("teacher/discriminator.safetensors", "run/adversary.safetensors")
    )
    statistics = [name for name in first if name.endswith("running_mean")]
    assert statistics and not any(torch.equal(first[name], learnt[name]) for name in statistics)
    adversary = recipes.read(tmp_path / "run" / "recipe.toml").algorithm.adversary
    assert adversary.source == str((tmp_path / "teacher" / "discriminator.safetensors").resolve())
    assert (tmp_path / "run" / "adversary.safetensors").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("algorithm.adversary.discriminator.layers=5", r"data.size 32 is too small for the patchgan discriminator"),
        ("algorithm.adversary.discriminator.in_channels=5", r"omit algorithm\.adversary\.discriminator\.in_channels"),
    ],
)
def test_an_adversary_that_does_not_fit_is_refused(setting, message, inputs, tmp_path):
    options = {"data": inputs[1], "recipe": "kd", "device": "cpu"}
    with pytest.raises(RecipeError, match=message):
        distill(inputs[0], out=tmp_path / "run", overrides=[*SHORT, setting], **options)


def test_a_cache_beside_an_adversary_that_sees_the_other_domain(tmp_path):
    data, teacher = toy_data(tmp_path / "data")["unpaired"], toy_teacher_file(tmp_path / "teacher.safetensors")
    overrides = [*SHORT, *ADVERSARY, "data.kind=unpaired", "train.teacher_cache=1", "data.held_out=0"]
    distill(teacher, data=data, out=tmp_path / "run", recipe="kd", overrides=overrides, device="cpu")
    assert (tmp_path / "run" / "teacher_cache" / "views.bin").is_file()


def test_another_algorithm_keeps_how_the_teacher_learns():
    settings = recipes.read("omgd_cyclegan", ["algorithm.name=kd"]).algorithm
    assert (settings.online, settings.phase_epochs, settings.student_epochs) == ("phases", 10, 4)
    assert recipes.read("omgd", ["algorithm.name=kd", "algorithm.recon=2.0"]).algorithm == KD.Settings(recon=2.0)


def test_an_update_of_the_methods_own_keeps_its_steps():
    class Lazy(KD):
        def extra_updates(self):
            optimizer = Optimizer(1e-3)
            return [Update("lazy", {"student": self.student}, lambda out: {}, optimizer, when=lambda step: step == 5)]

    algorithm = kd()
    algorithm.__class__ = Lazy
    lazy = next(update for update in algorithm.updates() if update.name == "lazy")
    assert [step for step in range(1, 8) if lazy.due(step)] == [5]


def test_whole_maps_of_a_frozen_teacher_are_cached_too(inputs, tmp_path, one_thread):
    teacher, data = inputs
    overrides = [*SHORT, "train.teacher_cache=1", "data.held_out=0", "train.steps=8"]
    distill(teacher, data=data, out=tmp_path / "run", recipe="kd", overrides=overrides, device="cpu")
    assert "feature" in logged(tmp_path / "run")[-1]
    manifest = json.loads((tmp_path / "run" / "teacher_cache" / "manifest.json").read_text())
    assert manifest["record"]["taps"]["down2"] == [16, 8, 8]


def test_other_places_than_the_teachers_are_distilled_from_images_alone(inputs, tmp_path):
    overrides = [*SHORT[:1], "student.family=unet", "student.width=2", "student.downs=5", "train.steps=1"]
    options = {"data": inputs[1], "recipe": "kd", "device": "cpu"}
    distill(inputs[0], out=tmp_path / "run", overrides=[*overrides, *VEM], **options)
    assert recipes.read(tmp_path / "run" / "recipe.toml").algorithm.feature == 0
    with pytest.raises(
        RecipeError, match=r"the feature maps of a unet student do not match .* set algorithm\.feature=0"
    ):
        distill(inputs[0], out=tmp_path / "no", overrides=[*overrides, "algorithm.feature=1.0"], **options)


def test_beside_teachers_that_learn_it_is_one_recipe_away(tmp_path):
    data = toy_data(tmp_path / "data")["paired"]
    overrides = [
        *TRAIN,
        *UNET,
        "algorithm.name=kd",
        "teacher.deep.width=1",
        "teacher.deep.downs=5",
        "student.width=2",
        "student.downs=5",
    ]
    result = distill(data=data, out=tmp_path / "run", recipe="omgd_online", overrides=[*overrides, *CRD], device="cpu")
    assert load(result.student).generator.family == "unet"
    assert {"wide_gan", "recon", "information"} <= result.losses.keys()


def test_every_algorithm_has_a_recipe_of_its_name():
    assert set(ALGORITHMS) <= set(recipes.shipped())
