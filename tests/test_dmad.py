"""DMAD: masks that become 0 or 1 while a GAN is trained, and co-attention distillation of the pruned network."""

from copy import deepcopy

import pytest
import torch
from gans_toys import CPU, as_batch
from safetensors.torch import load_file
from teach_toys import RESNET, TRAIN, toy_data, toy_pairs
from toys import random, stop_after, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import Parts
from vemcompress.algorithms.dmad import DMAD
from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.errors import Interrupted, RecipeError
from vemcompress.gans import CycleGAN, Pix2Pix, Pix2PixTeachers
from vemcompress.gans.teachers import Held, Online
from vemcompress.information.base import Information
from vemcompress.losses.attention import co_attention, whole_norm
from vemcompress.networks.discriminators import PatchGANConfig, SharedPatchGANConfig
from vemcompress.networks.groups import cut
from vemcompress.pruning.dmad import GeneratorMasks, MaskSettings, mask
from vemcompress.pruning.masked_gan import MaskedGAN, check_masks
from vemcompress.pruning.zeros import Zeros
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer
from vemcompress.weights.loading import load

# -- the mask --------------------------------------------------------------------------------------------------------


def test_a_mask_is_two_parabolas_through_the_published_points():
    b = torch.tensor(0.8)
    w = torch.tensor([-1.0, -0.8, -0.4, 0.0, 0.4, 0.8, 1.0], requires_grad=True)
    found = mask(w, b)
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 0.125, 0.5, 0.875, 1.0, 1.0]))
    found.sum().backward()
    assert torch.allclose(w.grad, torch.tensor([0.0, 0.0, 0.625, 1.25, 0.625, 0.0, 0.0]))


def test_with_a_bound_of_0_it_is_0_or_1_and_learns_nothing():
    w = torch.tensor([-0.1, 0.0, 0.001], requires_grad=True)
    found = mask(w, torch.zeros(()))
    assert found.tolist() == [0, 0, 1]
    found.sum().backward()
    assert w.grad.tolist() == [0, 0, 0]


def test_below_0_005_the_parabolas_stay_wide_and_the_bound_still_cuts():
    found = mask(torch.tensor([-0.003, -0.001, 0.001, 0.003]), torch.tensor(0.002))
    assert torch.allclose(found, torch.tensor([0.0, 0.5 * 0.8**2, 1 - 0.5 * 0.8**2, 1.0]))


# -- a generator's masks ---------------------------------------------------------------------------------------------


def masks_of(family: str = "resnet", **settings) -> GeneratorMasks:
    network = toy_teacher(family).train()
    torch.manual_seed(1)
    return GeneratorMasks(network, MaskSettings(**settings))


def test_a_resnet_has_a_mask_behind_each_norm_and_the_image_feels_them():
    masks = masks_of()
    blocks = len(masks.generator.blocks)
    assert len(masks.layers) == 3 + 2 * blocks + 2  # stem, down1, down2; two a block; up1, up2
    x = torch.randn(1, 3, 32, 32)
    before = masks.generator(x)
    with torch.no_grad():
        masks.layers["stem_stem"][0] = -2.0
    after, kernel = masks.generator(x), masks.generator.down1.weight.detach().clone()
    assert not torch.allclose(before, after)
    with torch.no_grad():
        masks.generator.down1.weight[:, 0] = 0  # nothing reads it any more
    assert torch.allclose(masks.generator(x), after, atol=1e-6) and not torch.equal(kernel[:, 0], 0 * kernel[:, 0])


def test_a_unets_first_convolution_is_masked_and_its_innermost_one_stays_whole():
    masks = masks_of("unet")
    assert {"down1_downs_0", "down2_downs_1", "up1_ups_1"} <= masks.layers.keys()
    assert "down5_downs_4" not in masks.layers


