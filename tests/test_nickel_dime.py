"""NICKEL & DiME: its terms by hand, whose parameters move by which, and runs."""

import json

import pytest
import torch
import torch.nn.functional as F
from published_stylegan2_steps import checkpoint, published
from safetensors.torch import load_file
from toys import random, stop_after, toy_images, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Facts, Parts
from vemcompress.algorithms.nickel_dime import Moments
from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch
from vemcompress.errors import InputError, Interrupted, RecipeError
from vemcompress.evaluation.embeddings import Embedding, open_embedding
from vemcompress.gans.teachers import Frozen
from vemcompress.information import build_information
from vemcompress.losses.wavelets import detail_distance, high_bands
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.features import squeezenet_embedding
from vemcompress.recipe import Recipe
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer

NickelDime = ALGORITHMS["nickel_dime"]


def toys(width, size=16):
    torch.manual_seed(3)
    network = toy_teacher("stylegan2", width=width, size=size, latent=8, style=8, mapping=2)
    for conv in network.convs:
        torch.nn.init.normal_(conv.strength, 0, 0.2)
    return network


def algorithm(monkeypatch=None, information="none", **settings):
    own = NickelDime.Settings.Adversary(source=None)
    given = {"features": "none", "teacher_source": None, "adversary": own, "moments": 20} | settings
    add_on = Recipe(information={"name": information}).information
    information = build_information(add_on, image_channels=3, height=16, width=16)
    torch.manual_seed(5)
    parts = Parts(Frozen(toys(6)), toys(4).train(), information, Optimizer(2.5e-3, (0.0, 0.99)))
    return NickelDime(NickelDime.Settings(**given), parts)


def step(ours, count=4):
    real = torch.randn(count, 3, 16, 16, generator=random(1))
    return ours(Batch(torch.randn(count, 8, generator=random(0)), real=real), random(9), 1)


def test_details_are_those_of_haars_wavelet():
    x = torch.randn(2, 3, 8, 8, generator=random(0))
    h = torch.tensor([1.0, 1.0]) / 2**0.5
    g = torch.tensor([1.0, -1.0]) / 2**0.5
    first, second, third = high_bands(x)
    low = x
    for level in (first, second, third):
        bands = [
            F.conv2d(low, torch.outer(a, b).expand(3, 1, 2, 2), stride=2, groups=3) for a, b in ((g, h), (h, g), (g, g))
        ]
        torch.testing.assert_close(level, torch.stack(bands, 2))
        low = F.conv2d(low, torch.outer(h, h).expand(3, 1, 2, 2), stride=2, groups=3)
    assert len(high_bands(torch.zeros(1, 1, 64, 64))) == 4
    energy = sum(band.square().sum() for band in (first, second, third)) + low.square().sum()
    assert energy.item() == pytest.approx(x.square().sum().item(), rel=1e-5)


def test_the_distance_of_details_is_summed_over_levels_and_leaves_means_alone():
    x, y = torch.randn(2, 3, 8, 8, generator=random(0)), torch.randn(2, 3, 8, 8, generator=random(1))
    expected = sum(F.mse_loss(a, b) for a, b in zip(high_bands(x), high_bands(y), strict=True))
    assert detail_distance(x, y).item() == pytest.approx(expected.item())
    assert detail_distance(x, x + 3).item() == pytest.approx(0, abs=1e-9)


def small_embedding():
    torch.manual_seed(1)
    network = Embedding("squeezenet1_1_caffe", squeezenet_embedding(caffe=True))
    network.forward = lambda images: images.mean((2, 3))
    return network


