"""GAN-Compression and CAT: the terms, the order of the updates, supernets, published numbers."""

from copy import deepcopy
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import ADD_ONS, random, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Facts, Parts
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.gans.teachers import Frozen
from vemcompress.information import INFORMATION, build_information
from vemcompress.losses.features import kernel_alignment
from vemcompress.networks import parse_config
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.networks.groups import cut
from vemcompress.training.stepper import Stepper
from vemcompress.training.update import Optimizer

CPU = torch.device("cpu")
SMALL = {"discriminator": PatchGANConfig(width=2, layers=2)}
PLACES = ("down2", "block1", "block2", "block3")


def method(name: str, add_on: str = "none", *, paired: bool = False, adversary=None, **settings):
    """With the published weights, but for those that are given."""
    teacher, student = toy_teacher("resnet"), toy_teacher("mobile_resnet", 1)
    adversary = Adversary.Settings(**SMALL, **(adversary or {}))
    chosen = ALGORITHMS[name].Settings(adversary=adversary, **settings)
    facts = Facts("mine", teacher=teacher, student=student, images=4, size=32, batch=2, steps=4, paired=paired)
    chosen = ALGORITHMS[name].resolve(chosen, facts)
    torch.manual_seed(3)
    information = INFORMATION[add_on].Settings(**ADD_ONS[add_on])
    parts = Parts(
        teacher=Frozen(teacher),
        student=student,
        information=build_information(information, image_channels=3, height=32, width=32),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
        paired=paired,
    )
    return ALGORITHMS[name](chosen, parts).train()


def batch(step: int = 0, *, paired: bool = False) -> Batch:
    x, t, r = torch.rand(3, 2, 3, 32, 32, generator=random(step)) * 2 - 1
    return Batch(x, target=t) if paired else Batch(x, real=r)


def naive_alignment(t: Tensor, s: Tensor) -> Tensor:
    """Eq. 23, element by element."""
    kernels = [[[(x[i] * x[j]).sum() for j in range(len(x))] for i in range(len(x))] for x in (t, s)]
    kt, ks = (torch.stack([torch.stack(row) for row in kernel]) for kernel in kernels)
    return (kt * ks).sum() / (kt.square().sum().sqrt() * ks.square().sum().sqrt())


def published_steps(algorithm, batches: list[Batch], *, paired: bool) -> list[dict[str, float]]:
    """The original's steps, written out: losses of the student and of its discriminator; both networks move."""
    name, weights = algorithm.settings.name, algorithm.settings
    teacher, student, judge = (
        deepcopy(m) for m in (algorithm.teacher.generator, algorithm.student, algorithm.adversary.discriminator)
    )
    connectors = deepcopy(algorithm.connectors)
    of_student = torch.optim.Adam([*student.parameters(), *connectors.parameters()], 2e-4, (0.5, 0.999))
    of_judge = torch.optim.Adam(judge.parameters(), 2e-4, (0.5, 0.999))
    hinge = algorithm.settings.adversary.mode == "hinge"

    def step(one: Batch) -> dict[str, float]:
        with torch.no_grad():
            lesson, maps = teacher.forward_with_taps(one.input, PLACES)
        image, mine = student.forward_with_taps(one.input, PLACES)
        target = one.target if paired else lesson
        real = one.target if paired else one.real
        see = (lambda y: torch.cat((one.input, y), 1)) if paired else (lambda y: y)

        def judged() -> Tensor:
            fake, true = judge(see(image.detach())), judge(see(real))
            if hinge:
                return 0.5 * (F.relu(1 + fake).mean() + F.relu(1 - true).mean())
            return 0.5 * (fake.square().mean() + (true - 1).square().mean())

        def learnt() -> dict[str, Tensor]:
            score = judge(see(image))
            terms = {"gan": -score.mean() if hinge else (score - 1).square().mean()}
            terms["recon"] = weights.recon * (image - target).abs().mean()
            if name == "cat":
                terms["distill"] = -weights.distill * sum(naive_alignment(maps[p], mine[p]) for p in PLACES)
            else:
                pairs = zip(connectors, PLACES, strict=True)
                terms["distill"] = weights.distill * sum((f(mine[p]) - maps[p]).square().mean() for f, p in pairs)
            return terms

        def step_judge(loss: Tensor) -> None:
            of_judge.zero_grad()
            loss.backward(inputs=list(judge.parameters()))
            of_judge.step()

        of_d = judged()
        if name == "cat":
            step_judge(of_d)  # the student then learns from the new one
        terms = learnt()
        of_student.zero_grad()
        sum(terms.values()).backward(inputs=[*student.parameters(), *connectors.parameters()])
        if name != "cat":
            step_judge(of_d)
        of_student.step()
        return {key: value.item() for key, value in terms.items()} | {"d": of_d.item()}

    return [step(one) for one in batches]


