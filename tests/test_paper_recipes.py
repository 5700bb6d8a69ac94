"""The paper's rows as recipes, and every recipe whose teachers learn: they build, and count as the paper prints."""

import json
import tomllib
from functools import cache

import pytest
import torch

from vemcompress import recipe as recipes
from vemcompress.cli import app
from vemcompress.errors import RecipeError
from vemcompress.gans import GANS
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import count_parameters
from vemcompress.networks.subnets import Space
from vemcompress.recipe import paper
from vemcompress.recipe.resolve import for_latents, resolve, resolve_teaching

PAPER = [name for name in recipes.shipped() if name.startswith("paper/")]
ROWS = [name for name in PAPER if "_omgd" in name]
PIPELINES = {  # lambda_MI, FID: Table 4
    "horse2zebra_gan_compression": (None, 59.13),
    "horse2zebra_gan_compression_vid": (None, 62.36),
    "horse2zebra_gan_compression_crd": (None, 60.27),
    "horse2zebra_gan_compression_vem": (0.1, 50.01),
    "horse2zebra_cat": (None, 64.79),
    "horse2zebra_cat_vid": (None, 68.71),
    "horse2zebra_cat_crd": (None, 67.69),
    "horse2zebra_cat_vem": (0.005, 52.44),
}
OF_GCC = {  # lambda_MI, FID or mIoU, that of the original: Tables 1 to 4
    "celeba_slimming": (None, 36.60, 24.87),
    "celeba_gcc": (None, 27.91, 24.87),
    "celeba_gcc_vid": (None, 26.57, 24.87),
    "celeba_gcc_crd": (None, 30.93, 24.87),
    "celeba_gcc_vem": (0.1, 25.27, 24.87),
    "cityscapes_gcc": (None, 42.88, 42.71),
    "horse2zebra_gcc": (None, 59.31, 61.53),
}
OF_CAGC = {  # lambda_MI, FID: Tables 3 and 4
    "ffhq_cagc": (None, 7.90),
    "ffhq_cagc_vid": (None, 7.51),
    "ffhq_cagc_crd": (None, 7.65),
    "ffhq_cagc_vem": (0.05, 7.48),
    "ffhq_slimming": (None, 12.40),
}
OF_DMAD = {  # G MACs, M parameters, FID or mIoU, that of the original: Tables 1 and 2
    "edges2shoes_dmad": (2.99, 2.13, 46.95, 34.31),
    "cityscapes_dmad": (3.96, 1.73, 40.53, 42.71),
    "horse2zebra_dmad": (2.41, 0.20, 62.96, 61.53),
    "summer2winter_dmad": (3.18, 0.30, 78.24, 79.12),
}
ORIGINALS = {  # MACs in G, of SAGAN in M; M parameters; FID or mIoU: Tables 1 to 3. Epochs or steps, batch.
    "edges2shoes_original": (18.60, 54.40, 34.31, 200, 4),
    "cityscapes_original": (18.60, 54.40, 42.71, 250, 4),
    "horse2zebra_original": (56.80, 11.30, 61.53, 200, 1),
    "summer2winter_original": (56.80, 11.30, 79.12, 200, 1),
    "celeba_original": (23.45, None, 24.87, 100, 64),
    "ffhq_original": (45.1, None, 4.50, 550_000, 16),
}
REPORTED = {  # by the methods' own papers: G MACs, M parameters, FID: Table 2
    "horse2zebra_gan_compression_reported": (2.67, 0.34, 64.95),
    "horse2zebra_cat_reported": (2.55, None, 60.18),
}
OF_CO_EVOLUTION = {  # MACs, FID, that of the original: Table 2
    "horse2zebra_co_evolution": (13.40, 96.15, 61.53),
    "summer2winter_co_evolution": (11.10, 78.58, 79.12),
}
OF_AGD = {"horse2zebra_agd": (6.39, 83.60, 61.53), "summer2winter_agd": (4.34, 78.33, 79.12)}  # G, FIDs: Table 2
LEARNING = [name for name in recipes.shipped() if recipes.read(name).gan is not None]