def test_dime_compares_moments_of_embeddings_with_those_of_the_teachers_images(monkeypatch):
    monkeypatch.setattr("vemcompress.algorithms.nickel_dime.open_embedding", lambda name, weights: small_embedding())
    monkeypatch.setitem(NickelDime.__init__.__globals__, "_BATCH", 8)
    ours = algorithm(features="squeezenet1_1_caffe", dime_first=20.0, dime_second=15.0)
    ours.moments.first, ours.moments.second = torch.zeros(3), torch.zeros(3)
    seen, taught = [], ours.taught
    monkeypatch.setattr(ours, "taught", lambda *a: seen.append(taught(*a)) or seen[-1])
    out = step(ours)
    drawn = torch.cat([image for image, _ in seen])[:20].mean((2, 3))
    assert [len(image) for image, _ in seen] == [8, 8, 4, 4] and ours.moments.count == 20
    mine, terms = out.student.mean((2, 3)), ours.student_terms(out)
    square = drawn.square().mean()  # of embeddings that are not DINO's the unit
    first = (mine.mean(0) - drawn.mean(0)).abs().mean() / square.sqrt()
    second = (mine.square().mean(0) - drawn.square().mean(0)).abs().mean() / square
    assert terms["dime_first"].item() == pytest.approx(20 * first.item(), rel=1e-4)
    assert terms["dime_second"].item() == pytest.approx(15 * second.item(), rel=1e-4)
    before = ours.moments.first.clone()
    step(ours)
    assert torch.equal(before, ours.moments.first) and ours.moments.count == 20


def test_dinos_embeddings_are_taken_as_they_are():
    moments, found = Moments(3), torch.randn(4, 3, generator=random(0)) * 5
    moments.add(torch.full((2, 3), 2.0))
    first, second = moments.distances(found)
    assert first.item() == pytest.approx((found.mean(0) - 2).abs().mean().item(), rel=1e-5)
    assert second.item() == pytest.approx((found.square().mean(0) - 4).abs().mean().item(), rel=1e-5)


def test_nickel_follows_the_teachers_generator_of_the_vectors_that_the_discriminator_sees():
    ours = algorithm()
    out = step(ours)
    teacher = ours.teacher.generator
    assert out.own.images.shape == (4, 3, 16, 16) and out.own.maps.shape == (4, 6, 4, 4)
    for conv in teacher.convs:
        conv.strength.data.zero_()
    out = step(ours)
    image, taps = teacher.synthesise(out.own.drawn.judged_of.styles(teacher), ("conv1",))
    torch.testing.assert_close(out.own.images, image)
    torch.testing.assert_close(out.own.maps, taps["conv1"])
    _, seen = ours.own.discriminator.forward_with_taps(image, ("layer3",))
    terms = ours.extra_updates()[0].terms(out)
    assert terms["nickel"].item() == pytest.approx(10 * detail_distance(taps["conv1"], seen["layer3"]).item(), rel=1e-5)


def changed(before, network) -> bool:
    return any(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))


def test_the_student_passes_both_discriminators_and_both_learn():
    ours = algorithm(teacher_gan=0.5)
    runner, out = Runner(ours.updates(), torch.device("cpu")), step(ours)
    names = ["discriminator", "r1", "teacher_discriminator", "teacher_r1", "student", "path"]
    assert [update.name for update in runner.updates] == names
    terms = ours.student_terms(out)
    for name, judge, weight in (("gan", ours.own.discriminator, 1.0), ("teacher_gan", ours.theirs.discriminator, 0.5)):
        expected = weight * F.softplus(-judge(out.student)).mean()
        assert terms[name].item() == pytest.approx(expected.item(), rel=1e-5)
    teacher = {k: v.clone() for k, v in ours.teacher.generator.state_dict().items()}
    watched = {"own": ours.own.discriminator, "theirs": ours.theirs.discriminator, "student": ours.student}
    before = {name: [p.clone() for p in network.parameters()] for name, network in watched.items()}
    moved = {}
    for update in runner.updates:
        if update.due(1):
            runner.apply(update, out, 1)
            moved[update.name] = {name: changed(before[name], network) for name, network in watched.items()}
    assert moved["r1"] == {"own": True, "theirs": False, "student": False}
    assert moved["teacher_r1"] == {"own": True, "theirs": True, "student": False}
    assert moved["student"]["student"]
    assert all(torch.equal(v, teacher[k]) for k, v in ours.teacher.generator.state_dict().items())


