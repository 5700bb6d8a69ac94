"""CAGC and StyleKD beside the published steps, their refusals, and runs."""

from types import SimpleNamespace

import published_stylegan2_steps as oracle
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from toys import logged, random, stop_after, toy_images, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Facts, Parts
from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch
from vemcompress.errors import InputError, Interrupted, RecipeError, UsageError
from vemcompress.gans.teachers import Frozen
from vemcompress.information import build_information
from vemcompress.losses.directions import latent_directions, relation
from vemcompress.networks.features import squeezenet_lpips
from vemcompress.networks.lpips import LPIPS
from vemcompress.recipe import Recipe
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.discriminator import beside_generator, load_discriminator
from vemcompress.weights.features import distance_name, load_features
from vemcompress.weights.loading import load_generator

CAGC = ALGORITHMS["cagc"]


class HalfMask:
    """Content is the left half of images, and what is bright in the rest."""

    vectors = None

    def __call__(self, images):
        mask = (images.mean(1, keepdim=True) > 0).to(images.dtype)
        mask[..., : images.shape[3] // 2] = 1
        return mask


def distance() -> LPIPS:
    torch.manual_seed(4)
    return LPIPS(squeezenet_lpips(caffe=True)).double()


def cagc(teacher, student, judge=None, features=None, **settings):
    adversary = CAGC.Settings.Adversary(r1_every=oracle.R1_EVERY, path_every=oracle.PATH_EVERY, source=None)
    settings = CAGC.Settings(adversary=adversary, **{"perceptual": 0.0} | settings)
    none = Recipe(information={"name": "none"}).information
    information = build_information(none, image_channels=3, height=16, width=16)
    torch.manual_seed(5)
    parts = Parts(Frozen(teacher), student.train(), information, Optimizer(2e-3, (0.0, 0.99)), features=features)
    algorithm = CAGC(settings, parts).double()
    if judge is not None:
        algorithm.own.discriminator.load_state_dict(judge.state_dict())
    return algorithm


def test_steps_are_the_published_ones(tmp_path, monkeypatch):
    big, _ = oracle.published(7)
    small, d = oracle.published()
    teacher = load_generator(oracle.checkpoint(tmp_path / "teacher.pt", big, d, big)).double()
    before = oracle.checkpoint(tmp_path / "before.pt", small, d, small)
    features = distance()
    ours = cagc(teacher, load_generator(before), load_discriminator(before).double(), features, perceptual=3.0)
    ours.masks = HalfMask()
    batches, logged = oracle.our_steps(ours, ours.own, monkeypatch)
    big, draws, seen = big.double(), oracle.Draws(), []

    def distilled(i, mixed, w, fake):
        with torch.no_grad():
            target = big.synthesis(oracle.mapped(big, mixed), oracle.noises(draws, oracle.SIZE))
        mask = HalfMask()(target)
        l1 = (mask * target - mask * fake).abs().mean()
        seen.append(l1.item())
        enlarged = (F.interpolate(mask * x, (32, 32), mode="bilinear") for x in (target, fake))
        return 3 * l1 + 3 * features(*enlarged).mean()

    after = tmp_path / "after.pt"
    wanted, judge, mean = oracle.networks_after(after, small.double(), d.double(), batches, draws, distilled)
    assert ours.own.path.value.item() == pytest.approx(mean, rel=1e-6)
    assert [line["recon"] for line in logged] == pytest.approx([3 * value for value in seen], rel=1e-6)
    oracle.assert_alike(ours.result, wanted)
    oracle.assert_alike(ours.own.discriminator, judge)
    assert set(ours.artifacts()) == {"student", "adversary"}
    assert [u.name for u in ours.updates()] == ["discriminator", "r1", "student", "path"]


def toys(width=4, size=16, **shape):
    made = {"size": size, "latent": 8, "style": 8, "mapping": 2} | shape
    torch.manual_seed(3)
    network = toy_teacher("stylegan2", width=width, **made)
    for conv in network.convs:
        torch.nn.init.normal_(conv.strength, 0, 0.2)
    return network


def step(algorithm, count=2):
    z, real = torch.randn(count, 8, generator=random(0)).double(), torch.randn(count, 3, 16, 16, generator=random(1))
    return algorithm(Batch(z, real=real.double()), random(9), 1)


def of_toys(**settings):
    return cagc(toys(6).double(), toys(4), **settings)


def test_intermediate_is_the_sum_over_the_images_of_all_sizes_without_mask():
    ours = of_toys(on="intermediate")
    ours.masks = HalfMask()
    out = step(ours)
    expected = sum(F.l1_loss(out.student_taps[n], out.teacher_taps[n]) for n in ("rgb4", "rgb8", "rgb16"))
    assert ours.student_terms(out)["recon"].item() == pytest.approx(3 * expected.item(), rel=1e-9)
    assert torch.equal(out.teacher_taps["rgb16"], out.teacher)


def test_feature_is_equation_26_with_a_convolution_for_each_size():
    ours = of_toys(feature=2.0)
    ours.masks = HalfMask()
    out = step(ours)
    assert [tuple(c.weight.shape) for c in ours.connectors] == [(6, 4, 1, 1)] * 3
    mask, expected = out.own.mask, 0
    for name, connector in zip(("conv1", "conv3", "conv5"), ours.connectors, strict=True):
        difference = (connector(out.student_taps[name]) - out.teacher_taps[name]).abs()
        small = F.adaptive_avg_pool2d(mask, difference.shape[2:]) > 0.5
        expected += (difference * small).mean()
    assert 0 < mask.mean() < 1
    assert ours.student_terms(out)["feature"].item() == pytest.approx(2 * expected.item(), rel=1e-9)


def test_teacher_and_student_have_noise_of_their_own():
    same = cagc(toys(4).double(), toys(4))
    out = step(same)
    assert not torch.allclose(out.student, out.teacher)
    for network in (same.student, same.teacher.generator):
        for conv in network.convs:
            conv.strength.data.zero_()
    out = step(same)
    assert torch.allclose(out.student, out.teacher)


def test_stylekds_mapping_network_is_the_teachers_and_stays_where_it_is_frozen():
    copied, frozen = of_toys(mapping="copied"), of_toys(mapping="frozen")
    for algorithm, learns in ((copied, True), (frozen, False)):
        theirs = algorithm.teacher.generator.mapping.state_dict()
        before = {k: v.clone() for k, v in algorithm.student.mapping.state_dict().items()}
        assert all(torch.equal(before[k], theirs[k]) for k in theirs)
        assert all(torch.equal(v, theirs[k]) for k, v in algorithm.result.mapping.state_dict().items())
        runner = Runner(algorithm.updates(), torch.device("cpu"))
        out = step(algorithm)
        for update in runner.updates:
            runner.apply(update, out, 1)
        now = algorithm.student.mapping.state_dict()
        assert any(not torch.equal(before[k], now[k]) for k in now) == learns


@pytest.mark.parametrize("by", ["kl", "mse"])
def test_relation_compares_cosines_of_maps_with_those_of_moved_ones(by):
    t, t2, s, s2 = (torch.randn(3, 2, 4, 4, generator=random(n)) for n in range(4))
    theirs, mine = torch.zeros(3, 3), torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            theirs[i, j] = F.cosine_similarity(t[i].flatten(), t2[j].flatten(), dim=0)
            mine[i, j] = F.cosine_similarity(s[i].flatten(), s2[j].flatten(), dim=0)
    if by == "mse":
        expected = (theirs - mine).square().mean()
    else:
        p, q = theirs.exp() / theirs.exp().sum(1, keepdim=True), mine.exp() / mine.exp().sum(1, keepdim=True)
        expected = (p * (p / q).log()).sum(1).mean()
    assert relation(t, t2, s, s2, by).item() == pytest.approx(expected.item(), rel=1e-4)


def test_latent_directions_are_those_along_which_styles_change_most():
    weight = torch.randn(40, 8, generator=random(0)) * 0.01
    weight[:, 3] = 1.0  # all channels follow this number of w
    (first, *_) = found = latent_directions([(weight[:20], weight[20:])])
    assert found.shape == (5, 8) and first.abs().argmax() == 3
    assert torch.allclose(found @ found.T, torch.eye(5), atol=1e-5)


def test_relation_is_a_term_of_the_student_of_sizes_from_16_px():
    ours = of_toys(relation=30.0)
    assert ours.directions.shape == (10, 8)  # of 8 and 16 px
    out = step(ours)
    theirs, mine = out.own.moved
    assert set(theirs) == {"conv5"}
    expected = relation(out.teacher_taps["conv5"], theirs["conv5"], out.student_taps["conv5"], mine["conv5"])
    assert ours.student_terms(out)["relation"].item() == pytest.approx(30 * expected.item(), rel=1e-6)
    assert not torch.allclose(mine["conv5"], out.student_taps["conv5"])


def test_the_perceptual_term_is_lpips_by_name_only_where_it_is():
    assert distance_name("vgg16") == "lpips vgg16" and distance_name("squeezenet1_1") == "lpips squeezenet1_1"
    assert distance_name("squeezenet1_1_caffe") == "perceptual squeezenet1_1_caffe" and distance_name("none") == "none"
    settings = CAGC.Settings(features="squeezenet1_1_caffe", features_weights="trunk.safetensors")
    facts = Facts("r", toys(6), toys(4), 8, 16, 4, 10)
    assert CAGC.resolve(settings, facts).perceptual == 0.6 and CAGC.resolve(CAGC.Settings(), facts).perceptual == 3.0
    assert of_toys().perceptual == "perceptual"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the package lpips, on torchvision
def test_lpips_is_the_published_distance(tmp_path):
    lpips, models = pytest.importorskip("lpips"), pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    for name, net, build in (("vgg16", "vgg", models.vgg16), ("squeezenet1_1", "squeeze", models.squeezenet1_1)):
        trunk = build(weights=None)
        torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
        ours = load_features(f"lpips {name}", tmp_path / "trunk.pth")
        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
        for n in range(theirs.net.N_slices):
            for index, module in getattr(theirs.net, f"slice{n + 1}").named_children():
                module.load_state_dict(trunk.features[int(index)].state_dict())
        x, y = (torch.rand(2, 3, 64, 64, generator=random(n)) * 2 - 1 for n in range(2))
        with torch.no_grad():
            assert torch.allclose(ours(x, y), theirs(x, y).flatten(), rtol=1e-4) and ours(x, x).abs().max() == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": lambda: toy_teacher("dcgan")}, "CAGC needs StyleGAN2 networks, and this student is a dcgan"),
        ({"student": lambda: toys(4, size=8)}, "the student makes images of 8 px and the teacher of 16 px"),
        ({"batch": 6}, "train.batch 6: StyleGAN2's discriminator compares groups of 4 images"),
        (
            {"settings": {"mapping": "copied"}, "student": lambda: toys(4, style=6)},
            "the teacher's mapping networks differ",
        ),
        ({"settings": {"relation": 30.0}, "batch": 1}, "algorithm.relation needs at least 2 images"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(change, said):
    student = change.get("student", lambda: toys(4))()
    facts = Facts("r", toys(6), student, 8, 16, change.get("batch", 4), 10)
    with pytest.raises(RecipeError, match=said):
        CAGC.resolve(CAGC.Settings(**change.get("settings", {})), facts)


SHORT = (
    *("train.steps=6", "train.batch=4", "train.log_every=1", "train.sample_every=3", "train.checkpoint_every=2"),
    *("prune.ratio=0.5", "prune.method.samples=4", "algorithm.features=none", "algorithm.ema=0.5"),
    *("information.channels=2", "algorithm.adversary.path_every=2", "algorithm.adversary.r1_every=3"),
)


def files(tmp_path):
    torch.manual_seed(0)
    teacher, judge = oracle.published(3)
    return oracle.checkpoint(tmp_path / "teacher.pt", teacher, judge, teacher), toy_images(tmp_path / "faces", 6)


def test_a_run_prunes_goes_on_with_the_teachers_discriminator_and_resumes_bit_for_bit(tmp_path, one_thread):
    teacher, images = files(tmp_path)
    events = []
    common = {"teacher": str(teacher), "data": images, "recipe": "cagc", "overrides": SHORT}
    distill(**common, out=tmp_path / "whole", on_event=events.append)
    assert any("the discriminator starts from" in event.get("assumed", "") for event in events)
    with pytest.raises(Interrupted):
        distill(**common, out=tmp_path / "cut", on_event=stop_after(3))
    distill(resume=tmp_path / "cut")
    for name in ("student", "adversary"):
        a, b = (load_file(tmp_path / run / f"2-train/{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a), name
    lines = logged(tmp_path / "cut/2-train")
    losses = lines[0]
    assert {"gan", "recon", "information", "adversary_real", "adversary_r1", "path"} <= set(losses)
    assert ["path" in line for line in lines] == [True, False, True, False, True, False]
    assert load_generator(tmp_path / "cut").config.widths == tuple(w - w // 2 for w in oracle.WIDTHS)


def test_a_file_without_a_discriminator_is_told(tmp_path):
    save_generator(tmp_path / "g.safetensors", toys(4))
    assert beside_generator(tmp_path / "g.safetensors") is None
    images, events = toy_images(tmp_path / "faces", 6), []
    overrides = (*SHORT, "train.steps=1")
    distill(
        tmp_path / "g.safetensors",
        data=images,
        out=tmp_path / "run",
        recipe="cagc",
        overrides=overrides,
        on_event=events.append,
    )
    told = [event["message"] for event in events if event["event"] == "warning"]
    assert any("has no discriminator, so a new one is trained with the student" in message for message in told)


def test_real_images_are_asked_for(tmp_path):
    teacher, _ = files(tmp_path)
    with pytest.raises(UsageError, match="no data: give --data DIR, a folder of real images for the discriminator"):
        distill(str(teacher), out=tmp_path / "run", recipe="cagc", overrides=SHORT)
    assert not (tmp_path / "run").exists()


def test_masks_that_are_none_end_the_run_before_it_begins(tmp_path):
    teacher, images = files(tmp_path)
    (tmp_path / "masks").mkdir()
    overrides = (*SHORT, f"algorithm.masks={tmp_path / 'masks'}")
    with pytest.raises(InputError, match="has no masks"):
        distill(str(teacher), data=images, out=tmp_path / "run", recipe="cagc", overrides=overrides)


def test_a_folder_of_masks_gives_the_vectors_that_the_student_learns_from():
    ours = of_toys()
    z = torch.randn(5, 8, generator=random(2))
    known = (torch.rand(5, 1, 16, 16, generator=random(3)) > 0.5).to(torch.uint8)
    ours.masks = SimpleNamespace(vectors=z, known=known, to=lambda device: None)
    out = step(ours, count=3)
    rows = [int((z.double() == row).all(1).nonzero()[0, 0]) for row in out.input]
    assert torch.equal(out.own.mask, known[rows].float())
    assert torch.allclose(out.teacher, ours.teacher.generator(out.input))
    assert out.own.drawn.mixture.second is None


def test_a_run_whose_teacher_has_moved_goes_on_with_its_discriminator(tmp_path):
    teacher, images = files(tmp_path)
    overrides = (*SHORT, "train.steps=2")
    distill(str(teacher), data=images, out=tmp_path / "run", recipe="cagc", overrides=overrides)
    stage = tmp_path / "run/2-train"
    assert recipes.read(stage / "recipe.toml").algorithm.adversary.source == "teacher"
    moved = teacher.rename(tmp_path / "moved.pt")
    result = distill(teacher=str(moved), resume=stage, overrides=("train.steps=3",))
    assert result.steps == 3


def test_a_new_discriminator_can_be_asked_for(tmp_path):
    teacher, images = files(tmp_path)
    events, overrides = [], (*SHORT, "train.steps=1", "algorithm.adversary.source=new")
    common = {"data": images, "out": tmp_path / "run", "recipe": "cagc", "overrides": overrides}
    distill(str(teacher), **common, on_event=events.append)
    assert not any("the discriminator starts" in event.get("assumed", "") for event in events)
    assert recipes.read(tmp_path / "run/2-train/recipe.toml").algorithm.adversary.source == "new"