# lambda_MI, FID or mIoU: Tables 1, 2, 4 and 5, the rows of OMGD.
PRINTED = {
    "edges2shoes_omgd": (None, 27.39),
    "edges2shoes_omgd_vid": (None, 28.02),
    "edges2shoes_omgd_vem": (0.1, 24.59),
    "cityscapes_omgd": (None, 47.52),
    "cityscapes_omgd_vid": (None, 47.79),
    "cityscapes_omgd_vem": (0.2, 49.39),
    "cityscapes_omgd_vem_005": (0.05, 47.56),
    "cityscapes_omgd_vem_010": (0.1, 48.90),
    "horse2zebra_omgd": (None, 57.14),
    "horse2zebra_omgd_vid": (None, 65.73),
    "horse2zebra_omgd_crd": (None, 70.59),
    "horse2zebra_omgd_vem": (0.1, 50.83),
    "summer2winter_omgd": (None, 75.20),
    "summer2winter_omgd_vid": (None, 74.39),
    "summer2winter_omgd_crd": (None, 74.54),
    "summer2winter_omgd_vem": (0.1, 74.04),
}

# By data set: batch, lambda_CD, n_dis, epochs, of these constant, C, Langevin step (reference scripts and section 5.3).
PUBLISHED = {
    "edges2shoes": (4, 10, 1, 200, 100, 32, 100),
    "cityscapes": (4, 50, 3, 750, 300, 32, 50),
    "horse2zebra": (1, 500, 4, 200, 100, 8, 100),
    "summer2winter": (1, 100, 4, 200, 100, 32, 100),
}


# Training images, and what becomes of epochs: the teachers' steps (OMGD's last batch of an epoch was a smaller one,
# so that its 750 epochs of Cityscapes had 558,000), and those of a phase.
STEPS = {
    "edges2shoes": (49825, 2_491_250, None),
    "cityscapes": (2975, 557_812, None),
    "horse2zebra": (1334, 266_800, 13_340),
    "summer2winter": (1231, 246_200, 7_386),
}


# Teachers for recipes that take any.
OF_KIND = {
    "latent": parse_config({"family": "dcgan", "width": 8, "levels": 2}),
    "cyclegan": parse_config({"family": "resnet", "width": 8}),
}


@cache
def networks(name: str):
    """The recipe, its generators by role, and its discriminator as the teachers would judge with it; no memory."""
    plan = recipes.read(name)
    given = {"student": plan.student, "teacher": plan.teacher.network, "deep": plan.teacher.deep}
    with torch.device("meta"):
        built = {
            role: build_generator(config)
            for role, config in given.items()
            if config is not None and config.family != "auto"
        }
        pairs = {"pix2pix": ["generator"], "pix2pix_teachers": ["wide", "deep"]}
        pairs |= {"latent": ["generator"], "stylegan2": ["generator"], "srgan": ["generator"]}
        roles = pairs.get(plan.gan.name, ["generator_a", "generator_b"])
        first = built.get("teacher") or build_generator(OF_KIND[plan.gan.name])  # a given one
        built["teacher"] = first
        makers = [first, built.get("deep") or build_generator(plan.teacher.network or OF_KIND[plan.gan.name])]
        gan = GANS[plan.gan.name](plan.gan, **dict(zip(roles, makers, strict=False)))
    return plan, built, list(gan.discriminators().values())


def shown(capsys, *arguments: str) -> str:
    """What `vemcompress recipes show` prints on stdout."""
    app(["recipes", "show", *arguments], standalone_mode=False)
    return capsys.readouterr().out


