"""Layout of the CycleGAN / pix2pix ResNet generator and GAN-Compression's mobile form, as an indexed Sequential
`model`.

junyanz/pytorch-CycleGAN-and-pix2pix and mit-han-lab/gan-compression (whose layout OMGD and GCC use): stem 1,
downsampling 4 and 7, blocks from 10, then two transposed convolutions and the 7x7 at +0, +3 and +7; each is followed by
its norm. A block's second convolution is `conv_block.5`, or `.6` if there was a dropout layer. Any number of blocks;
widths are read layer by layer, so pruned sub-networks can be loaded. pix2pixHD's global generator downsamples more
often: blocks from 13 or 16.

OMGD's deep teacher `mobile_deepest_resnet` (bytedance/OMGD) is such a Sequential too, in which each down- or upsampling
takes seven places instead of three; its widening blocks are as in `unet`.
"""

import re
from collections.abc import Sequence

from vemcompress.networks.generators.deep import MIDDLE, DeepMobileResNetConfig
from vemcompress.networks.generators.resnet import MAX_DOWNS, MobileResNetConfig, ResNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, norm_of, renamed, shape
from vemcompress.weights.published.unet import widening_block

BLOCK = re.compile(r"model\.(\d{1,6})\.conv_block\.")
_FIRST = 4  # the first downsampling
_TRUNK = 18  # the deep form's first residual block


def is_resnet(tensors: Tensors) -> bool:
    return "model.1.weight" in tensors and any(BLOCK.match(name) for name in tensors)


def _is_mobile(tensors: Tensors) -> bool:
    return is_resnet(tensors) and any(".conv_block.1.conv." in name for name in tensors)


def _read(tensors: Tensors, config: type[ResNetConfig], out: str) -> Read:
    """`out` is the path, below a residual convolution's name, to the tensor that gives its output width."""
    names, blocks, after = sequential(tensors, "model", out)
    names["head"] = f"model.{after + 1}"
    return read_shapes(tensors, config, names, blocks)


def sequential(tensors: Tensors, model: str, out: str = "") -> tuple[dict[str, str], list[str], int]:
    """Names in a Sequential `model`: the published names of our modules up to the last upsampling, the names of the
    convolutions that give the blocks' widths, and the place after the last upsampling. The first block's place
    determines the number of downsamplings. Raises Mismatch.
    """
    found = (re.match(rf"{model}\.(\d{{1,6}})\.conv_block\.", name) for name in tensors)
    indices = sorted({int(match[1]) for match in found if match})
    downs, rest = divmod(indices[0] - _FIRST, 3) if indices else (0, 0)
    if rest or not 2 <= downs <= MAX_DOWNS or indices != list(range(indices[0], indices[0] + len(indices))):
        where = f"start at {model}.{indices[0]}" if indices else "are missing"
        raise Mismatch(f"its residual blocks are not the layers from {model}.10 on (or 13, 16, 19), but {where}")
    layers, after = {"stem": 1}, indices[-1] + 1
    layers |= {f"down{i + 1}": _FIRST + 3 * i for i in range(downs)}
    layers |= {f"up{i + 1}": after + 3 * i for i in range(downs)}
    names = {name: f"{model}.{index}" for name, index in layers.items()}
    names |= {f"{name}_norm": f"{model}.{index + 1}" for name, index in layers.items()}
    names |= block_names(tensors, "blocks", [f"{model}.{index}" for index in indices], out)
    return names, [f"{model}.{index}.conv_block.1{out}" for index in indices], after + 3 * downs


def block_names(tensors: Tensors, ours: str, theirs: Sequence[str], out: str = "") -> dict[str, str]:
    """The published names of the layers of residual blocks."""
    names = {}
    for i, block in enumerate(theirs):
        second = second_conv(tensors, f"{block}.conv_block", out)
        for layer, index in (("conv1", 1), ("norm1", 2), ("conv2", second), ("norm2", second + 1)):
            names[f"{ours}.{i}.{layer}"] = f"{block}.conv_block.{index}"
    return names


def without_biases(tensors: Tensors) -> Tensors:
    """Fold biases of convolutions before BatchNorm, which pix2pixHD stores, into the norms' running means."""
    found = dict(tensors)
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        before, _, index = module.rpartition(".")
        norm = f"{before}.{int(index) + 1}" if leaf == "bias" and index.isdigit() else ""
        mean = tensors.get(f"{norm}.running_mean")
        # Without a weight it is an old InstanceNorm, whose statistics are not used.
        if mean is not None and f"{norm}.weight" in tensors and mean.shape == tensors[name].shape:
            found[f"{norm}.running_mean"] = mean - found.pop(name)
    return found


