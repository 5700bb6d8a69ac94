"""AutoGAN-Distiller: the supernet and what is derived from it, the losses, the search, the whole pipeline."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_networks import counted
from test_reference import trunk
from toys import ADD_ONS, TOY, logged, random, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Facts, Parts
from vemcompress.commands.distill import distill
from vemcompress.console.talk import Talk
from vemcompress.data.batch import Batch
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.gans.teachers import Frozen
from vemcompress.information import INFORMATION, build_information
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import count_parameters, init_weights
from vemcompress.networks.generators.agd import OPERATORS
from vemcompress.networks.generators.agd_supernet import share_of, straight_through
from vemcompress.training.stepper import Stepper
from vemcompress.training.update import Optimizer
from vemcompress.weights.loading import load

CPU = torch.device("cpu")
WIDTHS = (2, 4, 8, 13, 16, 11, 5, 2)  # of a supernet of width 4 with three cells: no two neighbours within are alike
UNEVEN = {
    "family": "agd",
    "stem": [3, 5, 6],
    "cells": [4, 7, 7, 6],
    "operators": list(OPERATORS),
    "header": [5, 3],
    "in_channels": 1,
}


def supernet(width: int = 4, seed: int = 0):
    torch.manual_seed(seed)
    return build_generator(parse_config({"family": "agd_supernet", "width": width, "cells": 3}))


def images(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=random(seed)) * 2 - 1


def agd(student=None, add_on: str = "none", *, features=None, steps: int = 8, lr: float = 1e-3, **settings):
    """With weights of 1 where nothing else is said."""
    teacher, student = toy_teacher("resnet"), student or supernet()
    given = {"features": "vgg16" if features else "none"} | ({"style": 1.0, "content": 1.0} if features else {})
    chosen = ALGORITHMS["agd"].Settings(**given | settings)
    facts = Facts("mine", teacher=teacher, student=student, images=4, size=32, batch=2, steps=steps)
    chosen = ALGORITHMS["agd"].resolve(chosen, facts)
    torch.manual_seed(3)
    information = INFORMATION[add_on].Settings(**ADD_ONS[add_on])
    parts = Parts(
        teacher=Frozen(teacher),
        student=student,
        information=build_information(information, image_channels=3, height=32, width=32),
        optimizer=Optimizer(lr, (0.5, 0.999)),
        features=features,
    )
    return ALGORITHMS["agd"](chosen, parts).train()


def batch(seed: int = 0) -> Batch:
    return Batch(images(seed=seed), second=Batch(images(seed=seed + 100)), index=torch.arange(2))


def architecture(algorithm) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in algorithm.student.architecture.parameters()])


# -- the networks ----------------------------------------------------------------------------------------------------


def test_widths_are_the_published_ones_and_small_ones_are_only_rounded():
    options = parse_config({"family": "agd_supernet"}).options
    assert len(options) == 14
    assert options[0] == options[-1] == (24, 32, 40, 56, 64)
    assert options[1] == options[-2] == (40, 64, 88, 104, 128)
    assert set(options[2:-2]) == {(88, 128, 168, 216, 256)}
    assert [share_of(4, r / 12) for r in (4, 6, 8, 10, 12)] == [1, 2, 3, 3, 4]
    assert share_of(1, 4 / 12) == 1 and share_of(36, 1.0) == 36


def test_the_macs_of_the_supernet_are_those_of_the_published_count():
    cost = parse_config({"family": "agd_supernet"}).cost(256, 256)
    assert round(cost.paper / 1e9, 3) == 29.997
    net = supernet(12)
    x, full = torch.randn(1, 3, 32, 48), tuple(of[-1] for of in net.config.options)
    cost, found = net.config.cost(32, 48), counted(net, lambda: net.passed(x, full))
    assert (cost.true, cost.norm) == (found["true"], found["norm"])
    assert cost.parameters == count_parameters(net)


def test_the_macs_of_a_derived_network_are_those_of_its_layers_and_in_the_paper_column_agds_own():
    shape = parse_config(UNEVEN)
    network = build_generator(shape)
    cost, found = shape.cost(32, 48), counted(network, lambda: network(torch.randn(1, 1, 32, 48)))
    assert (cost.true, cost.norm, cost.parameters) == (found["true"], found["norm"], count_parameters(network))
    cell = 8 * 12
    skip, conv, residual = 6 * 4, 4 * 7 * 9, 2 * 7 * 7 * 9
    dwsblock = 7 * 28 + 9 * 28 + 28 * 6 + 7 * 6  # widths differ, so that its shortcut is a convolution
    stem = 16 * 49 * 3 + 4 * 9 * 3 * 5 + 9 * 5 * 6
    header = 4 * 9 * 6 * 5 + 9 * 5 * 3 + 49 * 3 * 3 / 16  # on ever smaller maps
    assert cost.paper == int(cell * (stem + skip + conv + residual + dwsblock + header))


@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_are_the_published_layers(kind):
    torch.manual_seed(0)
    cell = build_generator(parse_config(UNEVEN | {"operators": kind, "cells": [4]})).cells[0]
    x = torch.randn(2, 6, 8, 8)

    def normed(layer, y, **options):
        return F.instance_norm(F.conv2d(y, layer.conv.weight, **options))

    match kind:
        case "skip":
            wanted = normed(cell, x).relu()
        case "conv3x3":
            wanted = normed(cell, x, padding=1).relu()
        case "residual":
            inside = normed(cell.conv2, normed(cell.conv1, x, padding=1).relu(), padding=1)
            wanted = (inside + normed(cell.shortcut, x)).relu()
        case "dwsblock":
            inside = normed(cell.depthwise, normed(cell.expand, x).relu(), padding=1, groups=24).relu()
            wanted = (normed(cell.project, inside) + normed(cell.shortcut, x)).relu()
    assert torch.allclose(cell(x), wanted, atol=1e-5)
    assert all(layer.bias is None for layer in cell.modules() if isinstance(layer, torch.nn.Conv2d))


@pytest.mark.parametrize("kind", ["residual", "dwsblock"])
def test_a_derived_cell_of_equal_widths_adds_its_input_as_it_is(kind):
    cell = build_generator(parse_config(UNEVEN | {"operators": kind, "cells": [6]})).cells[0]
    assert cell.shortcut is None


@pytest.mark.parametrize("kind", ["skip", "conv3x3", "residual"])
def test_the_derived_network_gives_the_images_of_the_supernet_at_its_widths_and_operators(kind):
    net = supernet()
    with torch.no_grad():
        net.architecture.alpha[:, OPERATORS.index(kind)] = 100.0  # the others weigh nothing
        for ratios, width, options in zip(_rows(net), WIDTHS, net.config.options, strict=True):
            ratios[options.index(width)] = 1.0
    small, x = net.deployed(), images()
    assert small.config.widths_by_group() == dict(zip(small.config.widths_by_group(), WIDTHS, strict=True))
    assert small.config.operators == (kind,) * 3
    assert torch.allclose(small(x), net.passed(x, WIDTHS), atol=1e-5)
    assert torch.equal(small(x), net(x))
    assert torch.equal(small.head.weight, net.head.weight[:, :2])


def _rows(net) -> list[torch.Tensor]:
    found = net.architecture
    return [*found.ratio_sh[:3], *found.ratio, *found.ratio_sh[3:]]


def test_a_derived_dwsblock_has_four_times_its_own_inputs():
    net = supernet()
    with torch.no_grad():
        net.architecture.alpha[:, 3] = 1.0
    cell = net.deployed().cells[0]
    assert cell.expand.conv.weight.shape == (4 * 5, 5, 1, 1)
    own = net.cells[0]["dwsblock"]
    assert own.expand.conv.weight.shape == (4 * 16, 16, 1, 1)
    assert torch.equal(cell.depthwise.conv.weight, own.depthwise.conv.weight[:20])
    assert own(torch.randn(1, 5, 8, 8), 8).shape == (1, 8, 8, 8)  # in the search it is 4 x 16 wide inside


def test_the_supernet_adds_the_operators_by_their_weights():
    net, x = supernet(), torch.randn(2, 16, 8, 8)
    weights, cell = torch.tensor([0.1, 0.2, 0.3, 0.4]), net.cells[1]
    wanted = sum(w * cell[kind](x, 12) for w, kind in zip(weights, OPERATORS, strict=True))
    assert torch.allclose(cell(x, 12, weights), wanted)


def test_initial_weights_are_pytorchs():
    net = supernet()
    before = net.stem[0].conv.weight.clone()
    init_weights(net)
    assert torch.equal(net.stem[0].conv.weight, before)


# -- widths that are drawn -------------------------------------------------------------------------------------------


def test_a_drawn_entry_is_one_and_has_the_gradient_of_the_soft_one():
    logits = torch.tensor([[0.3, -0.2, 1.0], [0.0, 0.0, 0.0]], requires_grad=True)
    index, entries = straight_through(logits, random(4))
    noise = -torch.log(-torch.log(torch.rand(2, 3, generator=random(4))))
    soft = torch.softmax(torch.log_softmax(logits, -1) + noise, -1)
    assert index.tolist() == soft.argmax(-1).tolist()
    assert entries.tolist() == [1.0, 1.0]
    wanted = torch.autograd.grad(soft.gather(-1, index[:, None]).sum(), logits)[0]
    assert torch.allclose(torch.autograd.grad(entries.sum(), logits)[0], wanted, atol=1e-6)


def test_widths_are_drawn_by_the_architecture_and_alike_for_one_generator():
    net = supernet()
    with torch.no_grad():
        net.architecture.ratio[1, 4] = 50.0
    found = [net.sample(random(seed))[0] for seed in range(20)]
    assert found[0] == net.sample(random(0))[0]
    assert {widths[4] for widths in found} == {16}
    assert {widths[5] for widths in found} > {5, 16}


def test_a_gradient_of_the_image_reaches_the_widths_and_the_operators():
    net, found = supernet(), supernet().architecture
    widths, entries = net.sample(random(1))
    image = net.passed(images(), widths, entries)
    assert torch.equal(image, net.passed(images(), widths))
    found = torch.autograd.grad(image.square().sum(), list(net.architecture.parameters()))
    assert all(gradient.abs().sum(-1).min() > 0 for gradient in found)


def test_the_count_of_macs_has_the_hand_number_and_its_gradients():
    net = supernet()
    full = tuple(of[-1] for of in net.config.options)
    outer, cells = net.config.counts(full, 32, 32)
    with torch.no_grad():
        net.architecture.alpha[0] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    share = torch.softmax(torch.tensor([0.1, 0.2, 0.3, 0.4]), -1).tolist()
    count = sum(cost.paper for cost in outer)
    first = sum(s * cost.paper for s, cost in zip(share, cells[0], strict=True))
    others = sum(cost.paper / 4 for kinds in cells[1:] for cost in kinds)
    mixed = net.macs(32, 32, full, mixed=True)
    assert mixed.item() == pytest.approx(count + first + others, rel=1e-6)
    gradient = torch.autograd.grad(mixed, net.architecture.alpha)[0]
    assert gradient[0].argmax() == 2 and gradient[0].argmin() == 0  # residual costs most, skip least
    widths, entries = net.sample(random(1))
    drawn = net.macs(32, 32, widths, entries, mixed=False)
    assert drawn.item() == pytest.approx(net.macs(32, 32, widths, mixed=False).item())
    (gradient,) = torch.autograd.grad(drawn, entries)
    outer, cells = net.config.counts(widths, 32, 32)
    layers = [*outer[:3], *cells, *outer[3:]]
    layers = [x.paper if hasattr(x, "paper") else sum(cost.paper for cost in x) / 4 for x in layers]
    assert gradient.tolist() == pytest.approx([a + b for a, b in pairwise(layers)], rel=1e-5)


# -- the losses and the steps ----------------------------------------------------------------------------------------


def hand_terms(network, teacher, shown, settings) -> dict[str, float]:
    """The published loss, summed over the images that are `shown`."""
    found = dict.fromkeys(("recon", "style", "content", "tv"), 0.0)
    for image in shown:
        theirs, mine = network(teacher), network(image)
        found["recon"] += settings.recon * (image - teacher).abs().mean()
        for a, b in zip(theirs, mine, strict=True):
            c, h, w = a.shape[1:]
            ga, gb = (torch.einsum("bihw,bjhw->bij", m, m) / (c * h * w) for m in (a, b))
            found["style"] += settings.style * (ga - gb).square().mean()
        found["content"] += settings.content * (mine[1] - theirs[1]).abs().mean()
        steps = image[..., 1:] - image[..., :-1], image[:, :, 1:] - image[:, :, :-1]
        found["tv"] += settings.tv * sum(step.abs().sum() for step in steps)
    return {name: value.item() for name, value in found.items()}


WEIGHTS = {"recon": 0.5, "style": 3.0, "content": 0.7, "tv": 1e-3}


def test_the_terms_of_one_shape_are_the_weighted_distances():
    network = trunk()
    algorithm = agd(build_generator(parse_config(UNEVEN | {"in_channels": 3})), features=network, **WEIGHTS)
    out = algorithm(batch(), random())
    found = {name: term.item() for name, term in algorithm.student_terms(out).items()}
    assert found == pytest.approx(hand_terms(network, out.teacher, [out.student], algorithm.settings), rel=1e-4)


def test_the_terms_of_a_supernet_are_sums_over_its_passes():
    network = trunk()
    algorithm = agd(features=network, **WEIGHTS)
    net, options, one = algorithm.student, algorithm.student.config.options, batch()
    widest, narrowest = (tuple(of[i] for of in options) for i in (-1, 0))
    out = algorithm(one, random(5), 5)  # of eight steps, four pre-train
    shown = [net.passed(one.input, widths) for widths in (net.sample(random(5))[0], widest, narrowest)]
    assert torch.equal(out.student, shown[0])
    found = {name: term.item() for name, term in algorithm.student_terms(out).items()}
    assert found == pytest.approx(hand_terms(network, out.teacher, shown, algorithm.settings), rel=1e-4)
    out = algorithm(one, random(5), 4)
    assert torch.equal(out.student, net.passed(one.input, widest)) and len(out.own) == 3
    assert torch.equal(out.own[0], net.passed(one.input, narrowest))
    assert not torch.equal(out.own[1], out.own[2])


def test_the_terms_of_the_architecture_are_of_the_second_batch_and_count_macs():
    network = trunk()
    algorithm = agd(features=network, macs_weight=1e-6, **WEIGHTS)
    net, one = algorithm.student, batch()
    out = algorithm(one, random(5), 5)
    terms = algorithm.architecture_terms(replace(out, random=random(9)))
    widest, narrowest = (tuple(of[i] for of in net.config.options) for i in (-1, 0))
    again, second = random(9), one.second.input
    shown = [net.passed(second, widths) for widths in (net.sample(again)[0], widest, narrowest)]
    hand = hand_terms(network, algorithm.teacher.generator(second), shown, algorithm.settings)
    mixed, drawn = net.macs(32, 32, widest, mixed=True), net.macs(32, 32, *net.sample(again), mixed=False)
    hand["macs"] = 1e-6 * (0.25 * mixed + 0.75 * drawn).item()
    found = {name.removeprefix("architecture_"): term.item() for name, term in terms.items()}
    assert found == pytest.approx(hand, rel=1e-4)


@pytest.mark.parametrize("add_on", ADD_ONS)
def test_weights_learn_at_each_step_and_the_architecture_before_those_of_the_search(add_on):
    algorithm = agd(add_on=add_on)
    stepper = Stepper(algorithm, recipes.TrainSettings(steps=8, batch=2), CPU, 10)
    moved, named = [], []
    for step in range(1, 9):
        before, weight = architecture(algorithm), algorithm.student.head.weight.detach().clone()
        losses = stepper(batch(step), step)
        moved.append(not torch.equal(architecture(algorithm), before))
        named.append("information" in losses)
        assert not torch.equal(algorithm.student.head.weight, weight)
    assert moved == [False] * 3 + [True] * 4 + [False]
    assert set(named) == {add_on != "none"}
    assert "student/student.architecture.alpha/step" not in stepper.runner.state()


def test_each_phase_has_a_schedule_of_its_own_and_the_architecture_a_constant_rate():
    algorithm = agd(pretrain_steps=3)
    assert [algorithm.clock(step, 8) for step in (1, 3, 4, 8)] == [(1, 3), (3, 3), (1, 5), (5, 5)]
    update = algorithm.late_updates()[0]
    assert (update.optimizer.lr, update.optimizer.betas) == (3e-4, (0.5, 0.999))
    assert update.optimizer.schedule(8, 8) == 1.0 and update.optimizer.clip == 0
    student = next(u for u in algorithm.updates() if u.name == "student")
    assert (student.optimizer.kind, student.optimizer.clip) == ("adam", 5.0)


def test_the_final_training_has_the_published_optimiser_and_no_search():
    algorithm = agd(build_generator(parse_config({"family": "agd", "width": 4, "cells": 2})), lr=0.1)
    (student,) = algorithm.updates()
    optimizer = student.optimizer
    assert (optimizer.kind, optimizer.lr, optimizer.momentum) == ("sgd", 0.1, 0.5)
    assert (optimizer.weight_decay, optimizer.clip) == (5e-4, 5.0)
    assert not algorithm.second and not algorithm.finishes(4) and "macs_weight" not in algorithm.companions()


@pytest.mark.parametrize(("least", "most", "factor"), [(1, 2, 2.0), (10**9, 10**9, 0.5), (1, 10**9, 1.0)])
def test_the_counts_weight_follows_the_macs_of_the_network_that_is_found(least, most, factor):
    algorithm = agd(macs_weight=1e-17, macs_least=least, macs_most=most, macs_every=2)
    algorithm(batch(), random(), 5)
    assert [step for step in range(1, 9) if algorithm.finishes(step)] == [6, 8]
    event = algorithm.finish(6)
    assert algorithm.companions()["macs_weight"][0].weight.item() == pytest.approx(factor * 1e-17)
    assert event["macs"] == algorithm.student.deployed().config.cost(32, 32).paper
    assert event["weight"] == pytest.approx(factor * 1e-17)


def test_a_heavy_count_makes_the_widths_narrow_and_the_operators_cheap():
    algorithm = agd(pretrain_steps=0, macs_weight=1.0, arch_lr=0.1, recon=1e-6, steps=40)
    stepper = Stepper(algorithm, recipes.TrainSettings(steps=40, batch=2), CPU, 10)
    for step in range(1, 41):
        stepper(batch(step), step)
    found = algorithm.student.derived()
    assert set(found.operators) == {"skip"}
    assert found.cost(32, 32).paper < 0.5 * algorithm.student.config.product().cost(32, 32).paper


def test_what_a_recipe_leaves_open_is_what_was_published():
    def resolved(student, **settings):
        facts = Facts("mine", toy_teacher(), student, images=4, size=256, batch=2, steps=100)
        return ALGORITHMS["agd"].resolve(ALGORITHMS["agd"].Settings(**settings), facts)

    def empty(config):
        with torch.device("meta"):
            return build_generator(parse_config(config))

    found = resolved(empty({"family": "agd_supernet"}))
    assert (found.recon, found.style, found.content, found.tv, found.rule) == (0, 1e5, 1, 0, "adam")
    assert (found.macs_least, found.macs_most, found.pretrain_steps, found.macs_every) == (3 * 10**9, 8 * 10**9, 50, 2)
    assert found.macs_weight == 1e-17
    found = resolved(empty(UNEVEN))
    assert (found.recon, found.style, found.content, found.rule) == (0.01, 1e5, 1, "sgd")
    assert resolved(empty(UNEVEN), features="squeezenet1_1_caffe").style is None
    assert resolved(empty(UNEVEN), features="none").recon == 1
    with pytest.raises(RecipeError, match="pretrain_steps 100 leaves none of the 100 steps"):
        resolved(empty({"family": "agd_supernet"}), pretrain_steps=100)
    with pytest.raises(RecipeError, match="all weights are 0"):
        resolved(empty(UNEVEN), features="none", recon=0.0)
    with pytest.raises(RecipeError, match="leaves style, content and features_weights unused"):
        resolved(empty(UNEVEN), features="none", style=1.0)


def test_weights_for_other_features_give_a_blank_student_the_same_terms():
    network, kind = trunk(), ALGORITHMS["agd"]
    shown = images(4)
    found = kind.calibrate(kind.Settings(features="squeezenet1_1_caffe"), network, shown)
    maps = network(shown)
    grams = [torch.einsum("bihw,bjhw->bij", m, m) / m[0].numel() for m in maps]
    assert found.style * sum(g.square().mean() for g in grams).item() == pytest.approx(0.4, rel=1e-3)
    assert found.content * maps[1].abs().mean().item() == pytest.approx(0.6, rel=1e-3)
    assert kind.calibrate(kind.Settings(style=2.0, content=3.0), network, shown).style == 2.0


# -- whole runs ------------------------------------------------------------------------------------------------------

SHORT = [o for o in TOY if not o.startswith("student.") and not o.startswith("train.steps")]
SHORT += ["train.batch=2", "stages.search.student.width=3", "stages.search.student.cells=2"]
SHORT += ["stages.search.train.steps=8", "stages.train.train.steps=3", "algorithm.macs_every=2"]


def run(inputs, out, **options):
    teacher, data = inputs
    return distill(teacher, data=data, out=out, recipe="agd", overrides=SHORT, device="cpu", **options)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "x"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    events = []
    result = run(inputs, out, on_event=events.append)
    torch.set_num_threads(threads)
    return out, result, events


def test_the_search_gives_the_small_network_and_the_training_begins_it_anew(whole):
    out, result, events = whole
    found, trained = (load(out / stage).generator.config for stage in ("1-search", "2-train"))
    assert found.family == "agd" and found == trained
    assert result.student == str(out / "student.safetensors")
    files = {path.name for path in (out / "1-search" / "checkpoints" / "step-000008").iterdir()}
    assert {"student.safetensors", "student_training.safetensors", "macs_weight.safetensors"} <= files
    state = load_file(out / "1-search" / "checkpoints" / "step-000008" / "student_training.safetensors")
    assert "architecture.alpha" in state and "cells.1.dwsblock.depthwise.conv.weight" in state
    told = [event for event in events if event["event"] == "architecture"]
    assert [event["step"] for event in told] == [6, 8]
    assert told[-1]["macs"] == found.cost(32, 32).paper
    last = logged(out / "1-search")[-2]
    assert {"recon", "architecture_recon", "architecture_macs", "information"} <= last.keys()


def test_what_is_found_is_told(capsys):
    with Talk().talking() as on_event:
        found = {"operators": ["skip", "skip", "residual"], "macs": 12e6, "weight": 2e-17}
        on_event({"event": "architecture", "step": 8, **found})
    told = capsys.readouterr().err
    assert "step 8: 12 M MACs as the method counts them, cells 2 skip, 1 residual; weight of the MACs 2e-17" in told


@pytest.mark.parametrize("how", ["train.precision=bf16", "algorithm.ema=0.5", "information.name=crd"])
def test_a_search_runs_in_half_precision_with_an_average_and_with_a_memory(inputs, tmp_path, how):
    overrides = [o for o in SHORT if "crd" not in how or not o.startswith("information.")]
    teacher, data = inputs
    result = distill(
        teacher, data=data, out=tmp_path / "x", recipe="agd", overrides=[*overrides, how], until="search", device="cpu"
    )
    assert load(result.student).generator.family == "agd"


def test_a_search_that_was_stopped_ends_as_an_unbroken_one(inputs, whole, tmp_path, one_thread):
    from test_pipelines import stopping_in

    with pytest.raises(Interrupted):
        run(inputs, tmp_path / "x", on_event=stopping_in("search", 7, []))
    distill(resume=tmp_path / "x", device="cpu")
    for name in ("1-search/metrics.jsonl", "1-search/student.safetensors", "2-train/student.safetensors"):
        assert (tmp_path / "x" / name).read_bytes() == (whole[0] / name).read_bytes(), name
    step = "checkpoints/step-000008"
    for name in ("student_training", "macs_weight", "optimizers"):
        path = f"1-search/{step}/{name}.safetensors"
        assert (tmp_path / "x" / path).read_bytes() == (whole[0] / path).read_bytes(), name


def test_what_the_training_gives_is_exported(call, whole, tmp_path):
    code, _, told = call("export", whole[0], "--onnx", tmp_path / "small.onnx")
    assert code == 0, told
    code, printed, _ = call("inspect", whole[0], "--json")
    assert json.loads(printed)["family"] == "agd"


def test_a_teachers_cache_is_for_the_training_alone(inputs, tmp_path):
    with pytest.raises(RecipeError, match="this student needs two"):
        teacher, data = inputs
        overrides = [*SHORT, "train.teacher_cache=2"]
        distill(teacher, data=data, out=tmp_path / "x", recipe="agd", overrides=overrides, device="cpu")