# Each row of the paper's Tables 1 to 5 by its recipe; of one that several tables have, once.
TABLES = """
edges2shoes_original edges2shoes_dmad edges2shoes_omgd edges2shoes_omgd_vid edges2shoes_omgd_vem
cityscapes_original cityscapes_dmad cityscapes_gcc
cityscapes_omgd cityscapes_omgd_vid cityscapes_omgd_vem_005 cityscapes_omgd_vem_010 cityscapes_omgd_vem
horse2zebra_original horse2zebra_co_evolution horse2zebra_gan_slimming horse2zebra_agd horse2zebra_dmad horse2zebra_gcc
horse2zebra_gan_compression_reported horse2zebra_cat_reported
horse2zebra_gan_compression horse2zebra_gan_compression_vid horse2zebra_gan_compression_crd
horse2zebra_gan_compression_vem
horse2zebra_cat horse2zebra_cat_vid horse2zebra_cat_crd horse2zebra_cat_vem
horse2zebra_omgd horse2zebra_omgd_vid horse2zebra_omgd_crd horse2zebra_omgd_vem
summer2winter_original summer2winter_co_evolution summer2winter_agd summer2winter_dmad
summer2winter_omgd summer2winter_omgd_vid summer2winter_omgd_crd summer2winter_omgd_vem
celeba_original celeba_slimming celeba_gcc celeba_gcc_vid celeba_gcc_crd celeba_gcc_vem
ffhq_original ffhq_slimming ffhq_cagc ffhq_cagc_vid ffhq_cagc_crd ffhq_cagc_vem
"""


def test_each_of_the_53_rows_has_its_recipe_and_no_other():
    names = TABLES.split()
    assert len(names) == len(set(names)) == 53
    assert sorted(PAPER) == sorted(f"paper/{name}" for name in names)


@pytest.mark.parametrize("name", PAPER)
def test_every_row_says_whether_it_was_trained_here(name, capsys):
    assert recipes.read(name).paper["trained_here"] == "no"
    assert "not trained and not measured here" in shown(capsys, name)


@pytest.mark.parametrize("name", ORIGINALS)
def test_rows_of_originals_are_taught_as_published_and_count_as_printed(name):
    plan, (macs, parameters, score, length, batch) = recipes.read(f"paper/{name}"), ORIGINALS[name]
    printed, found, train = plan.paper, paper.row(plan), plan.train
    key = "miou" if name.startswith("cityscapes") else "fid"
    assert (printed["macs"], printed.get("params"), printed[key]) == (macs, parameters, score)
    unet = plan.gan.name == "pix2pix"
    assert found["agrees"].pop("macs") != unet and all(found["agrees"].values())
    assert found["parameters"] == plan.teacher.network.cost(256, 256).parameters and "teacher" not in found
    assert (train.epochs or train.steps, train.batch, train.best_by, train.best_on) == (length, batch, key, "test")
    assert not plan.stages and type(plan.student) is recipes.AutoStudent  # for `teach`
    if plan.teacher.network.family in ("sagan", "stylegan2"):
        assert train.constant == 1
        assert plan.data.crop == (160 if name.startswith("celeba") else "square")
    else:
        assert (plan.gan.lr, plan.gan.betas, plan.data.load_size) == (2e-4, (0.5, 0.999), 286)
        assert round(train.constant * train.epochs) == 100 and train.decay == "epoch"
    if unet:
        assert (plan.gan.mode, plan.gan.lambda_recon, plan.gan.discriminator.width) == ("hinge", 100, 128)


@pytest.mark.parametrize("name", OF_DMAD)
def test_rows_of_dmad_have_the_published_figures_and_constants(name):
    plan, figures = recipes.read(f"paper/{name}"), OF_DMAD[name]
    data = name.partition("_")[0]
    key = "miou" if data == "cityscapes" else "fid"
    assert tuple(plan.paper[one] for one in ("macs", "params", key, f"original_{key}")) == figures
    assert plan.information.name == "none" and "parameters" not in paper.row(plan)  # widths are not published
    teacher, mask, prune, finetune = (recipes.of_stage(plan, stage) for stage in plan.stages)
    assert all((one.train.epochs, one.train.constant, one.train.lr) == (200, 0.5, 2e-4) for one in (mask, finetune))
    masks, widths = mask.masks, (mask.teacher.network, finetune.teacher.network)
    bounds = (masks.updates, masks.period, masks.deviation, masks.count_as)
    assert bounds == (150, 0.75, 0.2, "paper") and prune.prune.both and prune.prune.method.name == "zeros"
    assert finetune.algorithm.feature == 1e-4 and finetune.train.best_by == key
    if plan.gan.name == "pix2pix":
        frozen, target, batch = (0.8, 3e9, 4) if data == "edges2shoes" else (0.7, 4e9, 1)
        assert (masks.weight, masks.bounded, masks.frozen, masks.target_macs) == (1e-2, (), frozen, target)
        assert [(one.down[0], one.family) for one in widths] == [(48, "unet"), (64, "unet")]
        assert (plan.data.load_size, plan.data.flip) == (256, False)
        assert mask.train.batch == finetune.train.batch == batch
        assert (plan.gan.mode, plan.gan.discriminator.width) == ("hinge", 128)
    else:
        mobile = data == "horse2zebra"
        family, width = ("mobile_resnet", 32) if mobile else ("resnet", 64)
        assert [(one.widths[0], one.family) for one in widths] == [(width, family), (64, family)]
        weights = (masks.weight, masks.factor, masks.trunk, masks.target_macs)
        assert weights == ((2e-3, 200, 5, 2.5e9) if mobile else (1e-3, 100, 1, 4e9))
        assert masks.bounded == ("stem", "down1", "up1", "up2") and masks.frozen is None
        assert (plan.data.load_size, plan.gan.pool, teacher.train.batch) == (286, 50, 1)