def test_the_teachers_images_of_the_students_vectors_are_drawn_for_add_ons_alone(monkeypatch):
    for information, drawn in (("none", 1), ("vem", 2)):
        ours, calls = algorithm(information=information), []
        taught = ours.taught
        monkeypatch.setattr(ours, "taught", lambda *a, calls=calls, taught=taught: calls.append(1) or taught(*a))
        out = step(ours)
        assert len(calls) == drawn and torch.equal(out.teacher, out.student) == (drawn == 1)


def test_what_cannot_be_is_refused_in_a_sentence():
    facts = Facts("r", toys(6, size=8), toys(4, size=8), 8, 8, 4, 10)
    with pytest.raises(RecipeError, match="images of 8 px are too small for that; set it to 0"):
        NickelDime.resolve(NickelDime.Settings(), facts)
    with pytest.raises(RecipeError, match="the discriminator has 4 channels where the teacher's"):
        judge = {"family": "stylegan2", "size": 16, "width": 4, "most": 4}
        algorithm(adversary=NickelDime.Settings.Adversary(source=None, discriminator=judge))
    with pytest.raises(RecipeError, match="features dino_resnet50: needs"):
        open_embedding("dino_resnet50", None)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_shipped_recipes_discriminator_is_as_wide_as_its_teacher(multiplier):
    with torch.device("meta"):
        teacher = build_generator(parse_config({"family": "stylegan2", "size": 256, "multiplier": multiplier}))
    settings = NickelDime.resolve(recipes.read("nickel_dime").algorithm, Facts("r", teacher, teacher, 8, 256, 64, 10))
    judge = settings.adversary.discriminator
    assert (judge.width, judge.widths[2], judge.group, judge.size) == (64 * multiplier, 256 * multiplier, 8, 256)


def test_images_that_are_too_small_for_the_embedding_are_refused():
    settings = NickelDime.Settings(features="squeezenet1_1_caffe", features_weights="trunk.safetensors", nickel=0)
    with pytest.raises(RecipeError, match="squeezenet1_1_caffe needs images of at least 17 px, and these have 16"):
        NickelDime.resolve(settings, Facts("r", toys(6), toys(4), 8, 16, 4, 10))


def test_dinos_resnet_is_read_without_its_head_and_checked(tmp_path):
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "dino.pth")
    images = torch.randn(2, 3, 32, 32, generator=random(0))
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(open_embedding("dino_resnet50", str(tmp_path / "dino.pth"))(images), network(images))
    state = network.state_dict()
    state.pop("layer1.0.conv1.weight")
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"not the weights of a ResNet-50: 'layer1\.0\.conv1\.weight' is missing"):
        open_embedding("dino_resnet50", str(tmp_path / "bad.pth"))


SHORT = (
    *("train.steps=6", "train.batch=4", "train.log_every=1", "train.sample_every=3", "train.checkpoint_every=2"),
    *("prune.ratio=0.5", "prune.method.samples=4", "algorithm.ema=0.5", "algorithm.features=none"),
    *("algorithm.adversary.path_every=2", "algorithm.adversary.r1_every=3"),
    *("algorithm.adversary.discriminator.width=8", "algorithm.adversary.discriminator.most=8", "algorithm.nickel=10"),
)


def test_a_run_resumes_bit_for_bit(tmp_path, one_thread):
    torch.manual_seed(0)
    teacher, judge = published(3)
    file, images = checkpoint(tmp_path / "teacher.pt", teacher, judge, teacher), toy_images(tmp_path / "faces", 6)
    common = {"teacher": str(file), "data": images, "recipe": "nickel_dime", "overrides": SHORT}
    distill(**common, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        distill(**common, out=tmp_path / "cut", on_event=stop_after(3))
    distill(resume=tmp_path / "cut")
    for name in ("student", "adversary", "teacher_discriminator"):
        a, b = (load_file(tmp_path / run / f"2-train/{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a), name
    first = json.loads((tmp_path / "cut/2-train/metrics.jsonl").read_text().splitlines()[0])
    assert {"gan", "teacher_gan", "nickel", "teacher_real", "teacher_r1", "adversary_r1", "path"} <= set(first)