def test_the_penalty_pushes_what_is_undecided_by_hand():
    masks = masks_of(bounded=("up2",), factor=100.0)
    w = {name: torch.full_like(layer, 2.0) for name, layer in masks.layers.items()}
    w["stem_stem"] = torch.tensor([0.25, -0.25, 0.75, -0.75])
    w["up2_up2"] = torch.tensor([0.2, -0.1, 2.0, 2.0])
    masks.bound.fill_(0.5)
    with torch.no_grad():
        for name, layer in masks.layers.items():
            layer.copy_(w[name])
    relu = (0.25 + 0.5) + (-0.25 + 0.5)
    bound = 100 * (0.3**2 + 0.4**2) ** 0.5
    assert masks.penalty().item() == pytest.approx(relu + bound, rel=1e-6)
    masks.penalty().backward()
    assert masks.layers["stem_stem"].grad.tolist() == [1, 1, 0, 0]


def test_a_trunk_channel_that_a_block_keeps_is_not_pushed_and_others_more_the_fewer_are_open():
    masks = masks_of()
    names = masks._groups["trunk"]
    assert len(names) == 4
    with torch.no_grad():
        rows = torch.tensor([[2.0, 0.1, -2.0, 0.1], [0.1, 0.1, -2.0, -2.0], [0.1, 0.1, -2.0, -2.0], [0.1, 0.1, -2, -2]])
        for name, row in zip(names, rows, strict=True):
            masks.layers[name].fill_(2.0)
            masks.layers[name][:4] = row
    masks.bound.fill_(1.0)
    masks._refresh()
    assert getattr(masks, f"factor_{names[0]}")[:4].tolist() == [0.0, 1.0, 0.0, 4.0]


@pytest.mark.parametrize("family", ["resnet", "unet"])
def test_lowering_the_bound_keeps_the_function_of_channels_that_become_whole(family):
    """With BatchNorm, whose scale takes the mask; an instance norm behind the convolution takes it back."""
    masks = masks_of(family)
    if family == "resnet":
        masks = GeneratorMasks(toy_teacher("resnet", norm="batch").train(), MaskSettings())
    network = masks.generator
    with torch.no_grad():
        for layer in masks.layers.values():
            layer.uniform_(0.3, 0.6, generator=random(3))
    x = torch.randn(2, 3, 32, 32)
    before = network(x)
    masks.lower(0.2, None, None)
    assert all(mask(layer, masks.bound).eq(1).all() for layer in masks.layers.values())
    assert torch.allclose(network(x), before, atol=1e-5)


def test_a_network_that_is_small_enough_is_decided_at_once():
    masks = masks_of()
    masks.bound.fill_(0.5)
    stem = masks.layers["stem_stem"]
    with torch.no_grad():
        stem.copy_(torch.tensor([0.6, 0.1, -0.4, -0.6]))
    assert masks.kept()["stem"] == 3
    masks.lower(0.4, macs=10, target=10)
    assert (masks.bound.item(), masks.is_decided, stem.tolist()) == (0.0, True, [1, 1, 1, -1])
    masks.lower(0.3, macs=10, target=10)
    assert masks.bound.item() == 0.0


def test_a_layer_of_which_too_much_is_gone_is_decided_as_a_whole():
    masks = masks_of(frozen=0.4)
    stem, up2 = masks.layers["stem_stem"], masks.layers["up2_up2"]
    with torch.no_grad():
        stem.copy_(torch.tensor([-0.9, -0.9, 0.1, -0.1]))
        up2.copy_(torch.tensor([-0.9, 0.3, 0.1, -0.1]))
    masks.lower(0.5, None, None)
    assert stem.tolist() == [-1, -1, 1, 1]
    assert up2.tolist() == pytest.approx([-0.9, 0.3, 0.1, -0.1])
    assert not masks.is_decided


@pytest.mark.parametrize("family", ["resnet", "mobile_resnet", "unet"])
def test_what_is_decided_can_be_cut_without_any_change(family):
    masks = masks_of(family)
    masks.lower(0.0, None, None)
    masks.settle()
    network = masks.generator.eval()
    kept = Zeros().kept(network)
    assert sum(map(len, kept.values())) < sum(group.size for group in network.groups())
    assert {name: len(found) for name, found in kept.items() if name in masks.kept()} == masks.kept()
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(cut(network, kept)(x), network(x), atol=1e-5)