def test_the_row_of_gan_slimming_has_the_published_figures_and_constants():
    plan = recipes.read("paper/horse2zebra_gan_slimming")
    assert (plan.paper["macs"], plan.paper["fid"], plan.paper["original_fid"]) == (11.30, 86.09, 61.53)
    assert paper.row(plan)["agrees"] == {"original_params": True, "original_macs": True}  # widths are not published
    teacher, slim, _, finetune = (recipes.of_stage(plan, stage) for stage in plan.stages)
    network, judge = teacher.teacher.network, teacher.gan.discriminator
    assert (network.widths[0], network.norm, judge.width, judge.norm) == (64, "instance_affine", 64, "instance_affine")
    for stage, sparse, lr, batch in ((slim, True, 1e-5, 8), (finetune, False, 1e-4, 16)):
        algorithm, own, train = stage.algorithm, stage.algorithm.adversary, stage.train
        assert (algorithm.sparse, algorithm.rho) == (sparse, 0.01)
        assert (algorithm.perceptual, algorithm.content, algorithm.style) == (20, 1, 1e5)
        assert (algorithm.gamma_lr, algorithm.gamma_momentum, algorithm.weight_decay) == (0.1, 0.5, 1e-3)
        assert (own.mode, own.lr, own.pool, own.pooled, own.discriminator) == ("lsgan", lr, 50, True, judge)
        assert (train.epochs, train.batch, train.lr, train.betas) == (200, batch, lr, (0.5, 0.999))
    assert slim.student.source == "teacher" and stage.information.name == "none"
    assert (finetune.train.best_by, slim.train.best_by) == ("fid", "none")


@pytest.mark.parametrize("name", REPORTED)
def test_rows_that_other_papers_reported_stand_beside_the_reruns(name):
    plan, (macs, parameters, fid) = recipes.read(f"paper/{name}"), REPORTED[name]
    rerun, found = recipes.read(f"paper/{name.removesuffix('_reported')}"), paper.row(plan)
    assert (plan.paper["macs"], plan.paper.get("params"), plan.paper["fid"]) == (macs, parameters, fid)
    assert all(found["agrees"].values()) and ("macs" in found["agrees"]) == (parameters is not None)
    assert plan.but(**{key: getattr(rerun, key) for key in ("name", "description", "paper")}) == rerun