@pytest.mark.parametrize("paired", [False, True], ids=["unaligned", "aligned"])
@pytest.mark.parametrize("name", ["gan_compression", "cat"])
def test_whole_steps_are_those_of_the_original(name, paired):
    algorithm = method(name, paired=paired)
    batches = [batch(step, paired=paired) for step in range(4)]
    expected = published_steps(algorithm, batches, paired=paired)
    stepper = Stepper(algorithm, recipes.TrainSettings(steps=8, batch=2), CPU, 10)
    for step, (one, wanted) in enumerate(zip(batches, expected, strict=True), start=1):
        found = {key: value.item() for key, value in stepper(one, step).items()}
        found["d"] = found.pop("adversary_fake") + found.pop("adversary_real")
        assert found == pytest.approx(wanted, rel=2e-5, abs=1e-7), step


@pytest.mark.parametrize(
    ("name", "paired", "recon", "distill", "mode", "width"),
    [
        ("gan_compression", False, 10, 0.01, "lsgan", 64),
        ("gan_compression", True, 100, 1, "hinge", 128),
        ("cat", False, 5, 1, "lsgan", 64),
        ("cat", True, 100, 0.5, "hinge", 128),
    ],
)
def test_what_a_recipe_leaves_open_is_what_was_published(name, paired, recon, distill, mode, width):
    network = toy_teacher()
    facts = Facts("mine", teacher=network, student=network, images=4, size=128, batch=2, steps=4, paired=paired)
    found = ALGORITHMS[name].resolve(ALGORITHMS[name].Settings(), facts)
    assert (found.recon, found.distill) == (recon, distill)
    assert (found.adversary.mode, found.adversary.discriminator) == (mode, PatchGANConfig(width=width))
    stated = Adversary.Settings(mode="vanilla", discriminator=PatchGANConfig(width=4))
    found = ALGORITHMS[name].resolve(ALGORITHMS[name].Settings(recon=3, adversary=stated), facts)
    assert found.recon == 3 and found.adversary == stated


@pytest.mark.parametrize("add_on", ADD_ONS)
@pytest.mark.parametrize(
    "options", [{"space": "auto"}, {"space": [[4, 3]]}, {}], ids=["supernet", "listed", "one shape"]
)
def test_every_add_on_fits_a_supernet_and_one_shape(add_on, options):
    algorithm = method("gan_compression", add_on, **options)
    stepper = Stepper(algorithm, recipes.TrainSettings(steps=4, batch=2), CPU, 10)
    losses = stepper(batch(), 1)
    assert {"recon", "distill", "gan"} <= losses.keys() and ("information" in losses) == (add_on != "none")


def test_a_supernets_step_is_that_of_the_sub_network_that_was_drawn():
    algorithm = method("gan_compression", space="auto")
    draw = random(5)
    out = algorithm(batch(), draw)
    widths = {name: tap.shape[1] for name, tap in out.student_taps.items()}
    assert widths["down2"] in (16, 12, 8, 4)
    entries = algorithm.space.draw(Random(random(5).initial_seed()))
    small = cut(algorithm.student, algorithm.space.widths(entries))
    assert torch.allclose(small(batch().input), out.student, atol=1e-6)
    terms = algorithm.student_terms(out)
    narrow = nn.Conv2d(widths["down2"], 16, 1)
    narrow.weight.data = algorithm.connectors[0].weight.data[:, : widths["down2"]]
    narrow.bias.data = algorithm.connectors[0].bias.data
    first = F.mse_loss(narrow(out.student_taps["down2"]), out.teacher_taps["down2"])
    assert algorithm.distances(out)[0].item() == pytest.approx(first.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(sum(terms.values()), algorithm.student.head.weight)
    kept = small.config.widths[-1]
    assert gradient[:, :kept].abs().sum() > 0 and not gradient[:, kept:].any()


def test_a_supernet_is_not_compiled_anew_for_each_shape():
    algorithm, graphs = method("gan_compression", space="auto"), []
    compiled = torch.compile(
        algorithm.student.forward_with_taps, backend=lambda graph, _: graphs.append(graph) or graph
    )
    algorithm.student.forward_with_taps = compiled
    algorithm(batch(), random(5))
    assert not graphs


def test_widths_are_drawn_anew_at_each_step_and_alike_for_one_seed():
    def widths(seed: int) -> list[int]:
        algorithm = method("gan_compression", space="auto")
        stepper = Stepper(algorithm, recipes.TrainSettings(steps=12, batch=2, seed=seed), CPU, 10)
        return [algorithm(batch(), stepper.random(step)).student_taps["down2"].shape[1] for step in range(1, 11)]

    assert widths(0) == widths(0) != widths(1)
    assert {16, 12, 8, 4} >= set(widths(0)) and len(set(widths(0))) > 2


def test_alignment_has_the_hand_number_and_is_one_for_one_image():
    t, s = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0], [1.0]])
    hand = (1 + 4) / ((1 + 16) ** 0.5 * 2.0)
    assert kernel_alignment(t[..., None, None], s[..., None, None]).item() == pytest.approx(hand)
    maps = torch.randn(3, 4, 5, 5), torch.randn(3, 2, 5, 5)
    assert kernel_alignment(*maps).item() == pytest.approx(naive_alignment(*maps).item(), rel=1e-5)
    student = torch.randn(1, 2, 5, 5, requires_grad=True)
    alone = kernel_alignment(torch.randn(1, 4, 5, 5), student)
    assert alone.item() == pytest.approx(1)
    assert torch.autograd.grad(alone, student)[0].abs().max() < 1e-6