# -- the run that learns masks ---------------------------------------------------------------------------------------


def pix2pix() -> Pix2Pix:
    torch.manual_seed(0)
    settings = Pix2Pix.Settings(discriminator=PatchGANConfig(width=2, layers=2))
    return Pix2Pix(settings, generator=toy_teacher("unet", norm="batch").train())


def masked(steps: int = 20, **settings) -> MaskedGAN:
    torch.manual_seed(2)
    settings = MaskSettings(**{"updates": 5, "weight": 0.01} | settings)
    return MaskedGAN(settings, pix2pix(), size=32, steps=steps, recipe="toy")


def test_the_bound_falls_by_the_cube_root_in_three_quarters_of_the_run():
    learner = masked()
    assert [step for step in range(1, 21) if learner.finishes(step)] == [3, 6, 9, 12, 15, 20]
    bounds = [learner.finish(step)["bound"] for step in (3, 6, 9, 12, 15)]
    assert learner.finish(20)["decided"] == []  # the last step decides what a shorter run has left open
    assert bounds == pytest.approx([1 - (n / 15) ** (1 / 3) for n in (3, 6, 9, 12)] + [0.0])
    assert learner.masks["teacher"].is_decided


def test_a_run_of_another_length_never_raises_the_bound_and_decides_at_its_end():
    learner = masked()
    learner.finish(9)
    learner.steps = 200
    assert learner.masks["teacher"].bound.item() == pytest.approx(1 - 0.6 ** (1 / 3))
    learner.finish(12)
    assert learner.masks["teacher"].bound.item() == pytest.approx(1 - 0.6 ** (1 / 3))
    learner.steps = 13
    assert learner.finishes(13) and learner.finish(13)["decided"] == ["teacher"]


def test_the_macs_of_what_is_decided_are_those_of_the_cut():
    learner = masked()
    told = learner.finish(20)
    generator = learner.gan.generator
    small = cut(generator, Zeros().kept(generator))
    assert told["macs"]["teacher"] == small.config.cost(32, 32).macs()["paper"]


@pytest.mark.parametrize("family", ["inception_resnet", "cartoongan"])
def test_a_network_with_channels_that_not_only_norms_make_is_refused(family):
    with pytest.raises(RecipeError, match="need a norm after every layer"):
        check_masks(MaskSettings(updates=2), toy_teacher(family), "g", size=32, steps=20, recipe="toy", target=None)


def test_the_way_back_may_have_a_budget_of_its_own():
    networks = {f"generator_{side}": toy_teacher("resnet", i) for i, side in enumerate("ab")}
    gan = CycleGAN(CycleGAN.Settings(discriminator=PatchGANConfig(width=2, layers=2)), **networks)
    options = {"size": 32, "steps": 20, "recipe": "toy"}
    settings = MaskSettings(updates=5, target_macs=300_000, back_macs=400_000)
    assert MaskedGAN(settings, gan, **options).targets == {"generator_a": 300_000, "generator_b": 400_000}
    with pytest.raises(RecipeError, match=r"masks.back_macs 1000000000: the generator_b has"):
        MaskedGAN(settings.but(back_macs=10**9), gan, **options)