@pytest.mark.parametrize("name", OF_CAGC)
def test_rows_of_cagc_have_the_published_figures_and_constants(name):
    plan, (weight, fid) = recipes.read(f"paper/{name}"), OF_CAGC[name]
    assert (plan.paper["fid"], plan.paper["original_fid"]) == (fid, 4.50)
    ending = name.rpartition("_")[2]
    assert plan.information.name == (ending if ending in ("vem", "vid", "crd") else "none")
    if weight is not None:
        information = plan.information
        assert (information.weight, information.channels, information.step_size) == (weight, 32, 50)
    found, algorithm, train, own = paper.row(plan), plan.algorithm, plan.train, plan.algorithm.adversary
    assert found["original"]["macs"]["true"] == 45_124_673_536 and all(found["agrees"].values())
    assert (train.steps, train.batch, train.lr, train.constant) == (450_000, 16, 2e-3, 1)
    assert (own.r1, own.r1_every, own.path, own.path_every, own.mixing, own.lr) == (10, 16, 2, 4, 0.9, 2e-3)
    assert round(algorithm.ema, 5) == 0.99778
    if name == "ffhq_slimming":
        assert (plan.prune.target_macs, plan.prune.method.name, algorithm.recon) == (5_000_000_000, "l1_style", 0)
    else:
        assert found["macs"]["true"] == 4_123_578_080 and found["agrees"]["macs"]
        assert (plan.prune.ratio, plan.prune.method.samples, plan.prune.method.probability) == (0.7, 400, 0.05)
        assert (algorithm.recon, algorithm.perceptual, algorithm.features) == (3, 3, "vgg16")


@pytest.mark.parametrize("name", OF_AGD)
def test_rows_of_agd_have_the_published_figures_and_constants(name):
    plan, (macs, fid, original) = recipes.read(f"paper/{name}"), OF_AGD[name]
    assert (plan.paper["macs"], plan.paper["fid"], plan.paper["original_fid"]) == (macs, fid, original)
    assert paper.row(plan)["agrees"] == {"original_params": True, "original_macs": True}  # widths are not published
    search, train = (recipes.of_stage(plan, stage) for stage in plan.stages[1:])
    algorithm, rates = search.algorithm, search.train
    assert round(search.student.cost(256, 256).paper / 1e9, 3) == 29.997
    assert (algorithm.recon, algorithm.style, algorithm.content, algorithm.tv) == (0, 1e5, 1, 0)
    assert (algorithm.macs_least, algorithm.macs_most, algorithm.macs_weight) == (3e9, 8e9, 1e-17)
    assert (algorithm.arch_lr, algorithm.arch_betas, algorithm.clip) == (3e-4, (0.5, 0.999), 5)
    assert (rates.epochs, rates.batch, rates.lr, rates.constant, rates.betas) == (50, 2, 1e-3, 0.2, (0.5, 0.999))
    algorithm, rates = train.algorithm, train.train
    assert train.student.fresh and plan.information.name == "none"
    assert (algorithm.recon, algorithm.style, algorithm.content) == (0.01, 1e5, 1)
    assert (algorithm.rule, algorithm.momentum, algorithm.weight_decay, algorithm.clip) == ("sgd", 0.5, 5e-4, 5)
    assert (rates.epochs, rates.batch, rates.lr, rates.constant) == (400, 16, 0.1, 0.25)


POINTS = [("nickel_dime", 95.73), ("nickel_dime_9892", 98.92), ("nickel_dime_9969", 99.69)]


@pytest.mark.parametrize(("name", "gone"), POINTS)
def test_the_points_of_nickel_and_dime_remove_what_they_say_of_paper256(name, gone):
    """Of the network with half the channels; how the published figures count is not known: 0.12 of a point apart."""
    plan, whole = recipes.read(name), parse_config({"family": "stylegan2", "size": 256, "multiplier": 1})
    small = whole.but(widths=tuple(width - int(width * plan.prune.ratio) for width in whole.widths))
    removed = 100 * (1 - small.cost(256, 256).true / whole.cost(256, 256).true)
    assert abs(removed - gone) < 0.13


