"""Removing channels that training has set to zero, and the weights that produce each channel."""

import pytest
import torch
from torch import nn
from toys import toy_teacher, toy_teacher_file

from vemcompress import recipe as recipes
from vemcompress.commands.prune import prune, prune_run
from vemcompress.errors import UsageError
from vemcompress.networks.generators.resnet import ResNetConfig
from vemcompress.networks.groups import cut, makers
from vemcompress.pruning.zeros import Zeros
from vemcompress.runs.folder import RunFolder


def resnet(norm: str = "instance"):
    torch.manual_seed(0)
    return toy_teacher("resnet", norm=norm).eval()


@pytest.mark.parametrize("family", ["resnet", "mobile_resnet", "unet", "deep_unet", "inception_resnet"])
def test_every_maker_is_a_convolution_with_the_norm_behind_it(family):
    network = toy_teacher(family)
    for group in network.groups():
        for layer, norm in makers(network, group):
            assert isinstance(network.get_submodule(layer.module), nn.Conv2d | nn.ConvTranspose2d)
            assert norm is None or network.get_submodule(norm.module).num_features >= group.size


def test_a_resnets_trunk_has_one_maker_more_than_blocks():
    network = resnet()
    trunk = next(group for group in network.groups() if group.name == "trunk")
    found = [(layer.module, norm.module) for layer, norm in makers(network, trunk)]
    blocks = [(f"blocks.{i}.conv2", f"blocks.{i}.norm2") for i in range(len(network.blocks))]
    assert found == [("down2", "down2_norm"), *blocks]


def test_a_channel_that_any_block_writes_stays_on_the_trunk():
    network = resnet()
    with torch.no_grad():
        for name in ("down2", *(f"blocks.{i}.conv2" for i in range(len(network.blocks)))):
            for channel in (1, 2):
                layer = network.get_submodule(name)
                layer.weight[channel], layer.bias[channel] = 0, 0
        network.blocks[0].conv2.weight[2] = 1
    kept = Zeros().kept(network)
    assert 1 not in kept["trunk"] and 2 in kept["trunk"]
    assert len(kept["stem"]) == network.config.widths[0]


def test_a_zero_scale_goes_whatever_the_convolution_is_and_the_image_stays():
    network = resnet("instance_affine")
    with torch.no_grad():
        network.up1_norm.weight[3] = 0
        network.blocks[0].norm1.weight[:] = 0
    kept = Zeros().kept(network)
    assert 3 not in kept["up1"]
    assert kept["block1"].tolist() == [0]  # at least one
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(cut(network, kept)(x), network(x), atol=1e-5)


def test_a_method_that_decides_itself_takes_no_budget(tmp_path):
    with pytest.raises(UsageError, match="omit --target-macs"):
        prune(resnet(), out=tmp_path / "a.safetensors", target_macs=10**6, method="zeros")


def test_prune_writes_what_is_left(tmp_path):
    network = resnet()
    with torch.no_grad():
        network.up2.weight[:, 0], network.up2.bias[0] = 0, 0
    result = prune(network, out=tmp_path / "a.safetensors", method="zeros", size=32)
    kept, size = result.widths["up2"]
    assert kept == size - 1 and isinstance(network.config, ResNetConfig)
    assert result.target == result.after["macs"]["true"]


def test_a_stage_that_removes_nothing_says_so(tmp_path):
    plan, told = recipes.read("gan_slimming"), []
    teacher = toy_teacher_file(tmp_path / "teacher.safetensors")
    plan = recipes.of_stage(plan, plan.stages[1])
    plan = plan.but(student=recipes.AutoStudent(source=str(teacher)), data=plan.data.but(size=32))
    prune_run(plan, RunFolder(tmp_path / "run"), on_event=told.append)
    assert [event["message"] for event in told] == [
        f"no channel of {teacher} is zero, so none was removed; train it longer, or make it sparser."
    ]