@pytest.mark.parametrize(
    ("name", "settings", "facts", "message"),
    [
        ("cat", {}, {"batch": 1}, "train.batch 1 gives a process a single image.*always 1.*at least 2"),
        (
            "cat",
            {"distill": 1},
            {"student": "unet"},
            "the feature maps of a unet student do not match .* set algorithm.distill=0",
        ),
        (
            "gan_compression",
            {"distill": 1},
            {"student": "unet"},
            "the feature maps of a unet student do not match .* set algorithm.distill=0",
        ),
        ("gan_compression", {"space": "channels-32"}, {}, "widths of stem must be from 1 to 4"),
        ("gan_compression", {"space": "channels-31"}, {}, "no set of widths is named 'channels-31'"),
        ("gan_compression", {"space": ((4, 2),) * 3}, {}, "3 lists of widths, but this resnet has 8 genes"),
    ],
)
def test_what_a_method_cannot_do_is_refused_in_a_sentence(name, settings, facts, message):
    given = {"teacher": toy_teacher(), "student": toy_teacher(), "images": 4, "size": 128, "batch": 2, "steps": 4}
    given |= {name: toy_teacher("unet", width=2) if value == "unet" else value for name, value in facts.items()}
    with pytest.raises(RecipeError, match=f"recipe mine: .*{message}"):
        ALGORITHMS[name].resolve(ALGORITHMS[name].Settings(**settings), Facts("mine", **given))


# Billions of MACs with the norms' outputs, and millions of parameters (GAN-Compression's own count; * to the digit).
SUB_NETWORKS = {
    "24_24_24_32_20_16": (2.670, 0.3416),
    "16_16_32_16_32_32_16_16": (2.546, 0.3569),
    "16_16_24_16_32_64_16_24": (2.641, 0.3552),
    "32_32_48_32_48_48_16_16": (4.993843200, 0.8221),
    "24_24_40_56_24_56_16_40": (4.863, 0.7028),
    "32_32_48_32_32_48_24_24": (5.592, 0.7808),
    "16_16_32_16_16_64_16_24": (2.984771584, None),
    "16_16_16_48_64_64_24_16": (2.597322752, None),
    "16_24_48_56_40_48_24_16": (5.451, 0.886),
    "16_16_40_40_40_64_24_16": (4.570, 0.720),
    "legacy 32_32_40_48_16_32": (4.809, 0.700),
    "48_32_40_40_24_32": (5.665, 0.707),
}


def digits(value: float, like: float) -> float:
    return round(value, len(str(like).partition(".")[2]))


@pytest.mark.parametrize("name", SUB_NETWORKS)
def test_published_sub_networks_cost_what_was_published(name):
    macs, parameters = SUB_NETWORKS[name]
    legacy, _, channels = name.rpartition(" ")
    config = parse_config({"family": "mobile_resnet", "channels": channels, "legacy": bool(legacy)})
    cost = config.cost(256, 256)
    assert digits(cost.paper_norm / 1e9, macs) == macs
    assert parameters is None or digits(cost.parameters / 1e6, parameters) == parameters


def test_cats_teacher_costs_what_was_published():
    cost = parse_config({"family": "inception_resnet", "width": 64}).cost(256, 256)
    assert round(cost.paper_norm / 1e9, 3) == 43.527 and round(cost.parameters / 1e6, 3) == 8.154


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": "16_16"}, "2 entries; give 6, or 8"),
        ({"channels": "16_16_x_16_16_16"}, "whole numbers with"),
        ({"channels": "16_16_32_16_32_32_16_16", "width": 16}, "excludes width"),
        ({"channels": "16_16_32_16_32_32_16_16", "legacy": True}, "legacy form has 6"),
        ({"channels": "16_16_32_16_32_32_16_16", "blocks": [4, 4]}, "blocks must be the number of blocks"),
    ],
)
def test_channels_that_are_no_sub_network_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        parse_config({"family": "mobile_resnet", **values})