@pytest.mark.parametrize("name", OF_GCC)
def test_rows_of_gcc_have_the_published_figures_and_constants(name):
    plan, (weight, score, original) = recipes.read(f"paper/{name}"), OF_GCC[name]
    key = "miou" if name.startswith("cityscapes") else "fid"
    assert (plan.paper[key], plan.paper[f"original_{key}"]) == (score, original)
    ending = name.rpartition("_")[2]
    assert plan.information.name == (ending if ending in ("vem", "vid", "crd") else "none")
    if weight is not None:
        assert (plan.information.weight, plan.information.channels, plan.information.step_size) == (weight, 32, 100)
    found, algorithm, train = paper.row(plan), plan.algorithm, plan.train
    unet = name.startswith("cityscapes")
    assert found["agrees"].pop("original_macs") != unet and all(found["agrees"].values())
    if name.startswith("celeba"):
        assert (found["size"], found["original"]["macs"]["paper"]) == (64, 23_449_600)
        sparse = recipes.of_stage(plan, plan.stages[0])
        assert (sparse.gan.lr, sparse.gan.lr_d, train.lr, train.batch, train.constant) == (1e-4, 4e-4, 1e-4, 64, 1)
        assert (sparse.gan.sparsity.weight, sparse.train.epochs, train.epochs) == (1e-2, 10, 100)
        assert (plan.prune.target_macs, plan.prune.count_as, plan.prune.keep_weights) == (15_450_000, "paper", False)
        assert sparse.teacher.network.widths == (384, 192, 96, 48)
    if name == "celeba_slimming":  # the student's own GAN is all it learns by
        last = recipes.of_stage(plan, plan.stages[-1])
        gan, own = last.gan, last.gan.discriminator
        assert (algorithm.name, algorithm.online, plan.stages[-1].adversary) == ("finetune", "never", None)
        assert (gan.mode, gan.lr_d, gan.betas, gan.sparsity, own.width) == ("hinge", 4e-4, (0, 0.9), None, 64)
    if algorithm.name == "gcc":
        weights = {"celeba": (1, 1), "cityscapes": (50, 1e4), "horse2zebra": (0.01, 10)}[name.partition("_")[0]]
        assert (algorithm.content, algorithm.gram, algorithm.image, algorithm.threshold) == (*weights, 0, 0.5)
    if name.startswith("horse2zebra"):
        assert round(found["macs"]["paper_norm"] / 1e9, 2) == 2.40
        assert round(algorithm.back.cost(256, 256).paper_norm / 1e9, 2) == 2.71


@pytest.mark.parametrize("name", OF_CO_EVOLUTION)
def test_rows_of_co_evolution_have_the_published_figures_and_settings(name):
    plan = recipes.read(f"paper/{name}")
    assert (plan.paper["macs"], plan.paper["fid"], plan.paper["original_fid"]) == OF_CO_EVOLUTION[name]
    found, search = paper.row(plan), plan.search
    assert all(found["agrees"].values()) and found["agrees"].keys() == {"original_params", "original_macs"}
    assert (search.population, search.generations, search.epochs, search.batch) == (32, 50, 10, 1)
    assert (search.resemblance, search.removed, search.cycle, search.target_macs) == (500, 1e-3, 10, None)
    last = recipes.of_stage(plan, plan.stages[-1]).train
    assert (last.epochs, last.batch, last.lr, round(last.constant * last.epochs)) == (201, 8, 2e-4, 100)
    assert (plan.algorithm.name, plan.algorithm.online, plan.information.name) == ("finetune", "never", "none")


def test_gccs_pruned_sagan_counts_as_the_table():
    """l1 and l2 hardly count, so that several widths have the printed 15.45 M; l3 = 94 of 96 and l4 = 48 do."""
    config = parse_config({"family": "sagan", "widths": [256, 111, 94, 48]})
    assert round(config.cost(64, 64).paper / 1e6, 2) == 15.45
    assert parse_config({"family": "sagan", "width": 48}).cost(64, 64).paper == 15_624_192


