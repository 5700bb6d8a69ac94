"""`prune`: criteria, the budget, and the command from end to end."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TOY, toy_images, toy_teacher, toy_teacher_file

import vemcompress
from vemcompress.errors import UsageError
from vemcompress.networks.base import use_image_statistics
from vemcompress.networks.groups import cut
from vemcompress.pruning import PRUNERS
from vemcompress.pruning.budget import choose, prune_network
from vemcompress.pruning.l1 import L1
from vemcompress.pruning.scale import Scale
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load


def macs(network, convention: str = "true") -> int:
    return network.config.cost(32, 32).macs()[convention]


@given(st.integers(0, 100), st.floats(0, 1), st.sampled_from(["threshold", "ratio"]), st.integers(1, 6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_budget_is_met_and_one_channel_more_would_exceed_it(seed, share, by, least, ties):
    network = toy_teacher(norm="batch")
    groups, costs, draw = network.groups(), network.costs(32, 32), torch.Generator().manual_seed(seed)
    scores = {g.name: torch.rand(g.size, generator=draw) for g in groups}
    if ties:
        scores = {name: (4 * score).round() for name, score in scores.items()}

    def count(widths):
        return costs(widths).true

    floors = {g.name: 1 if g.bypassed else min(least, g.size) for g in groups}
    whole = {g.name: g.size for g in groups}
    target = count(floors) + int(share * (count(whole) - 1 - count(floors)))
    kept = choose(groups, scores, count, target, by=by, least=least)
    widths = {name: len(channels) for name, channels in kept.items()}
    assert count(widths) <= target
    assert all(widths[name] >= floors[name] for name in widths)
    gone = [name for name in widths if widths[name] < whole[name]]
    assert any(count(widths | {name: widths[name] + 1}) > target for name in gone)
    again = choose(groups, scores, count, target, by=by, least=least)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


OF_LATENTS = ("content", "diversity", "l1_style")


@pytest.mark.parametrize("method", [name for name in PRUNERS if name not in OF_LATENTS])
def test_an_impossible_budget_is_refused_at_once(method):
    network, pruner = toy_teacher(norm="batch"), PRUNERS[method]()
    with pytest.raises(UsageError, match=r"0\.001 M MACs: this method needs at least"):
        prune_network(network, pruner, 1000, 32, 32)
    with pytest.raises(UsageError, match="meets it already"):
        prune_network(network, pruner, macs(network), 32, 32)


@pytest.mark.parametrize("convention", ["true", "paper", "paper_norm"])
def test_macs_are_counted_as_asked(convention):
    network = toy_teacher("mobile_resnet")
    target = macs(network, convention) // 2
    small, _ = prune_network(network, PRUNERS["l1"](), target, 32, 32, convention)
    assert 0.9 * target < macs(small, convention) <= target


def test_l1_keeps_the_channels_of_large_weights():
    network = toy_teacher()
    with torch.no_grad():
        network.stem.weight[1:3] *= 0.01
        network.up1.weight[:, 5] *= 0.01  # of a transposed convolution, the outputs are the second axis
    _, kept = prune_network(network, PRUNERS["l1"](), macs(network) * 3 // 4, 32, 32)
    assert not {1, 2} <= set(kept["stem"].tolist())
    assert 5 not in kept["up1"]


def test_scale_keeps_the_channels_of_large_scales_and_a_floor():
    network = toy_teacher("unet", norm="batch")
    with torch.no_grad():
        for norm in (*network.down_norms[1:-1], *network.up_norms[1:]):
            norm.weight.copy_(torch.linspace(1, 0.01, len(norm.weight)))
    pruner = PRUNERS["scale"](PRUNERS["scale"].Settings(least=2))
    _, kept = prune_network(network, pruner, macs(network) // 2, 32, 32)
    groups = {group.name: group for group in network.groups()}
    for name, channels in kept.items():
        assert channels.tolist() == list(range(len(channels)))
        assert len(channels) >= 2 if groups[name].scale else len(channels) == groups[name].size


def test_scale_refuses_a_network_without_scales():
    with pytest.raises(UsageError, match=r"the norms of this \w+ have no scales; use l1"):
        PRUNERS["scale"]().scores(toy_teacher(norm="instance"))


def test_random_is_drawn_by_its_seed():
    cls, network = PRUNERS["random"], toy_teacher()
    one, same, other = (cls(cls.Settings(seed=seed)).scores(network)["trunk"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_prune_inspect_generate_export_prune_again_and_distil(call, inputs, tmp_path):
    teacher, data = inputs
    small, twice = tmp_path / "small.safetensors", tmp_path / "twice.safetensors"
    target = macs(load(teacher).generator) // 2
    code, out, err = call("prune", teacher, "--target-macs", f"{target / 1e6}M", "-o", small, "--size", 32, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["after"]["macs"]["true"] <= target < result["before"]["macs"]["true"]
    assert result["widths"]["trunk"][0] < result["widths"]["trunk"][1] == 16

    seen = json.loads(call("inspect", small, "--size", 32, "--json")[1])
    assert (seen["macs"], seen["parameters"]) == (result["after"]["macs"], result["after"]["parameters"])
    told = load(small).metadata
    assert json.loads(told["teacher"])["sha256"] == load(teacher).sha256
    assert json.loads(told["pruned"])["method"] == "l1"

    code, out, _ = call("generate", small, "--input", data, "--out", tmp_path / "made", "--json")
    assert (code, len(json.loads(out)["written"])) == (0, 4)
    assert call("export", small, "--onnx", tmp_path / "s.onnx")[0] == 0
    code, out, _ = call("prune", small, "--target-macs", target // 2, "-o", twice, "--size", 32, "--method", "random")
    assert code == 0
    assert "trunk" in out
    settings = [f"--set={o}" for o in (*TOY, "train.steps=2")]
    code, _, err = call("distill", "--teacher", twice, "--data", data, "--out", tmp_path / "run", *settings)
    assert code == 0, err


def test_what_cannot_be_pruned_is_said_and_nothing_is_lost(call, inputs, tmp_path):
    teacher, before = inputs[0], inputs[0].read_bytes()
    old = tmp_path / "old.safetensors"
    old.write_bytes(b"mine")
    common = ["--size", 32, "-o", old]
    for code, said, *arguments in (
        (2, "no pruning method 'l2'; choose from l1, random, scale", teacher, "--target-macs", "1M", "--method", "l2"),
        (2, "write a number", teacher, "--target-macs", "much"),
        (2, "this method needs at least", teacher, "--target-macs", 100),
        (2, "meets it already", teacher, "--target-macs", "1G"),
        (2, "choose from true, paper", teacher, "--target-macs", "1M", "--count-as", "flops"),
        (2, "no scales", teacher, "--target-macs", "1M", "--method", "scale"),
        (2, "multiples of 4", teacher, "--target-macs", "1M", "--size", 33),
        (2, "is the model itself", teacher, "--target-macs", "1M", "-o", teacher),
        (2, "is a folder", teacher, "--target-macs", "1M", "-o", tmp_path),
        (9, "folder does not exist", teacher, "--target-macs", "1M", "-o", tmp_path / "no" / "x.safetensors"),
        (4, "no such file", tmp_path / "none.pth", "--target-macs", "1M"),
    ):
        found, out, err = call("prune", *common, *arguments)
        assert (found, out) == (code, ""), err
        assert said in err
        assert len(err.splitlines()) == 1
    assert old.read_bytes() == b"mine"
    assert teacher.read_bytes() == before


def test_images_own_statistics_outlive_pruning(tmp_path):
    network = toy_teacher(norm="batch")
    use_image_statistics(network)
    path, small = tmp_path / "t.safetensors", tmp_path / "s.safetensors"
    save_generator(path, network)
    vemcompress.prune(path, target_macs=macs(network) // 2, out=small, size=32)
    loaded = load(small)
    assert loaded.metadata["statistics"] == "image"
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(loaded.generator(torch.cat((x, 2 * x)))[:1], loaded.generator(x), atol=1e-5)


def test_a_transfer_takes_the_largest_norms_of_what_reads_taken_channels_largest_first():
    network = toy_teacher("mobile_resnet")
    widths = network.config.student(2).widths_by_group()
    taken = L1().selected(network, widths)
    assert {name: len(kept) for name, kept in taken.items()} == widths
    stem = network.stem.weight.abs().sum((1, 2, 3))
    assert taken["stem"].tolist() == stem.argsort(descending=True)[:2].tolist()
    down1 = network.down1.weight[:, taken["stem"]].abs().sum((1, 2, 3))
    assert taken["down1"].tolist() == down1.argsort(descending=True)[:4].tolist()
    inner = network.blocks[0].conv1.pointwise.weight[:, taken["trunk"]].abs().sum((1, 2, 3))
    assert taken["block1"].tolist() == inner.argsort(descending=True)[:8].tolist()
    up1 = network.up1.weight[taken["trunk"]].abs().sum((0, 2, 3))
    assert taken["up1"].tolist() == up1.argsort(descending=True)[:4].tolist()
    assert torch.equal(cut(network, taken).stem.weight, network.stem.weight[taken["stem"]])


def test_other_criteria_select_their_best_channels_at_given_widths():
    network = toy_teacher("resnet", norm="instance_affine")
    widths = network.config.of_width(2).widths_by_group()
    with torch.no_grad():
        network.stem_norm.weight.copy_(torch.tensor([0.1, -0.9, 0.5, 0.2]))
    assert Scale().selected(network, widths)["stem"].tolist() == [1, 2]


def test_a_config_of_another_width_keeps_the_number_of_its_blocks():
    config = toy_teacher("mobile_resnet", blocks=5, norm="batch").config.of_width(3)
    assert (config.widths, config.blocks, config.norm) == ((3, 6, 12, 6, 3), (12,) * 5, "batch")
    assert toy_teacher("unet", downs=5).config.of_width(2).down == (2, 4, 8, 16, 16)


def two_stages(folder: Path, settings: str) -> tuple[Path, list[str], Path]:
    """A recipe that prunes by these settings and then distils, the overrides of a small run of it, and its images."""
    plan = folder / "mine.toml"
    plan.write_text(f"""