def test_masks_learn_in_the_generators_optimiser_with_their_penalty():
    learner = masked()
    judges, makers = learner.updates()
    assert "masks" not in judges.modules and makers.optimizer.lr == 2e-4
    before = [w.detach().clone() for w in learner.masks.parameters()]
    runner = Runner(learner.train().updates(), CPU)
    images = torch.rand(2, 2, 3, 32, 32, generator=random(1)) * 2 - 1
    out = learner(as_batch(learner.gan, images), random(1))
    penalty = 0.01 * learner.masks["teacher"].penalty().item()
    losses = {}
    for update in runner.updates:
        losses |= runner.apply(update, out, 1)
    assert losses["teacher_masks"].item() == pytest.approx(penalty)
    assert {"teacher_gan", "teacher_recon"} <= losses.keys()
    moved = [not torch.equal(a, b) for a, b in zip(before, learner.masks.parameters(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updates": 150}, "masks.updates 150 needs a run of at least 200 steps, not 20"),
        ({"target_macs": 10**9}, "so no channel would be removed"),
        ({"bounded": ("nope",)}, "no channel group 'nope'"),
    ],
)
def test_masks_that_cannot_be_are_refused_in_a_sentence(settings, message):
    with pytest.raises(RecipeError, match=message):
        masked(**settings)


def test_two_generators_that_move_apart_are_refused():
    networks = {"wide": toy_teacher("unet", norm="batch"), "deep": toy_teacher("deep_unet", norm="batch")}
    gan = Pix2PixTeachers(Pix2PixTeachers.Settings(discriminator=SharedPatchGANConfig(width=2)), **networks)
    with pytest.raises(RecipeError, match="updates its generators together"):
        MaskedGAN(MaskSettings(updates=2), gan, size=32, steps=20, recipe="toy")


MASKED = [
    "data.size=32",
    "teacher.network.width=3",
    "teacher.network.downs=5",
    "gan.discriminator.width=2",
    "gan.discriminator.layers=2",
    "train.log_every=1",
    "train.sample_every=100",
    "train.checkpoint_every=5",
    "train.best_by=none",
    "train.steps=16",
]


def test_a_run_with_masks_resumes_to_the_same_bits(tmp_path, one_thread):
    data = toy_pairs(tmp_path / "pairs", 6)
    masks = ["masks.updates=4", "masks.weight=0.1"]
    whole, again = tmp_path / "whole", tmp_path / "again"
    teach(recipe="pix2pix", data=data, out=whole, overrides=[*MASKED, *masks])
    with pytest.raises(Interrupted):
        teach(recipe="pix2pix", data=data, out=again, overrides=[*MASKED, *masks], on_event=stop_after(7))
    teach(resume=again)
    found, wanted = (load_file(run / "teacher.safetensors") for run in (again, whole))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    kept = Zeros().kept(load(whole).generator)
    assert len(kept["down1"]) < 3 or len(kept["up1"]) < 3 or sum(map(len, kept.values())) < 60


# -- co-attention distillation ---------------------------------------------------------------------------------------


def dmad(kind: str) -> DMAD:
    torch.manual_seed(3)
    small = PatchGANConfig(width=2, layers=2)
    if kind == "pairs":
        gan, student = pix2pix(), toy_teacher("unet", 5, width=3, norm="batch")
    else:
        networks = {f"generator_{side}": toy_teacher("resnet", i) for i, side in enumerate("ab")}
        gan = CycleGAN(CycleGAN.Settings(pool=0, discriminator=small), **networks)
        student = toy_teacher("resnet", 5, width=3)
    settings = DMAD.Settings(attention=7.0, feature=0.3)
    optimizer = Optimizer(2e-4, (0.5, 0.999))
    parts = Parts(Held(gan), student.train(), Information(), optimizer, paired=kind == "pairs", gan=gan)
    return DMAD(settings, parts).train()


def attention(x: torch.Tensor) -> torch.Tensor:
    return (x**2).mean(1).flatten(1)


@pytest.mark.parametrize("kind", ["pairs", "domains"])
def test_the_terms_are_the_published_ones(kind):
    algorithm = dmad(kind)
    gan, own = algorithm.teacher.gan, algorithm.own
    images = torch.rand(2, 2, 3, 32, 32, generator=random(1)) * 2 - 1
    batch = as_batch(gan, images)
    plain_gan, plain_own = deepcopy(gan), deepcopy(own)
    out = algorithm(batch, random(1))
    terms = algorithm.student_terms(out)
    if kind == "pairs":
        taps = ("down2", "rise3")
        sides = [(plain_gan.generator, plain_own.generator, plain_gan.discriminator, batch.input)]
    else:
        taps = ("down2", "block1", "block2", "block3")
        a, b = ("generator_a", "generator_b")
        judges = (plain_gan.discriminator_a, plain_gan.discriminator_b)
        sides = [
            (getattr(plain_gan, name), getattr(plain_own, name), judge, x)
            for name, judge, x in zip((a, b), judges, (batch.input, batch.real), strict=True)
        ]
    follow = feature = 0.0
    for theirs, mine, judge, x in sides:
        wanted, theirs_taps = theirs.forward_with_taps(x, taps)
        image, my_taps = mine.forward_with_taps(x, taps)
        shown = [torch.cat((x, y), 1) if kind == "pairs" else y for y in (image, wanted)]
        seen, other = (judge.forward_with_taps(y, ("layer2", "layer3"))[1] for y in shown)
        feature += 0.3 * torch.linalg.vector_norm(seen["layer3"] - other["layer3"])
        for tap in taps:
            target = 0.5 * attention(theirs_taps[tap]) + 0.5 * attention(seen["layer2"])
            pair = [v / v.norm(dim=1, keepdim=True) for v in (attention(my_taps[tap]), target)]
            follow += 7.0 * ((pair[0] - pair[1]) ** 2).mean()
    assert algorithm.student_taps == taps
    assert terms["attention"].item() == pytest.approx(follow.item(), rel=1e-4)
    assert terms["feature"].item() == pytest.approx(feature.item(), rel=1e-4)
    assert {name for name in terms if "gan" in name}


def test_a_larger_map_of_the_discriminator_is_averaged_over_areas_and_is_no_way_for_gradients():
    student = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[3.0, 0.0]]]])
    judge = torch.tensor([[[[1.0, 3.0, 5.0, 7.0]] * 2]], requires_grad=True)
    target = torch.tensor([0.5 * 9 + 0.5 * 2, 0.5 * 6])
    mine = torch.tensor([1.0, 4.0])
    wanted = (mine / mine.norm() - target / target.norm()).square().mean()
    found = co_attention(teacher, judge, student)
    assert torch.allclose(found, wanted)
    found.backward()
    assert student.grad is not None and judge.grad is None
    own = torch.tensor([[[[2.0, 6.0]]]], requires_grad=True)  # of the student's size the gradient passes, as published
    co_attention(teacher, own, student).backward()
    assert own.grad.abs().sum() > 0