@pytest.mark.parametrize("name", PIPELINES)
def test_rows_of_pipelines_have_the_published_figures_and_weights(name):
    plan, (weight, fid) = recipes.read(f"paper/{name}"), PIPELINES[name]
    assert plan.paper["fid"] == fid and (plan.paper["original_fid"], plan.train.seed) == (61.53, 233)
    ending = name.rpartition("_")[2]
    assert plan.information.name == (ending if ending in ("vem", "vid", "crd") else "none")
    if weight is not None:
        information = plan.information
        assert (information.weight, information.steps, information.step_size) == (weight, 10, 100)
    found = paper.row(plan)
    last = recipes.of_stage(plan, plan.stages[-1])
    if "gan_compression" in name:
        assert round(found["macs"]["paper_norm"] / 1e9, 2) == plan.paper["macs"] == 2.55
        assert found["agrees"] == {"macs": True, "original_params": True, "original_macs": True}
        assert (last.search.target_macs, last.search.by, plan.prune.width) == (2_600_000_000, "fid", 32)
        assert (plan.algorithm.recon, plan.algorithm.distill, plan.train.batch) == (10, 0.01, 1)
        epochs = {stage.name: recipes.of_stage(plan, stage).train.epochs for stage in plan.stages}
        assert epochs["teacher"] == epochs["distill"] == 200 and epochs["supernet"] == 400
        space = recipes.of_stage(plan, plan.stages[3]).algorithm.space
        assert Space.of(parse_config({"family": "mobile_resnet", "width": 32}), space).size == 3**8
    else:
        assert "student" not in found.get("agrees", {}) and plan.paper["macs"] == 2.56
        assert (plan.prune.target_macs, plan.prune.method.least, plan.prune.keep_weights) == (2_600_000_000, 16, False)
        assert (plan.algorithm.recon, plan.algorithm.distill) == (5, 1)
        assert (last.train.batch, recipes.of_stage(plan, plan.stages[0]).train.batch) == (80, 32)


@pytest.mark.parametrize("name", LEARNING)
def test_every_recipe_whose_teachers_learn_builds(name):
    _, built, judges = networks(name)
    for network in built.values():
        assert count_parameters(network) == network.config.cost(256, 256).parameters
    for judge in judges:
        assert sum(p.numel() for p in judge.parameters()) == judge.config.cost(256, 256).parameters


@pytest.mark.parametrize("name", ROWS)
def test_student_and_original_count_as_printed(name):
    """Students' figures are rounded to two decimals. The originals' parameters are cut off after one (11.378: 11.30),
    and the 18.60 G of the original U-Net, which has 18.14 G, is the one figure that cannot be reproduced."""
    plan, built, _ = networks(name)
    found, printed = paper.row(plan), plan.paper
    assert found["parameters"] == count_parameters(built["student"])
    assert round(found["parameters"] / 1e6, 2) == printed["params"]
    assert round(found["macs"]["paper"] / 1e9, 2) == printed["macs"]
    assert found["original"]["parameters"] // 10**5 / 10 == printed["original_params"]
    unet = plan.student.family == "unet"
    assert round(found["original"]["macs"]["paper"] / 1e9, 2) == (18.14 if unet else printed["original_macs"])
    assert found["agrees"] == {"params": True, "macs": True, "original_params": True, "original_macs": not unet}
    assert ("cannot be reproduced" in printed.get("note", "")) == unet


def test_teachers_and_discriminators_have_their_published_size():
    _, built, judges = networks("paper/cityscapes_omgd_vem")
    assert [round(count_parameters(net) / 1e6, 2) for net in (built["teacher"], built["deep"], judges[0])] == [
        54.41,
        44.17,
        22.08,
    ]
    _, built, judges = networks("paper/horse2zebra_omgd_vem")
    assert round(count_parameters(built["teacher"]) / 1e6, 3) == 1.987
    assert [judge.config.width for judge in judges] == [64, 64]


@pytest.mark.parametrize("name", ROWS)
def test_hyper_parameters_are_the_published_ones(name):
    plan, data = recipes.read(name), name.removeprefix("paper/").partition("_")[0]
    train, algorithm, information = plan.train, plan.algorithm, plan.information
    every = algorithm.student_epochs if algorithm.online == "phases" else plan.gan.every
    constant = round(train.constant * train.epochs)
    batch, channel, n_dis, epochs, flat, channels, step_size = PUBLISHED[data]
    found = (train.batch, algorithm.channel, every, train.epochs, constant)
    assert found == (batch, channel, n_dis, epochs, flat)
    assert (train.lr, plan.gan.lr, train.seed, train.decay) == (2e-4, 2e-4, 233, "epoch")
    weights = algorithm.ssim, algorithm.style, algorithm.feature, algorithm.tv, algorithm.recon
    assert (weights, algorithm.features) == ((10, 1e4, 10, 1e-5, 0), "vgg16")
    weight, score = PRINTED[name.removeprefix("paper/")]
    assert plan.paper["miou" if data == "cityscapes" else "fid"] == score
    assert (train.best_by, train.best_on) == ("miou" if data == "cityscapes" else "fid", "test")
    if weight is not None:
        assert (information.weight, information.channels, information.step_size) == (weight, channels, step_size)
        assert (information.steps, information.noise, information.l2, information.lr) == (10, 0.005, 0.05, 1e-4)
    elif information.name == "none":
        assert plan.paper["method"] == "OMGD"