[algorithm]
name = "kd"
[prune]
{settings}
[[stages]]
name = "prune"
do = "prune"
[[stages]]
name = "distill"
do = "distill"
student = "prune"
""")
    told = [option for option in TOY if not option.startswith(("algorithm", "student"))]
    return plan, told, toy_images(folder / "data")


def test_a_stage_that_prunes_to_a_width_gives_the_transferred_channels(tmp_path):
    teacher = toy_teacher_file(tmp_path / "t.safetensors", family="mobile_resnet")
    plan, told, data = two_stages(tmp_path, "width = 2")
    vemcompress.distill(teacher, data=data, out=tmp_path / "run", recipe=plan, overrides=told, until="prune")
    small, network = load(tmp_path / "run" / "1-prune").generator, load(teacher).generator
    kept = L1().selected(network, network.config.of_width(2).widths_by_group())
    assert small.config == network.config.of_width(2)
    assert torch.equal(small.stem.weight, network.stem.weight[kept["stem"]])


def test_weights_that_are_not_kept_are_the_published_initial_ones_but_for_the_scales_of_instance_norms(tmp_path):
    teacher = toy_teacher("inception_resnet", width=6, norm="instance_affine")
    with torch.no_grad():
        teacher.stem_norm.weight.uniform_(0.5, 2)
    save_generator(tmp_path / "t.safetensors", teacher)
    settings = 'share = 0.5\nkeep_weights = false\nmethod = {name = "scale", least = 2}'
    plan, told, data = two_stages(tmp_path, settings)
    runs = [tmp_path / name for name in ("a", "b")]
    for run in runs:
        vemcompress.distill(tmp_path / "t.safetensors", data=data, out=run, recipe=plan, overrides=told, until="prune")
    a, b = (load(run / "1-prune").generator for run in runs)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    kept = [i for i, w in enumerate(teacher.stem_norm.weight) if w in a.stem_norm.weight]
    assert len(kept) == len(a.stem_norm.weight) and not a.stem.bias.any()
    assert not torch.equal(a.stem.weight, teacher.stem.weight[kept]) and 0.01 < a.stem.weight.std() < 0.03


def test_branches_and_blocks_vanish_where_the_budget_is_tight():
    network = toy_teacher("inception_resnet", width=6, norm="instance_affine").eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("norm1.weight"):
                weight.fill_(0.01 if "blocks.1" in name else 1.0)
        network.blocks[0].branches["dw5"].norm1.weight.fill_(0.02)
    floor = network.config.cost(32, 32).true // 5
    small, kept = prune_network(network, Scale(Scale.Settings(least=2)), floor, 32, 32)
    assert small.config.blocks[1] == (0,) * 6 and small.config.blocks[0][5] == 0
    assert not len(kept["block1_dw5"]) and small.config.cost(32, 32).true <= floor
    assert small(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