def test_the_norm_of_features_is_neither_squared_nor_a_mean():
    assert whole_norm(torch.tensor([[3.0], [4.0]])).item() == pytest.approx(5.0)


def test_a_given_gan_stays_as_it_is_also_in_its_statistics():
    algorithm = dmad("pairs")
    before = {name: value.clone() for name, value in algorithm.teacher.gan.state_dict().items()}
    runner = Runner(algorithm.updates(), CPU)
    batch = as_batch(algorithm.teacher.gan, torch.rand(2, 2, 3, 32, 32, generator=random(1)) * 2 - 1)
    out = algorithm(batch, random(1))
    for update in runner.updates:
        runner.apply(update, out, 1)
    counts = "num_batches_tracked"
    for name, value in algorithm.teacher.gan.state_dict().items():
        assert name.endswith(counts) or torch.equal(value, before[name]), name


PIPE = [
    *(o for o in (*TRAIN, *RESNET) if not o.startswith(("train.batch", "train.steps"))),
    *("train.steps=6", "stages.mask.masks.updates=4", "stages.mask.masks.weight=0.1"),
    *("stages.mask.masks.target_macs=20000", "information.channels=2", "information.steps=2"),
]


def test_the_pipeline_learns_masks_beside_a_given_teacher_and_resumes(tmp_path, one_thread):
    data = toy_data(tmp_path / "data")["unpaired"]
    teach(recipe="cyclegan", data=data, out=tmp_path / "teacher", overrides=[*TRAIN, *RESNET])
    options = {"recipe": "dmad", "data": data, "overrides": PIPE}
    result = distill(tmp_path / "teacher", out=tmp_path / "whole", **options)
    assert list(result.skipped) == ["teacher"]
    assert {path.name for path in (tmp_path / "whole" / "3-prune").glob("*.safetensors")} == {
        "student.safetensors",
        "student_b.safetensors",
    }
    tuned = load_file(tmp_path / "whole" / "student.safetensors")
    with pytest.raises(Interrupted):
        distill(tmp_path / "teacher", out=tmp_path / "again", on_event=stop_after(5), **options)
    distill(resume=tmp_path / "again")
    again = load_file(tmp_path / "again" / "student.safetensors")
    assert all(torch.equal(again[name], tuned[name]) for name in tuned)