@pytest.mark.parametrize("name", ROWS)
def test_published_epochs_become_steps(name):
    plan, built, _ = networks(name)
    images, steps, phase = STEPS[name.removeprefix("paper/").partition("_")[0]]
    found = resolve(plan, built["teacher"], images)
    share = 1 if phase is None else 1 + plan.algorithm.student_epochs  # the student's phases come on top
    assert (found.train.steps, found.algorithm.phase_steps) == (steps * share, phase)
    assert found.student == plan.student
    assert found.algorithm.channel == plan.algorithm.channel


@pytest.mark.parametrize("name", [name for name in LEARNING if name not in ROWS])
def test_recipes_for_ones_own_data_resolve(name):
    plan, built, _ = networks(name)
    takes = built["teacher"].takes
    plan = plan if takes.kind == "image" else for_latents(plan, takes)
    if "student" in built:
        plan = resolve(plan, built["teacher"], 10_000)
        expected = 32 if "unet" in plan.student.family else 8
        assert plan.information.name == "none" or plan.information.channels == expected
    else:
        plan = resolve_teaching(plan, built["teacher"], 10_000)
    assert plan.train.steps >= 15_000
    assert plan.data.load_size in (286, takes.image if takes.kind == "latent" else plan.data.size)


def test_a_row_differs_from_its_base_in_the_add_on_alone():
    for name in ROWS:
        base = recipes.read(name.partition("_omgd")[0] + "_omgd")
        assert (
            recipes.read(name).model_copy(
                update={key: getattr(base, key) for key in ("name", "description", "information", "paper")}
            )
            == base
        )


def test_a_changed_student_no_longer_agrees_with_the_row():
    assert not paper.row(recipes.read("paper/cityscapes_omgd", ["student.width=8"]))["agrees"]["macs"]


def test_an_original_that_does_not_exist_is_refused():
    with pytest.raises(RecipeError, match="do not name a network"):
        paper.row(recipes.read("paper/cityscapes_omgd", ["paper.original=vae"]))


def test_show_prints_the_row_beside_ours_and_stays_toml(capsys):
    text = shown(capsys, "paper/cityscapes_omgd_vem")
    assert tomllib.loads(text)["paper"]["miou"] == 49.39
    comments = [line for line in text.splitlines() if line.startswith("#")]
    student = next(line for line in comments if line.startswith("# student")).split()
    assert {"3.40", "3.404", "1.22", "1.219", "0.406"} <= set(student)
    assert any("18.60 G *" in line for line in comments)
    assert any("mIoU 49.39" in line and "not measured here" in line for line in comments)
    values = json.loads(shown(capsys, "paper/cityscapes_omgd_vem", "--json"))
    assert values["paper"]["macs"] == 1.22
    assert (values["ours"]["parameters"], values["ours"]["agrees"]["original_macs"]) == (3404451, False)


def test_show_prints_the_papers_figures_of_widths_that_are_not_published(capsys):
    lines = shown(capsys, "paper/horse2zebra_dmad").splitlines()
    student = next(line for line in lines if line.startswith("# student"))
    assert " ".join(student.split()) == "# student not published 0.20 M - 2.41 G - -"
    original = next(line for line in shown(capsys, "paper/celeba_original").splitlines() if "# original" in line)
    assert " ".join(original.split()) == "# original sagan - 3.833 M 23.45 M 23.450 M 200.278 M"


def test_show_adds_nothing_to_a_recipe_without_a_row(capsys):
    text = shown(capsys, "omgd")
    assert "#" not in text
    assert "ours" not in json.loads(shown(capsys, "omgd", "--json"))