def read_shapes(
    tensors: Tensors, config: type[ResNetConfig], names: dict[str, str], blocks: Sequence[str], step: str = "", **more
) -> Read:
    """The Config from the layers' shapes, with `more` fields. `blocks` are the published names of the convolutions
    that give the blocks' widths; `step` is the path, below our name of a down- or upsampling, to its convolution.
    """
    outputs = 1 if more.get("upsample", "transposed") == "transposed" else 0  # the output axis of an upsampling kernel
    steps = range(1, 1 + sum(re.fullmatch(rf"down\d{step}", name) is not None for name in names))
    down = [shape(tensors, f"{names[name]}.weight")[0] for name in ("stem", *(f"down{i}{step}" for i in steps))]
    up = [shape(tensors, f"{names[f'up{i}{step}']}.weight")[outputs] for i in steps]
    found = config(
        in_channels=shape(tensors, f"{names['stem']}.weight")[1],
        out_channels=shape(tensors, f"{names['head']}.weight")[0],
        norm=norm_of(tensors, names["stem_norm"]),
        widths=(*down, *up),
        blocks=tuple(shape(tensors, f"{name}.weight")[0] for name in blocks),
        **more,
    )
    return found, renamed(names)


def second_conv(tensors: Tensors, block: str, out: str) -> int:
    """The index of a block's second convolution; without dropout the norm's own weight may be at 6."""
    weight = tensors.get(f"{block}.6{out}.weight")
    return 6 if weight is not None and weight.dim() == 4 else 5


def _read_deep(tensors: Tensors) -> Read:
    # Besides those of the trunk, each of the four down- and upsamplings has one widening block, at its fourth place.
    indices = sorted({int(match[1]) for name in tensors if (match := BLOCK.match(name))})
    trunk = [index for index in indices if index >= _TRUNK][:-2]
    if len(trunk) <= MIDDLE or indices != [7, 14, *trunk, trunk[-1] + 4, trunk[-1] + 11]:
        raise Mismatch(f"its residual blocks are at {', '.join(map(str, indices))} of model")
    after = trunk[-1] + 1
    if trunk != list(range(_TRUNK, after)):
        raise Mismatch(f"the blocks in its middle are not the layers from model.{_TRUNK} to model.{after - 1}")
    names = {"stem": "model.1", "stem_norm": "model.2", "head": f"model.{after + 15}"}
    for name, first in (("down1", 4), ("down2", 11), ("up1", after), ("up2", after + 7)):
        names |= {f"{name}.0": f"model.{first}", f"{name}.1": f"model.{first + 1}"}
        names |= widening_block(f"{name}.3", f"model.{first + 3}")
        names |= {f"{name}.4": f"model.{first + 4}", f"{name}_norm": f"model.{first + 5}"}
    wide = (len(trunk) - MIDDLE) // 2
    mobile = []
    for i, index in enumerate(trunk):
        if wide <= i < wide + MIDDLE:
            names |= widening_block(f"blocks.{i}", f"model.{index}")
            continue
        mobile.append(f"model.{index}.conv_block.1.conv.2")
        places = (("conv1", 1), ("norm1", 2), ("conv2", 6), ("norm2", 7))
        names |= {f"blocks.{i}.{ours}": f"model.{index}.conv_block.{theirs}" for ours, theirs in places}
    return read_shapes(tensors, DeepMobileResNetConfig, names, mobile, step=".0")


def _read_resnet(tensors: Tensors) -> Read:
    return _read(tensors, ResNetConfig, "")


def _goes_further(tensors: Tensors) -> bool:
    return is_resnet(tensors) and not any(name.startswith("model.10.conv_block.") for name in tensors)


RESNET = Layout("resnet", is_resnet, _read_resnet, prepare=without_biases)
PIX2PIXHD = Layout("pix2pixHD (global)", _goes_further, _read_resnet, prepare=without_biases)
MOBILE_RESNET = Layout("mobile_resnet", _is_mobile, lambda tensors: _read(tensors, MobileResNetConfig, ".conv.2"))
DEEP_MOBILE_RESNET = Layout("deep_mobile_resnet", has("model.1.weight", "model.7.conv_block.12.weight"), _read_deep)