def test_a_teacher_without_its_discriminators_is_refused_before_the_first_stage(tmp_path):
    data = toy_data(tmp_path / "data")["unpaired"]
    made = teach(recipe="cyclegan", data=data, out=tmp_path / "teacher", overrides=[*TRAIN, *RESNET])
    with pytest.raises(RecipeError, match=r"needs the teacher's generator_b and discriminator_a"):
        distill(made.teacher, out=tmp_path / "run", recipe="dmad", data=data, overrides=PIPE)
    assert not (tmp_path / "run").exists()


def test_without_a_teacher_it_is_taught_first(tmp_path):
    data = toy_data(tmp_path / "data")["unpaired"]
    result = distill(out=tmp_path / "run", recipe="dmad", data=data, overrides=PIPE)
    taught, masked, _, tuned = result.stages.values()
    assert list(result.stages) == ["teacher", "mask", "prune", "finetune"]
    assert taught.parameters == masked.parameters > tuned.parameters


def test_masks_that_cannot_be_are_told_before_the_teacher_is_taught(tmp_path):
    data = toy_data(tmp_path / "data")["unpaired"]
    with pytest.raises(RecipeError, match=r"stage mask: .*masks.updates 150 needs a run of at least 200 steps, not 6"):
        distill(out=tmp_path / "run", recipe="dmad", data=data, overrides=[*PIPE, "stages.mask.masks.updates=150"])
    assert not (tmp_path / "run").exists()


def test_a_student_of_another_kind_than_the_teacher_is_told_before_masks_are_learned(tmp_path):
    data = toy_data(tmp_path / "data")["paired"]
    small = [*(o for o in TRAIN if "steps" not in o), "train.steps=6", "gan.discriminator.width=2"]
    resnet = ["teacher.network.family=resnet", "teacher.network.width=2", "teacher.network.blocks=3"]
    teach(recipe="pix2pix", data=data, out=tmp_path / "teacher", overrides=[*small, *resnet])
    masks = [
        "stages.mask.masks.updates=4",
        "stages.mask.teacher.network.downs=5",
        "stages.mask.masks.target_macs=20000",
    ]
    with pytest.raises(RecipeError, match=r"stage finetune: .*the feature maps of a unet student do not match"):
        distill(
            tmp_path / "teacher", out=tmp_path / "run", recipe="dmad", data=data,
            overrides=[*small, *masks, "data.kind=paired"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("gan_slimming", "masks.updates=4", "there is none; omit it"),
        ("gan_slimming", "stages.slim.masks.updates=4", "recipe.masks needs do = 'teach'"),
    ],
)
def test_masks_where_nothing_is_taught_are_refused(recipe, override, message):
    with pytest.raises(RecipeError, match=message):
        recipes.read(recipe, [override])


def test_a_teacher_that_does_not_learn_at_each_step_is_refused():
    gan = pix2pix()
    gan.settings = gan.settings.but(every=2)
    parts = Parts(
        Online(gan), toy_teacher("unet", 5, norm="batch"), Information(), Optimizer(2e-4), paired=True, gan=gan
    )
    with pytest.raises(RecipeError, match=r"gan.every 2: DMAD needs the teacher at every step"):
        DMAD(DMAD.Settings(online="step", attention=1.0), parts)
